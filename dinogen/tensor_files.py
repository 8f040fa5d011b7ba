"""Reading weights and JSON that anybody may have written: bounded, compared with what is expected, never unpickled."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dinogen.errors import DinogenError, first_line

MOST_JSON_BYTES = 2**20
MOST_HEADER_BYTES = 4 * 2**20  # of a safetensors file; ours have some ten thousand bytes
MOST_OPEN_ROWS = 2**16  # along a dimension that may have any length

# Names, and shapes and types of a file's tensors; None stands for a dimension of any length, and for any type.
Shapes = Mapping[str, tuple[tuple[int | None, ...], torch.dtype | None]]

TYPES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.uint8: "U8",
}


class DamagedFile(DinogenError):
    """A file that is not what it should be; the message names it and says what is wrong with it."""


def shapes_of(tensors: Mapping[str, Tensor]) -> Shapes:
    """What a file that holds just these tensors looks like."""
    return {name: (tuple(value.shape), value.dtype) for name, value in tensors.items()}


def read_json(path: Path) -> Any:
    """The content of a small JSON file.

    Raises:
        DamagedFile: no such file, or not JSON, or too large, or with numbers that JSON does not know.
    """
    try:
        if path.stat().st_size > MOST_JSON_BYTES:
            raise DamagedFile(f"{path}: longer than {MOST_JSON_BYTES} bytes, so not such a file")
        return json.loads(path.read_bytes(), parse_constant=refuse_constant)
    except FileNotFoundError as error:
        raise DamagedFile(f"{path}: missing") from error
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path}: not JSON ({first_line(error)})") from error


def refuse_constant(name: str) -> None:
    """Python reads NaN and Infinity, which are not JSON."""
    raise ValueError(f"{name} is not a number")


def read_tensors(
    path: Path, expected: Shapes, partial: bool = False, perhaps_halved: bool = False
) -> dict[str, Tensor]:
    """The tensors of a safetensors file that holds what is expected, on the CPU.

    Nothing is allocated before names, shapes and types have been compared.

    Args:
        path: the file.
        expected: its tensors.
        partial: whether groups (GROUP/NAME) may be absent as a whole.
        perhaps_halved: whether all numbers of 32 bits may be stored in 16; they are given in 32.

    Raises:
        DamagedFile: no safetensors file, or one with other tensors or with numbers that are not finite.
    """
    check_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_slice(name) for name in file.keys()}
            if perhaps_halved and {value.get_dtype() for value in found.values()} == {TYPES[torch.float16]}:
                expected = {name: (shape, torch.float16) for name, (shape, _) in expected.items()}
            if misfit := find_misfit(found, expected, partial):
                raise DamagedFile(f"{path}: {misfit}")
            # What safetensors hands out is the file itself, mapped: it must not change when the file does.
            tensors = {name: file.get_tensor(name).clone() for name in found}
    except SafetensorError as error:
        raise DamagedFile(f"{path}: no whole safetensors file ({first_line(error)})") from error
    except OSError as error:
        raise unreadable(path, error) from error
    for name, value in tensors.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise DamagedFile(f"{path}: {name} holds numbers that are not finite")
    return {name: value.float() for name, value in tensors.items()} if perhaps_halved else tensors


def metadata_of(path: Path) -> dict[str, str]:
    """The notes in a safetensors file that was read before; none if it has none."""
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def check_header(path: Path) -> None:
    """Refuse what begins like no safetensors file of ours before a library looks at it."""
    if not path.is_file():
        raise DamagedFile(f"{path}: missing")
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
    except OSError as error:
        raise unreadable(path, error) from error
    if length > min(MOST_HEADER_BYTES, path.stat().st_size - 8):
        raise DamagedFile(f"{path}: cut short, or no safetensors file (a header of {length} bytes)")


def find_misfit(found: Mapping[str, Any], expected: Shapes, partial: bool) -> str | None:
    """How a file's tensors (safetensors' slices) differ from what is expected, in a few words."""
    if unknown := sorted(found.keys() - expected.keys()):
        return f"holds an unknown tensor, {quoted(unknown[0])}"
    missing = sorted(expected.keys() - found.keys())
    if partial:
        begun = {name.rpartition("/")[0] for name in found}
        missing = [name for name in missing if name.rpartition("/")[0] in begun]
    if missing:
        return f"{missing[0]} is missing"
    for name, value in found.items():
        (wanted, dtype), shape = expected[name], tuple(value.get_shape())
        if dtype is not None and value.get_dtype() != TYPES[dtype]:
            return f"{name} has type {value.get_dtype()} instead of {TYPES[dtype]}"
        lengths_fit = (
            have == want if want is not None else have <= MOST_OPEN_ROWS for have, want in zip(shape, wanted)
        )
        if len(shape) != len(wanted) or not all(lengths_fit):
            return f"{name} has shape {list(shape)} instead of {['any' if n is None else n for n in wanted]}"
    return None


def unreadable(path: Path, error: OSError) -> DinogenError:
    """A file that may be in order but cannot be read now."""
    return DinogenError(f"{path}: cannot be read ({error.strerror}); see to the file, then run the same command again")


def quoted(name: str) -> str:
    """A name out of somebody's file, for a message: of bounded length and without control characters."""
    return repr(name[:80])
