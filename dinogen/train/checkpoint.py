"""Checkpoints: everything that training needs to go on, whole or not at all, and nothing that needs a pickle.

A checkpoint is a folder of safetensors and one JSON file. It is written under a temporary name by the first rank
alone, which is sent what the others know, then synced and renamed: a folder with a final name is complete.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from dinogen.errors import DinogenError
from dinogen.files import atomic_folder, write_json

VERSION = 1
KEPT = 2


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(path for path in folder.glob("nimg*") if (path / "state.json").is_file())


def save_checkpoint(folder: Path, cur_nimg: int, tensors: Mapping[str, Mapping[str, Tensor]], state: dict) -> Path:
    """Write a checkpoint and drop all but the last two. Call on one rank.

    Args:
        folder: where the run's checkpoints live.
        cur_nimg: the clock; names the checkpoint.
        tensors: one dict of tensors a file, by the file's stem.
        state: everything else, JSON-ready.

    Raises:
        DinogenError: the disk is full, or the folder cannot be written to; the checkpoints before are untouched.
    """
    target = folder / f"nimg{cur_nimg:012d}"
    if (target / "state.json").is_file():
        return target
    with atomic_folder(target) as temporary:
        for name, values in tensors.items():
            on_cpu = {key: value.detach().cpu().contiguous() for key, value in values.items()}
            save_file(on_cpu, temporary / f"{name}.safetensors")
        write_json(temporary / "state.json", {"version": VERSION, "cur_nimg": cur_nimg, **state})
    for stale in list_checkpoints(folder)[:-KEPT]:
        shutil.rmtree(stale, ignore_errors=True)
    return target


def load_checkpoint(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict]:
    """Read a checkpoint back: its tensors by file, and its state.

    Raises:
        DinogenError: a damaged file, named; or a checkpoint of another version.
    """
    state = json.loads((path / "state.json").read_text())
    if state["version"] != VERSION:
        raise DinogenError(
            f"{path} has checkpoint version {state['version']}, this dinogen reads {VERSION}; go on with the "
            "dinogen that wrote it, or start anew with another --output"
        )
    tensors = {}
    for file in sorted(path.glob("*.safetensors")):
        try:
            tensors[file.stem] = load_file(file)
        except (SafetensorError, OSError) as error:
            raise DinogenError(
                f"{file} is damaged ({error}); delete the folder {path} to go on from the one before"
            ) from error
    return tensors, state


def optimizer_tensors(optimizer: Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """An Adam's state as named tensors: `PARAMETER/exp_avg` and so on. Parameters without state are absent."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(optimizer: Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`."""
    index_of = {name: index for index, (name, _) in enumerate(model.named_parameters())}
    restored = optimizer.state_dict()
    for name, value in tensors.items():
        parameter, key = name.rsplit("/", 1)
        restored["state"].setdefault(index_of[parameter], {})[key] = value
    optimizer.load_state_dict(restored)


def random_states(device: torch.device) -> Tensor:
    """This rank's torch RNG states (CPU, then CUDA where used) as one row of bytes."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return torch.cat(states)


def restore_random_states(row: Tensor, device: torch.device) -> None:
    """The inverse of `random_states`; a row of a machine with other devices restores the CPU part only."""
    cpu_bytes = len(torch.get_rng_state())
    torch.set_rng_state(row[:cpu_bytes].cpu())
    if device.type == "cuda" and len(row) > cpu_bytes:
        torch.cuda.set_rng_state(row[cpu_bytes:].cpu(), device)
