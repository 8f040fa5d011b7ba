"""What of an image the generator has to match: maps of patch embeddings, from coarse to fine. Tensors only.

In each stage of training the teacher looks at images of that stage's resolution, enlarged or reduced to the stage's
view. A pyramid is a dict of tensors for a batch of N images:

    cls            [N, C]         the class token after the last layer
    l{k}_{g}x{g}   [N, C, g, g]   patch embeddings after layer k (counted from 1), averaged down to g×g
    rgb_{g}x{g}    [N, 6, g, g]   mean and standard deviation of red, green, blue in each cell, for values in [-1, 1]

The colour maps are there because a DINO's last layers hardly see colour.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dinogen.errors import UsageError, first_line
from dinogen.tensor_files import DamagedFile, read_json

Pyramid = dict[str, Tensor]

COARSE_LIMIT = 8  # levels finer than this are big on disk: only the `fine_layers` have them
REDUCTION = "box"  # the filter by which crops are reduced to a stage's resolution
RGB_FLOOR = 1e-4  # variance below which a cell counts as flat: keeps the square root's gradient finite


@dataclass(frozen=True)
class PyramidSpec:
    """Everything that decides the numbers in a pyramid of one stage, but for the images' resolution.

    Args:
        teacher: name of the teacher: `tiny`, a hub id or a folder's name.
        teacher_sha256: first 16 hex digits of the hash of its weights.
        input_size: side of the square image that the teacher is shown, in pixels.
        patch_size: side of one patch, in pixels; divides `input_size`.
        width: C, the length of an embedding.
        layers: tapped layers, counted from 1; the last one carries the class token.
        levels: sides g of the maps, from coarse to fine; each divides the next finer stored one.
        fine_layers: the layers that have levels above 8×8 too.

    Raises:
        UsageError: a level does not divide the grid, or another impossible combination.
    """

    teacher: str
    teacher_sha256: str
    input_size: int
    patch_size: int
    width: int
    layers: tuple[int, ...]
    levels: tuple[int, ...]
    fine_layers: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.input_size % self.patch_size:
            raise UsageError(
                f"--input-size {self.input_size} must be a multiple of the teacher's patch size {self.patch_size}; "
                f"take {max(1, round(self.input_size / self.patch_size)) * self.patch_size}"
            )
        if not self.levels or list(self.levels) != sorted(set(self.levels)) or not 1 <= self.levels[0] <= COARSE_LIMIT:
            raise UsageError(
                f"--levels {spaced(self.levels)} must be distinct, go from coarse to fine and begin at or below "
                f"{COARSE_LIMIT}"
            )
        for level in self.levels:
            if self.grid % level or self.levels[-1] % level:
                possible = [g for g in range(1, self.grid + 1) if self.grid % g == 0]
                raise UsageError(
                    f"--levels: {level} does not divide the teacher's {self.grid}×{self.grid} grid and the "
                    f"finest level {self.levels[-1]}; take from {possible}"
                )
        if not self.layers or list(self.layers) != sorted(set(self.layers)):
            raise UsageError(f"--layers {spaced(self.layers)} must be distinct and ascending")
        if not set(self.fine_layers) <= set(self.layers):
            raise UsageError(f"--fine-layers {spaced(self.fine_layers)} must be among --layers {spaced(self.layers)}")

    @property
    def grid(self) -> int:
        """Patches along one side of the teacher's input."""
        return self.input_size // self.patch_size

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change whenever any number in a pyramid could, and not with the teacher's name."""
        canonical = json.dumps(asdict(self) | {"teacher": None}, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def describe_teacher(self) -> str:
        """For messages: 'tiny (1a2b…), layers 1 2 3'."""
        return f"{self.teacher} ({self.teacher_sha256}), layers {spaced(self.layers)}"

    def describe_view(self) -> str:
        """For messages: 'at 32 px, levels 1 2 4 8'."""
        fine = f", above {COARSE_LIMIT} layers {spaced(self.fine_layers)}" if self.levels[-1] > COARSE_LIMIT else ""
        return f"at {self.input_size} px, levels {spaced(self.levels)}{fine}"

    def levels_of(self, layer: int) -> tuple[int, ...]:
        """The levels that a layer's maps come in, from coarse to fine."""
        return tuple(g for g in self.levels if g <= COARSE_LIMIT or layer in self.fine_layers)

    @property
    def colour_levels(self) -> tuple[int, ...]:
        """The levels of the colour maps."""
        return tuple(g for g in self.levels if g <= COARSE_LIMIT)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape (without N) of every tensor of a whole pyramid."""
        shapes: dict[str, tuple[int, ...]] = {"cls": (self.width,)}
        for layer in self.layers:
            shapes |= {level_name(layer, g): (self.width, g, g) for g in self.levels_of(layer)}
        return shapes | {colour_name(g): (6, g, g) for g in self.colour_levels}

    def stored_shapes(self) -> dict[str, tuple[int, ...]]:
        """The part of `shapes` from which `complete` makes the rest: the finest level of everything."""
        names = ["cls", *(level_name(layer, self.levels_of(layer)[-1]) for layer in self.layers)]
        names.append(colour_name(self.colour_levels[-1]))
        shapes = self.shapes()
        return {name: shapes[name] for name in names}

    def to_dict(self) -> dict:
        """JSON-ready form, the inverse of `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping) -> "PyramidSpec":
        """Rebuild a spec from `to_dict`'s result, as found in a manifest."""
        fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        return cls(**fields)


def spaced(numbers: Iterable[int]) -> str:
    """Numbers as a flag takes them."""
    return " ".join(map(str, numbers))


@dataclass(frozen=True)
class StagedSpec:
    """What the teacher sees in every stage that the shards hold.

    Args:
        stages: the spec of each stage by its resolution R in pixels, from coarse to fine. All are of one teacher.

    Raises:
        UsageError: no stage at all.
    """

    stages: Mapping[int, PyramidSpec]

    def __post_init__(self) -> None:
        if not self.stages:
            raise UsageError("--stages: give at least one resolution, such as 32")

    def __iter__(self) -> Iterator[int]:
        """The stages' resolutions, from coarse to fine."""
        return iter(self.stages)

    def __getitem__(self, resolution: int) -> PyramidSpec:
        return self.stages[resolution]

    def nearest(self, resolution: int) -> PyramidSpec:
        """The spec of a stage; where there is none, of the next finer one, or of the finest."""
        return self.stages[self.nearest_resolution(resolution)]

    def nearest_resolution(self, resolution: int) -> int:
        """The stage whose spec is `nearest`."""
        return min((own for own in self.stages if own >= resolution), default=max(self.stages))

    @property
    def finest(self) -> PyramidSpec:
        """The spec of the stage with the highest resolution."""
        return self.stages[max(self.stages)]

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change whenever any number in a pyramid could, and not with the teacher's name."""
        canonical = json.dumps({resolution: spec.fingerprint for resolution, spec in self.stages.items()})
        return hashlib.sha256(f"{canonical} {REDUCTION}".encode()).hexdigest()[:16]

    def describe(self) -> str:
        """One line for messages: 'tiny (1a2b…), layers 1 2 3, stages 16 32 (at 32 px, levels 1 2 4 8), 64 (…)'."""
        return f"{self.finest.describe_teacher()}, stages {self.describe_views()}"

    def describe_views(self) -> str:
        """For messages: '16 32 (at 32 px, levels 1 2 4 8), 64 (at 64 px, …)'."""
        views = groupby(self.stages, lambda resolution: self.stages[resolution].describe_view())
        return ", ".join(f"{spaced(alike)} ({view})" for view, alike in views)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape (without N) of every tensor of all stages' pyramids; one name has one shape in all."""
        return {name: shape for spec in self.stages.values() for name, shape in spec.shapes().items()}

    def stored_shapes(self) -> dict[str, tuple[int, ...]]:
        """The stored tensors of all stages as `R/NAME`."""
        return {
            f"{resolution}/{name}": shape
            for resolution, spec in self.stages.items()
            for name, shape in spec.stored_shapes().items()
        }

    def to_dict(self) -> dict:
        """JSON-ready form, the inverse of `from_dict`."""
        return {str(resolution): spec.to_dict() for resolution, spec in self.stages.items()}

    @classmethod
    def from_dict(cls, values: Mapping) -> "StagedSpec":
        """Rebuild a spec from `to_dict`'s result, as found in a manifest.

        Raises:
            ValueError: it is something else.
        """
        try:
            specs = {int(resolution): PyramidSpec.from_dict(spec) for resolution, spec in values.items()}
            return cls(dict(sorted(specs.items())))
        except UsageError as error:
            raise ValueError(first_line(error)) from error
        except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
            raise ValueError("not what a teacher sees in each stage") from error


def read_specs(path: Path) -> StagedSpec:
    """The spec in a run's teacher.json.

    Raises:
        DamagedFile: it is missing, or holds something else.
    """
    try:
        return StagedSpec.from_dict(read_json(path))
    except ValueError as error:
        raise DamagedFile(f"{path}: damaged ({error}); put a copy of it back") from error


def level_name(layer: int, g: int) -> str:
    return f"l{layer}_{g}x{g}"


def colour_name(g: int) -> str:
    return f"rgb_{g}x{g}"


def pool(level: Tensor, g: int) -> Tensor:
    """Average a map `[N, C, G, G]` down to `[N, C, g, g]`; g divides G."""
    return level if level.shape[-1] == g else F.avg_pool2d(level, level.shape[-1] // g)


def colour_statistics(images: Tensor, g: int) -> Tensor:
    """Mean and standard deviation of RGB in each of g×g cells.

    Args:
        images: `[N, 3, R, R]` in [-1, 1]; g divides R.

    Returns:
        `[N, 6, g, g]`: three means, then three standard deviations.
    """
    mean = pool(images, g)
    variance = pool(images.square(), g) - mean.square()
    return torch.cat([mean, variance.clamp(min=0).add(RGB_FLOOR).sqrt()], dim=1)


def pool_colour(statistics: Tensor, g: int) -> Tensor:
    """Coarser colour statistics from finer ones, exactly: the law of total variance.

    Args:
        statistics: `[N, 6, G, G]` as from `colour_statistics`.

    Returns:
        `[N, 6, g, g]`.
    """
    mean, deviation = statistics.chunk(2, dim=1)
    coarse_mean = pool(mean, g)
    between_cells = (pool(mean.square(), g) - coarse_mean.square()).clamp(min=0)
    return torch.cat([coarse_mean, (pool(deviation.square(), g) + between_cells).sqrt()], dim=1)


def complete(stored: Mapping[str, Tensor], spec: PyramidSpec) -> Pyramid:
    """A whole pyramid from its stored part, every level pooled from the finest one.

    Args:
        stored: the tensors of `spec.stored_shapes()` with a batch dimension in front, any float type.

    Returns:
        float32 tensors of `spec.shapes()`, on the same device.
    """
    pyramid = {"cls": stored["cls"].float()}
    for layer in spec.layers:
        levels = spec.levels_of(layer)
        finest = stored[level_name(layer, levels[-1])].float()
        pyramid |= {level_name(layer, g): pool(finest, g) for g in levels}
    finest = stored[colour_name(spec.colour_levels[-1])].float()
    return pyramid | {colour_name(g): pool_colour(finest, g) for g in spec.colour_levels}


def reduce_to(images: Tensor, resolution: int) -> Tensor:
    """Average `[N, 3, S, S]` down to `[N, 3, R, R]`; R divides S. This is how crops become a stage's images."""
    return pool(images, resolution)


def resize(images: Tensor, size: int) -> Tensor:
    """Bilinear resize of `[N, 3, R, R]` to `[N, 3, size, size]`, antialiased when it shrinks; differentiable."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
