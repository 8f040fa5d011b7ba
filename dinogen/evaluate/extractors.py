"""Networks that training never saw, lent for their features: Inception and CLIP, where their weights are at hand."""

import io
import pickle
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dinogen.clip import open_clip_images
from dinogen.errors import DinogenError, UsageError, first_line

BATCH_SIZE = 50
INCEPTION_FEATURES = "2048"


class Extractor(Protocol):
    """What figures in another network's features need.

    Attributes:
        name: one word; ends the figures' names.
        method: what the network is, where the features are taken, how images are resized.
    """

    name: str
    method: str

    def features(self, images: Tensor) -> Tensor:
        """uint8 `[n, 3, R, R]` to float64 `[n, d]` on the CPU."""
        ...


class InceptionFeatures:
    """The network of the published Fréchet distances (FID), by torch-fidelity, which ports TensorFlow's weights.

    Args:
        weights: torch-fidelity's weights, `.pth` or `.safetensors`; `auto` takes torch's cached ones or downloads.
        device: where it computes.

    Raises:
        UsageError: torch-fidelity is not installed, or no such file.
        DinogenError: the weights are not available, or are not these.
    """

    name = "inception"

    def __init__(self, weights: str, device: torch.device | str = "cpu"):
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import (  # pyright: ignore[reportMissingImports]
                URL_INCEPTION_V3,
                FeatureExtractorInceptionV3,
            )
        except ImportError as error:
            raise UsageError("--inception needs torch-fidelity: pip install torch-fidelity") from error
        self.device = torch.device(device)
        self.method = (
            f"Inception v3 by torch-fidelity, last pooling ({INCEPTION_FEATURES} values), images resized to 299×299 "
            f"as TensorFlow 1 does it, bilinear, not antialiased; weights: {weights}"
        )
        # torch-fidelity would unpickle a file without a second look: it is given bytes that were read with care.
        checked = io.BytesIO()
        torch.save(read_inception_weights(weights, URL_INCEPTION_V3), checked)
        checked.seek(0)
        try:
            self.network = FeatureExtractorInceptionV3("inception", [INCEPTION_FEATURES], checked).to(self.device)
        except RuntimeError as error:
            reason = first_line(error)
            raise DinogenError(f"--inception {weights}: not torch-fidelity's Inception ({reason})") from error

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """uint8 `[n, 3, R, R]` to float64 `[n, 2048]` on the CPU."""
        return torch.cat([self.network(some.to(self.device))[0].cpu() for some in images.split(BATCH_SIZE)]).double()


def read_inception_weights(weights: str, url: str) -> dict[str, Tensor]:
    """A state dict, from a file or, for `auto`, from `url` or torch's cache; never from a pickle that could run."""
    advice = "get it again"
    try:
        if weights == "auto":
            advice = f"download {url} where there is a network and pass the file"
            return torch.hub.load_state_dict_from_url(
                url, map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
        path = Path(weights)
        if not path.is_file():
            raise UsageError(f"--inception {weights}: no such file; give torch-fidelity's weights, or auto")
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DinogenError(f"--inception {weights}: holds something other than weights; {advice}") from error
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise DinogenError(f"--inception {weights}: cannot be read ({first_line(error)}); {advice}") from error


class ClipFeatures:
    """CLIP's image embeddings (arXiv 2103.00020), which Fréchet distances can be taken in too (arXiv 2203.06026).

    Args:
        model: a hub id such as openai/clip-vit-base-patch32, or a folder with a CLIP or its vision half.
        device: where it computes.

    Raises:
        DinogenError: neither the folder nor the hub gives a CLIP.
    """

    name = "clip"

    def __init__(self, model: str, device: torch.device | str = "cpu"):
        self.device = torch.device(device)
        self.tower = open_clip_images(model).to(self.device)
        self.projected = self.tower.projected
        taken = "image embedding" if self.projected else "pooled output, because this model has no projection"
        size = self.tower.size
        self.method = f"CLIP {model}, {taken}, images resized to {size}×{size}, bicubic, antialiased"

    def features(self, images: Tensor) -> Tensor:
        """uint8 `[n, 3, R, R]` to float64 `[n, d]` on the CPU."""
        return torch.cat([self.tower(some.to(self.device)).cpu() for some in images.split(BATCH_SIZE)]).double()
