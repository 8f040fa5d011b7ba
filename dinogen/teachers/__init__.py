"""The frozen networks that look at images, one file a family, behind one protocol (`Backbone`)."""

from pathlib import Path

from huggingface_hub.utils import logging as hub_logging
from transformers import PretrainedConfig
from transformers.utils import logging as transformers_logging

from dinogen.errors import DinogenError, UsageError, first_line
from dinogen.pyramid import COARSE_LIMIT, PyramidSpec, spaced
from dinogen.teachers.base import Backbone, Teacher, hash_weights
from dinogen.teachers.dinov2 import Dinov2
from dinogen.teachers.dinov3 import Dinov3
from dinogen.teachers.sharding import shard_teacher, wants_sharding
from dinogen.teachers.tiny import TINY, TINY_INPUT_SIZES, make_tiny

__all__ = ["FAMILIES", "Backbone", "Teacher", "make_teacher", "shard_teacher", "teacher_of", "wants_sharding"]

# By the `model_type` in a saved model's config.json.
FAMILIES: dict[str, type[Backbone]] = {
    "dinov2": Dinov2,
    "dinov2_with_registers": Dinov2,
    "dinov3_vit": Dinov3,
}
DEFAULT_GRID = 16  # patches a side
TAPPED_LAYERS = 4  # of a pretrained teacher: evenly spaced, the last included


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
        input_size: side of its input in pixels; None takes 32 for `tiny` and 16 patches a side for others: 224 for
            DINOv2, 256 for DINOv3.
        layers: layers to tap, counted from 1; None takes all of `tiny` and four evenly spaced ones of others.
        levels: sides of the maps, coarse to fine; None takes 1, 2, 4 … up to the grid or 16.
        fine_layers: layers with levels above 8×8; None takes the last one.

    Raises:
        DinogenError: the hub or the folder does not give a teacher of a known family.
        UsageError: sizes, layers or levels that do not fit together.
    """
    if name == TINY:
        input_size = input_size or TINY_INPUT_SIZES[0]
        backbone: Backbone = make_tiny(input_size)
    else:
        backbone = load_backbone(
            name,
            f"--teacher takes '{TINY}', a hub id or a saved model's folder: without a network, run "
            "`hf download ID --local-dir DIR` where there is one, copy DIR here and pass --teacher DIR",
        )
        input_size = input_size or DEFAULT_GRID * backbone.patch_size
    depth = len(backbone.blocks)
    if layers is None:
        taps = min(TAPPED_LAYERS, depth)
        layers = [round(depth * (k + 1) / taps) for k in range(taps)]
    if any(not 1 <= layer <= depth for layer in layers):
        raise UsageError(f"--layers {spaced(layers)}: '{name}' has layers 1 to {depth}")
    if levels is None:
        grid = input_size // backbone.patch_size
        levels = [g for g in (1, 2, 4, 8, 16) if grid % g == 0]
    if fine_layers is None:
        fine_layers = layers[-1:] if levels[-1:] > [COARSE_LIMIT] else []
    spec = PyramidSpec(
        teacher=name,
        teacher_sha256=hash_weights(backbone.weights()),
        input_size=input_size,
        patch_size=backbone.patch_size,
        width=backbone.width,
        layers=tuple(layers),
        levels=tuple(levels),
        fine_layers=tuple(fine_layers),
    )
    return Teacher(backbone, spec)


def teacher_of(spec: PyramidSpec, path: str | None = None, flag: str = "--teacher.path") -> Teacher:
    """The teacher that packed the shards.

    Args:
        spec: from the shards' manifest.
        path: folder of a local copy of it; None looks where `pack` found it.
        flag: what sets `path`, for messages.

    Raises:
        DinogenError: it is not there, or other weights are.
    """
    name = path or spec.teacher
    remedy = f"pass {flag} DIR, a folder with a copy of the teacher that the shards were packed with ({spec.teacher})"
    backbone = make_tiny(spec.input_size) if name == TINY else load_backbone(name, remedy)
    found, packed = hash_weights(backbone.weights()), spec.teacher_sha256
    # Earlier shards carry the hash of the parts that the library made.
    if packed != found and packed != hash_weights(backbone.state_dict().values()):
        raise DinogenError(
            f"teacher '{name}' has other weights ({found}) than the one that the shards were packed with "
            f"({packed}); pass {flag} DIR, a folder with a copy of that one ({spec.teacher}), or pack the "
            "crops again"
        )
    return Teacher(backbone, spec)


def load_backbone(name: str, remedy: str) -> Backbone:
    """A pretrained backbone from the hub or a folder, in float32.

    Args:
        name: a hub id or a folder.
        remedy: what to do where it is not to be found, for the message.

    Raises:
        DinogenError: it is not there, cannot be read, or is of no known family.
    """
    folder = Path(name).expanduser()
    is_folder = name.startswith((".", "/", "~")) or folder.is_dir()
    if is_folder and not (folder / "config.json").is_file():
        raise DinogenError(f"{name}: no teacher here (no config.json); {remedy}")
    source = str(folder) if is_folder else name
    hub_logging.set_verbosity_error()  # its retries would bury our one line
    transformers_logging.disable_progress_bar()
    try:
        family = PretrainedConfig.get_config_dict(source)[0].get("model_type")
        if family in FAMILIES:
            return FAMILIES[family].load(source)
    except (OSError, ValueError) as error:
        raise DinogenError(f"teacher '{name}' could not be loaded ({first_line(error)}); {remedy}") from error
    raise DinogenError(f"teacher '{name}' is a {family}; take a model of one of these types: {', '.join(FAMILIES)}")
