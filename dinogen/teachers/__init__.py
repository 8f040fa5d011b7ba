"""The frozen networks that look at images, one file a family, behind one protocol (`Backbone`)."""

from collections.abc import Sequence

from dinogen.errors import DinogenError, UsageError
from dinogen.pretrained import load_pretrained
from dinogen.pyramid import COARSE_LIMIT, PyramidSpec, StagedSpec, spaced
from dinogen.teachers.base import Backbone, Teacher, hash_weights
from dinogen.teachers.dinov2 import Dinov2
from dinogen.teachers.dinov3 import Dinov3
from dinogen.teachers.sharding import shard_teacher, wants_sharding
from dinogen.teachers.tiny import TINY, make_tiny

__all__ = [
    "FAMILIES",
    "Backbone",
    "Teacher",
    "all_stages",
    "default_view",
    "make_teacher",
    "shard_teacher",
    "teacher_of",
    "wants_sharding",
]

# By the `model_type` in a saved model's config.json.
FAMILIES: dict[str, type[Backbone]] = {
    "dinov2": Dinov2,
    "dinov2_with_registers": Dinov2,
    "dinov3_vit": Dinov3,
}
TAPPED_LAYERS = 4  # of a pretrained teacher: evenly spaced, the last included
COARSE_GRID, FINE_GRID = 8, 16  # patches a side of a view
# A coarse view serves images up to 8/7 of its side: 128 px in DINOv2's view of 112, 32 px in tiny's of 32.
LARGEST_OVER_VIEW = 8 / 7
FIRST_STAGE = 4


def make_teacher(
    name: str,
    stages: Sequence[int] = (32,),
    input_size: int | None = None,
    layers: list[int] | None = None,
    levels: list[int] | None = None,
    fine_layers: list[int] | None = None,
) -> Teacher:
    """Load a teacher, or make the embedded one.

    Args:
        name: `tiny`, a hub id such as `facebook/dinov2-base`, or a folder with `config.json` and safetensors.
        stages: resolutions of the images that it will look at.
        input_size: side of its input in pixels, the same in all stages; None takes `default_view` of each.
        layers: layers to tap, counted from 1; None takes all of `tiny` and four evenly spaced ones of others.
        levels: sides of the maps, coarse to fine; None takes 1, 2, 4 … up to the grid or 16.
        fine_layers: layers with levels above 8×8; None takes the last one.

    Raises:
        DinogenError: the hub or the folder does not give a teacher of a known family.
        UsageError: sizes, layers or levels that do not fit together.
    """
    if name == TINY:
        backbone: Backbone = make_tiny()
    else:
        backbone = load_backbone(
            name,
            f"--teacher takes '{TINY}', a hub id or a saved model's folder: without a network, run "
            "`hf download ID --local-dir DIR` where there is one, copy DIR here and pass --teacher DIR",
        )
    depth = len(backbone.blocks)
    if layers is None:
        taps = min(TAPPED_LAYERS, depth)
        layers = [round(depth * (k + 1) / taps) for k in range(taps)]
    if any(not 1 <= layer <= depth for layer in layers):
        raise UsageError(f"--layers {spaced(layers)}: '{name}' has layers 1 to {depth}")
    weights = hash_weights(backbone.weights())

    def spec_at(resolution: int) -> PyramidSpec:
        view = input_size or default_view(resolution, backbone.patch_size)
        grid = view // backbone.patch_size
        maps = levels if levels is not None else [g for g in (1, 2, 4, 8, 16) if grid % g == 0]
        fine = layers[-1:] if maps[-1:] > [COARSE_LIMIT] else []
        return PyramidSpec(
            teacher=name,
            teacher_sha256=weights,
            input_size=view,
            patch_size=backbone.patch_size,
            width=backbone.width,
            layers=tuple(layers),
            levels=tuple(maps),
            fine_layers=tuple(fine if fine_layers is None else fine_layers),
        )

    return Teacher(backbone, StagedSpec({resolution: spec_at(resolution) for resolution in sorted(stages)}))


def default_view(resolution: int, patch_size: int) -> int:
    """Side of the picture that a teacher is shown of images of R pixels: 8 patches of theirs, 16 for large images.

    DINOv2 was never trained below 98 pixels, and its view of 56 pixels taught noise where 112 taught faces.
    """
    coarse = COARSE_GRID * patch_size
    return coarse if resolution <= coarse * LARGEST_OVER_VIEW else FINE_GRID * patch_size


def all_stages(resolution: int) -> list[int]:
    """4, 8, 16 … up to a resolution."""
    return [FIRST_STAGE << k for k in range(resolution.bit_length()) if FIRST_STAGE << k <= resolution]


def teacher_of(specs: StagedSpec, path: str | None = None, flag: str = "--teacher.path") -> Teacher:
    """The teacher that packed the shards.

    Args:
        specs: from the shards' manifest.
        path: folder of a local copy of it; None looks where `pack` found it.
        flag: what sets `path`, for messages.

    Raises:
        DinogenError: it is not there, or other weights are.
    """
    spec = specs.finest
    name = path or spec.teacher
    remedy = f"pass {flag} DIR, a folder with a copy of the teacher that the shards were packed with ({spec.teacher})"
    backbone = make_tiny() if name == TINY else load_backbone(name, remedy)
    found, packed = hash_weights(backbone.weights()), spec.teacher_sha256
    if packed != found:
        raise DinogenError(
            f"teacher '{name}' has other weights ({found}) than the one that the shards were packed with "
            f"({packed}); pass {flag} DIR, a folder with a copy of that one ({spec.teacher}), or pack the "
            "crops again"
        )
    return Teacher(backbone, specs)


def load_backbone(name: str, remedy: str) -> Backbone:
    """A pretrained backbone from the hub or a folder, in float32.

    Args:
        name: a hub id or a folder.
        remedy: what to do where it is not to be found, for the message.

    Raises:
        DinogenError: it is not there, cannot be read, or is of no known family.
    """
    return load_pretrained("teacher", name, FAMILIES, remedy)
