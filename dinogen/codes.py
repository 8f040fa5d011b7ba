"""Codes: latents made of real images' pyramids, so that each image has its own, as different as it is itself.

A code tells what the teacher saw: the principal components of all maps together, each spread like a normal variable.
In the warm-up the generator learns to draw a real image from its code. With words, a code tells only what no caption of
the image does: latents and captions are drawn independently later on. Tensors only.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from dinogen.kept import Kept
from dinogen.pyramid import COARSE_LIMIT, PyramidSpec, pool
from dinogen.tensor_files import Shapes

AXES = 32  # principal axes of one map at one location
SAMPLES_A_COMPONENT = 8  # fewer real images would be told by heart
ROWS, COLUMNS = (3 / 8, 6 / 8), (2 / 8, 6 / 8)  # eyes, nose and mouth in an aligned crop
FACE_WEIGHT = 1.5  # of locations there
RIDGE = 1e-3  # of a regression on captions of length one, for each image


class Coder(Kept):
    """Turns stored pyramids into codes. It is empty until `fit` or `restore`.

    Args:
        spec: of the pyramids.
        z_dim: length of a latent.
        text_dim: length of a caption's vector; 0 without words.
    """

    file = "codes"
    joins_late = True

    def __init__(self, spec: PyramidSpec, z_dim: int, text_dim: int = 0):
        self.spec, self.z_dim, self.text_dim = spec, z_dim, text_dim
        self.names = [name for name in spec.stored_shapes() if name != "cls"]
        self.parts: dict[str, Tensor] = {}

    def fit(self, stored: Mapping[str, Tensor], captions: Tensor | None = None) -> None:
        """Find the axes on some real images.

        Args:
            stored: their tensors as in `PyramidSpec.stored_shapes`, `[n, …]`.
            captions: `[n, text_dim]`, the mean vectors of their captions, zeros for none.
        """
        self.parts, weighted = {}, []
        for name, features, weight in self.maps(stored):
            mean = features.mean(dim=1, keepdim=True)
            centred = features - mean
            axes = torch.linalg.eigh(centred.mT @ centred).eigenvectors.flip(2)[:, :, :AXES]
            size = centred.square().sum(dim=2).mean().sqrt().clamp(min=1e-8)
            axes = axes * (weight / size)[:, None, None]
            self.parts |= {f"mean/{name}": mean, f"axes/{name}": axes}
            weighted.append((centred @ axes).transpose(0, 1).flatten(1))
        features = torch.cat(weighted, dim=1)
        told = None
        if captions is not None:
            told = ridge(captions, features)
            features = features - captions @ told
        # Through the products of the images with each other: there are fewer images than features.
        values, vectors = torch.linalg.eigh((features @ features.T).double())
        count = min(self.z_dim, max(1, len(features) // SAMPLES_A_COMPONENT), features.shape[1])
        scale = values[-count:].clamp(min=values[-1] * 1e-9).sqrt()
        components = (features.T.double() @ (vectors[:, -count:] / scale)).float().flip(1)
        self.parts |= {"components": components, "sorted": (features @ components).T.contiguous().sort(dim=1).values}
        if told is not None:
            self.parts["told"] = told @ components

    def __call__(self, stored: Mapping[str, Tensor], captions: Tensor | None = None) -> Tensor:
        """Codes `[N, k]`, each number spread like a standard normal variable; k is at most `z_dim`.

        Args:
            stored: as for `fit`.
            captions: `[N, text_dim]`, of a coder that was fitted with some. The code of an image without one tells all.
        """
        weighted = [
            ((features - self.parts[f"mean/{name}"]) @ self.parts[f"axes/{name}"]).transpose(0, 1).flatten(1)
            for name, features, _ in self.maps(stored)
        ]
        scores = torch.cat(weighted, dim=1) @ self.parts["components"]
        if captions is not None:
            scores = scores - captions @ self.parts["told"]
        return torch.special.ndtri(quantiles(scores.T.contiguous(), self.parts["sorted"])).T

    def maps(self, stored: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Each finest map, at most 8×8: its name, its features `[L, n, C]` and the weights of its locations `[L]`."""
        # The last layers tell less of how a face looks. Colours come after them.
        weights = [min(1.0, 1.5 - layer / self.spec.layers[-1]) for layer in self.spec.layers] + [1.0]
        for name, weight in zip(self.names, weights, strict=True):
            level = stored[name].float()
            level = pool(level, min(level.shape[-1], COARSE_LIMIT))
            yield name, level.flatten(2).permute(2, 0, 1), weight * face_weights(level.shape[-1]).to(level.device)

    def clear(self) -> None:
        """Forget everything: nobody needs codes after the warm-up."""
        self.parts = {}

    def to(self, device: torch.device) -> None:
        """Compute there from now on."""
        self.parts = {name: part.to(device) for name, part in self.parts.items()}

    def tensors(self) -> dict[str, Tensor]:
        return self.parts

    def expected(self) -> Shapes:
        names = [f"{part}/{name}" for name in self.names for part in ("mean", "axes")]
        of_maps = dict.fromkeys(names, ((None, None, None), torch.float32))
        parts = ["components", "sorted", *(["told"] if self.text_dim else [])]
        return of_maps | {part: ((None, None), torch.float32) for part in parts}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.parts = dict(tensors)


def ridge(captions: Tensor, features: Tensor) -> Tensor:
    """What captions `[n, t]` tell of features `[n, D]`, linearly: `[t, D]`."""
    products = (captions.T @ captions).double()
    products += RIDGE * len(captions) * torch.eye(len(products), dtype=products.dtype, device=products.device)
    return torch.linalg.solve(products, (captions.T @ features).double()).float()


def quantiles(values: Tensor, known: Tensor) -> Tensor:
    """Where values `[k, N]` lie among sorted ones `[k, n]`, in (0, 1); between two of them in proportion."""
    above = torch.searchsorted(known, values).clamp(1, known.shape[1] - 1)
    low, high = known.gather(1, above - 1), known.gather(1, above)
    share = ((values - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    return (above - 0.5 + share) / known.shape[1]


def face_weights(g: int) -> Tensor:
    """How much each location of a g×g map counts, `[g · g]`."""
    at = (torch.arange(g) + 0.5) / g
    rows, columns = ((low < at) & (at < high) for low, high in (ROWS, COLUMNS))
    return torch.where(rows[:, None] & columns, FACE_WEIGHT, 1.0).flatten()
