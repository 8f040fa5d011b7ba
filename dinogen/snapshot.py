"""Opening a snapshot that anybody may have made: no memory is taken before its two files agree on how much."""

import inspect
from pathlib import Path

import torch

from dinogen.config import GeneratorConfig
from dinogen.errors import DinogenError, UsageError
from dinogen.networks import Generator
from dinogen.tensor_files import DamagedFile, quoted, read_json, read_tensors, shapes_of

MOST_CHANNELS = 2**16  # of any width that a configuration may name; ours have 512
MOST_LAYERS = 100


def open_snapshot(config: Path, weights: Path) -> Generator:
    """The generator of a snapshot, on the CPU.

    Args:
        config: its config.json.
        weights: its model.safetensors.

    Raises:
        DinogenError: one of them is broken, or they do not fit each other.
    """
    try:
        settings = read_json(config)
        check_settings(settings)
    except (DamagedFile, UsageError) as error:
        raise DinogenError(f"{config}: not a generator's configuration ({error})") from error
    with torch.device("meta"):
        generator = Generator(**settings)
    try:
        tensors = read_tensors(weights, shapes_of(generator.state_dict()), perhaps_halved=True)
    except DamagedFile as error:
        raise DinogenError(f"{error}; broken, or of another {config.name}: copy the snapshot again") from error
    generator.load_state_dict(tensors, assign=True)
    return generator


def check_settings(settings: object) -> None:
    """Refuse what no generator is made of.

    Raises:
        UsageError: says what.
    """
    if not isinstance(settings, dict):
        raise UsageError("no keys and values")
    known = inspect.signature(Generator.__init__).parameters.keys() - {"self"}
    if unknown := sorted(settings.keys() - known):
        raise UsageError(f"unknown key {quoted(unknown[0])}")
    for key, value in settings.items():
        if key == "trained_alpha":
            possible = type(value) in (int, float) and 0 <= value <= 1
        elif key == "trained_resolution" and value is None:
            possible = True
        elif key == "attention_at":
            possible = (
                isinstance(value, list) and len(value) <= MOST_LAYERS and all(type(each) is int for each in value)
            )
        else:
            most = MOST_LAYERS if key == "mapping_layers" else MOST_CHANNELS
            least = 0 if key in ("text_dim", "token_dim") else 1
            possible = type(value) is int and least <= value <= most
        if not possible:
            raise UsageError(f"{key} {quoted(str(value))} is not possible")
    resolution = GeneratorConfig(img_resolution=settings.get("img_resolution", 32)).img_resolution
    trained = settings.get("trained_resolution") or resolution
    if not 4 <= trained <= resolution or trained & (trained - 1):
        raise UsageError(f"trained_resolution {trained} is not one of its resolutions")
