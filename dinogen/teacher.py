"""The frozen DINOv2 that looks at images and says what it sees, as a pyramid."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import scipy.fft
import torch
import torch.nn.functional as F
from huggingface_hub.utils import logging as hub_logging
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from transformers import AutoConfig, AutoModel, Dinov2Config, Dinov2Model, PreTrainedModel

from dinogen.errors import DinogenError, UsageError
from dinogen.pyramid import COARSE_LIMIT, Pyramid, PyramidSpec, colour_name, colour_statistics, level_name, pool, resize

TINY = "tiny"
TINY_INPUT_SIZES = (32, 64)
TINY_SEED = 0
PRETRAINED_INPUT_SIZE = 224  # a 16×16 grid of 14-pixel patches
TAPPED_LAYERS = 4  # of a pretrained teacher: evenly spaced, the last included
SHARD_FROM_WIDTH = 1024  # `auto` shards from ViT-L up: below it, gathering costs more than it saves

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Teacher(nn.Module):
    """A frozen Dinov2Model. Gradients flow through it to the images, never into it; it cannot leave eval mode.

    Args:
        model: a `Dinov2Model` or `Dinov2WithRegistersModel`.
        spec: which layers and levels to hand out.
    """

    def __init__(self, model: PreTrainedModel, spec: PyramidSpec):
        super().__init__()
        self.model = model.requires_grad_(False).eval()
        self.spec = spec
        self.prefix_tokens = 1 + getattr(model.config, "num_register_tokens", 0)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> "Teacher":
        """Stay in eval mode whatever is asked."""
        return super().train(False)

    def forward(self, images: Tensor) -> Pyramid:
        """Look at images.

        Args:
            images: `[N, 3, R, R]` in [-1, 1], any R.

        Returns:
            The whole pyramid in float32, differentiable with respect to `images`. The last layer's tokens
            have passed the model's own final norm; those of earlier layers are normalised without weights.
        """
        images = resize(images.float(), self.spec.input_size)
        pixels = ((images + 1) / 2 - self.mean) / self.std
        output = self.model(pixel_values=pixels, output_hidden_states=True)
        pyramid: Pyramid = {"cls": output.last_hidden_state[:, 0].float()}
        for layer in self.spec.layers:
            if layer == self.model.config.num_hidden_layers:
                tokens = output.last_hidden_state.float()
            else:
                tokens = F.layer_norm(output.hidden_states[layer].float(), (self.spec.width,))
            levels = self.spec.levels_of(layer)
            finest = pool(self._to_map(tokens), levels[-1])
            pyramid |= {level_name(layer, g): pool(finest, g) for g in levels}
        return pyramid | {colour_name(g): colour_statistics(images, g) for g in self.spec.colour_levels}

    def _to_map(self, tokens: Tensor) -> Tensor:
        patches = tokens[:, self.prefix_tokens :]
        return patches.transpose(1, 2).unflatten(2, (self.spec.grid, self.spec.grid))


def make_teacher(
    name: str,
    input_size: int | None = None,
    layers: list[int] | None = None,
    levels: list[int] | None = None,
    fine_layers: list[int] | None = None,
) -> Teacher:
    """Load a teacher, or make the embedded one.

    Args:
        name: `tiny`, a hub id such as `facebook/dinov2-base`, or a folder with `config.json` and safetensors.
        input_size: side of its input in pixels; None takes 32 for `tiny` and 224 for others.
        layers: layers to tap, counted from 1; None takes all of `tiny` and four evenly spaced ones of others.
        levels: sides of the maps, coarse to fine; None takes 1, 2, 4 … up to the grid or 16.
        fine_layers: layers with levels above 8×8; None takes the last one.

    Raises:
        DinogenError: the hub or the folder does not give a DINOv2.
        UsageError: sizes, layers or levels that do not fit together.
    """
    model = make_tiny_model(input_size or TINY_INPUT_SIZES[0]) if name == TINY else load_model(name)
    depth = model.config.num_hidden_layers
    if layers is None:
        taps = min(TAPPED_LAYERS, depth)
        layers = [round(depth * (k + 1) / taps) for k in range(taps)]
    if any(not 1 <= layer <= depth for layer in layers):
        raise UsageError(f"teacher.layers {list(layers)}: '{name}' has layers 1 to {depth}")
    input_size = input_size or (TINY_INPUT_SIZES[0] if name == TINY else PRETRAINED_INPUT_SIZE)
    if levels is None:
        grid = input_size // model.config.patch_size
        levels = [g for g in (1, 2, 4, 8, 16) if grid % g == 0]
    if fine_layers is None:
        fine_layers = layers[-1:] if levels[-1:] > [COARSE_LIMIT] else []
    spec = PyramidSpec(
        teacher=name,
        teacher_sha256=hash_weights(model),
        input_size=input_size,
        patch_size=model.config.patch_size,
        width=model.config.hidden_size,
        layers=tuple(layers),
        levels=tuple(levels),
        fine_layers=tuple(fine_layers),
    )
    return Teacher(model, spec)


def make_tiny_model(input_size: int) -> Dinov2Model:
    """A three-layer DINOv2 with seeded random weights, the same on every machine."""
    if input_size not in TINY_INPUT_SIZES:
        sizes = " or ".join(map(str, TINY_INPUT_SIZES))
        raise UsageError(f"teacher.input_size {input_size}: the tiny teacher takes {sizes}")
    print("Teacher 'tiny': random weights, it knows nothing about faces; for demos and tests.", file=sys.stderr)
    config = Dinov2Config(
        hidden_size=128, num_hidden_layers=3, num_attention_heads=4, mlp_ratio=4, patch_size=4, image_size=input_size
    )
    model = Dinov2Model(config)
    # RandomState's stream is frozen for good, and coarse rounding hides the last bits in which two machines' libraries
    # differ: other weights would silently orphan everybody's shards.
    rng = np.random.RandomState(TINY_SEED)
    for name, parameter in sorted(model.named_parameters()):
        values = tiny_weights(name, tuple(parameter.shape), rng)
        parameter.data.copy_(torch.from_numpy(np.round(values * 2**16) / 2**16))
    return model


def tiny_weights(name: str, shape: tuple[int, ...], rng: np.random.RandomState) -> np.ndarray:
    """Random weights for one parameter: activations keep their scale from layer to layer (LeCun's initialisation).

    The patch filters are random mixtures of cosines, the finer ones louder. In natural images amplitude falls as one
    over frequency (Field 1987), so plainly random filters see hardly more than each patch's mean colour.
    """
    if "norm" in name or "lambda" in name:
        return np.full(shape, 0.0 if name.endswith("bias") else 1.0)
    if name.endswith("bias"):
        return np.zeros(shape)
    if len(shape) == 3:  # class token, position embeddings
        return rng.standard_normal(shape) * (0.3 if "position" in name else 0.5)
    values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    if len(shape) == 4:
        cycles = np.arange(shape[-1])
        loudness = 1 + 2 * np.hypot(cycles[:, None], cycles)
        values = scipy.fft.idctn(values * loudness, axes=(2, 3), norm="ortho")
    return values


def load_model(name: str) -> PreTrainedModel:
    """A pretrained DINOv2 from the hub or a folder, in float32. Only safetensors are read, never a pickle."""
    folder = Path(name)
    if name.startswith((".", "/", "~")) or folder.is_dir():
        if not (folder / "config.json").is_file():
            raise DinogenError(
                f"{name}: no config.json here; --teacher takes '{TINY}', a hub id or a saved DINOv2's folder"
            )
    hub_logging.set_verbosity_error()  # its retries would bury our one line
    try:
        config = AutoConfig.from_pretrained(name)
        if config.model_type not in ("dinov2", "dinov2_with_registers"):
            raise DinogenError(
                f"teacher '{name}' is a {config.model_type}; take a DINOv2, such as facebook/dinov2-base"
            )
        return AutoModel.from_pretrained(name, config=config, use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DinogenError(
            f"teacher '{name}' could not be loaded ({reason}). Without a network: run "
            f"`hf download {name} --local-dir DIR` where there is one, copy DIR here and pass --teacher DIR; or take "
            f"'{TINY}' to try things out"
        ) from error


def hash_weights(model: nn.Module) -> str:
    """First 16 hex digits of a hash of all weights that does not depend on how they are named."""
    digests = sorted(
        hashlib.sha256(tensor.detach().cpu().contiguous().view(torch.uint8).numpy()).digest()
        for tensor in model.state_dict().values()
        if tensor.ndim
    )
    return hashlib.sha256(b"".join(digests)).hexdigest()[:16]


def wants_sharding(teacher: Teacher, mode: str, world_size: int) -> bool:
    """Whether `teacher.shard` (`none`, `fsdp` or `auto`) means sharding for this teacher and number of ranks."""
    if mode == "auto":
        return world_size > 1 and teacher.spec.width >= SHARD_FROM_WIDTH
    return mode == "fsdp"


def shard_teacher(teacher: Teacher, mesh: DeviceMesh) -> Teacher:
    """Split a teacher's parameters over the ranks of `mesh`, encoder layer by encoder layer, in place.

    From then on every forward is a collective: all ranks must make the same calls. The generator must not
    contain the teacher, and `accelerator.prepare` must not see it.
    """
    for layer in teacher.model.encoder.layer:
        fully_shard(layer, mesh=mesh)
    fully_shard(teacher.model, mesh=mesh)
    return teacher
