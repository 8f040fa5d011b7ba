"""Checkpoints: everything that training needs to go on, whole or not at all, and nothing that needs a pickle.

A checkpoint is a folder of safetensors and of state.json, which is written last and holds every other file's length
and sha256. It is written under a temporary name by the first rank alone, which is sent what the others know, then
synced and renamed: a folder with a final name was complete when it got it, and whatever happens to it later is noticed.
"""

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from dinogen.errors import DinogenError, first_line
from dinogen.files import atomic_folder, remove_folder, write_json
from dinogen.tensor_files import DamagedFile, Expected, Shapes, shapes_of, unreadable
from dinogen.train.checkpoint_read import (
    STATE_FILE,
    VERSION,
    check_state,
    digest_of,
    fingerprint,
    load_checkpoint,
    nimg_of,
)


def list_checkpoints(folder: Path) -> list[Path]:
    """The folders that have a checkpoint's name, oldest first."""
    return sorted(path for path in folder.glob("nimg*") if re.fullmatch(r"nimg\d{12}", path.name))


def checkpoint_name(cur_nimg: int) -> str:
    return f"nimg{cur_nimg:012d}"


# ---- writing


def save_checkpoint(
    folder: Path,
    cur_nimg: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: dict,
    keep: int = 2,
    keep_every_kimg: float | None = None,
) -> Path:
    """Write a checkpoint, and only then drop those that are no longer wanted. Call on one rank.

    Args:
        folder: where the run's checkpoints live.
        cur_nimg: the clock; names the checkpoint.
        tensors: one dict of tensors a file, by the file's stem.
        state: everything else, JSON-ready.
        keep: so many of the newest are kept.
        keep_every_kimg: of the others the first one after every multiple of this; None keeps none of them.

    Raises:
        DinogenError: it could not be written; says why. The checkpoints before are untouched.
    """
    target = folder / checkpoint_name(cur_nimg)
    if not (target / STATE_FILE).is_file():
        try:
            with atomic_folder(target) as temporary:
                for name, values in tensors.items():
                    on_cpu = {key: value.detach().cpu().contiguous() for key, value in values.items()}
                    save_file(on_cpu, temporary / f"{name}.safetensors")
                files = {path.name: fingerprint(path) for path in sorted(temporary.iterdir())}
                state = {**state, "version": VERSION, "cur_nimg": cur_nimg, "files": files}
                state["sha256"] = digest_of(state)
                check_state(target / STATE_FILE, state)
                write_json(temporary / STATE_FILE, state)
        except (OSError, SafetensorError) as error:
            raise DinogenError(f"{target}: could not be written ({first_line(error)}); see to that folder") from error
    for stale in dispensable(list_checkpoints(folder), keep, keep_every_kimg):
        try:
            remove_folder(stale)
        except OSError as error:
            print(f"{stale} could not be deleted ({error.strerror}); delete it by hand.", file=sys.stderr)
    return target


def dispensable(found: list[Path], keep: int, keep_every_kimg: float | None) -> list[Path]:
    """Those of the checkpoints (oldest first) that are neither among the last ones nor milestones."""
    dropped, milestones = [], {0}
    for path in found[:-keep]:
        reached = int(nimg_of(path) / (keep_every_kimg * 1000)) if keep_every_kimg else 0
        if reached in milestones:
            dropped.append(path)
        milestones.add(reached)
    return dropped


# ---- reading


def load_newest(
    folder: Path, expected: Mapping[str, Expected]
) -> tuple[Path, dict[str, dict[str, Tensor]], dict] | None:
    """The newest checkpoint, its tensors by file, and its state; None where there is none.

    A damaged one is not passed over: that would lose training without anybody having decided it.

    Args:
        folder: where the run's checkpoints live.
        expected: what every file has to hold; the optimiser's may hold less.

    Raises:
        DinogenError: it is damaged, or of another version; names the file and says how to go on.
    """
    found = list_checkpoints(folder)
    if not found:
        return None
    try:
        return found[-1], *load_checkpoint(found[-1], expected)
    except DamagedFile as error:
        raise DinogenError(f"{error}; {remedy(found, expected)}") from error
    except OSError as error:
        raise unreadable(found[-1], error) from error


def remedy(found: list[Path], expected: Mapping[str, Expected]) -> str:
    """What to do about a damaged newest checkpoint."""
    for before in reversed(found[:-1]):
        try:
            load_checkpoint(before, expected)
        except (DinogenError, OSError):
            continue
        lost = (nimg_of(found[-1]) - nimg_of(before)) / 1000
        newer = " and ".join(str(path) for path in found[found.index(before) + 1 :])
        return (
            f"restore it, or delete the folder {newer} to go on from {before.name}, which is whole: "
            f"{lost:g} kimg of training are lost"
        )
    return (
        "restore it; no checkpoint before it is whole, so that without it training starts anew, with another --output"
    )


# ---- what of a trainer goes into one


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


def expected_files(
    network: nn.Module, average: nn.Module, levels: Mapping[str, tuple[int, ...]]
) -> dict[str, Expected]:
    """What the files of a checkpoint hold.

    Args:
        network: the generator.
        average: its average.
        levels: names and shapes (without N) of a pyramid's tensors, which the banks of features hold.
    """
    cpu_bytes = len(torch.get_rng_state())
    return {
        "generator": shapes_of(network.state_dict()),
        "ema": shapes_of(average.state_dict()),
        "optimizer": expected_moments(network),
        "random": {"latents": ((cpu_bytes,), torch.uint8), "ranks": ((None, None), torch.uint8)},
        "banks": expected_banks(levels),
    }


def expected_moments(model: nn.Module) -> Shapes:
    """What `optimizer_tensors` gives of an Adam that has moved all of a model's parameters."""
    return {
        f"{name}/{key}": (tuple(parameter.shape) if key != "step" else (), torch.float32)
        for name, parameter in model.named_parameters()
        for key in ("step", "exp_avg", "exp_avg_sq")
    }


def expected_banks(levels: Mapping[str, tuple[int, ...]]) -> Callable[[Iterable[str]], Shapes]:
    """What a file of feature banks holds: batches as `BANK/NUMBER/LEVEL` `[N, …]`, as many as there are.

    Args:
        levels: names and shapes (without N) of a pyramid's tensors.
    """

    def of_names(names: Iterable[str]) -> Shapes:
        batches = {found[0] for name in names if (found := re.match(r"(real|generated)/\d{1,6}(?=/)", name))}
        return {f"{batch}/{name}": ((None, *shape), None) for batch in batches for name, shape in levels.items()}

    return of_names


def random_states(device: torch.device) -> Tensor:
    """This rank's torch RNG states (CPU, then CUDA where used) as one row of bytes."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return torch.cat(states)


def restore_random_states(row: Tensor, device: torch.device) -> None:
    """The inverse of `random_states`; a row of a machine with other devices restores the CPU part only.

    Raises:
        DinogenError: the CUDA part is not one of this device's.
    """
    cpu_bytes = len(torch.get_rng_state())
    torch.set_rng_state(row[:cpu_bytes].cpu().clone())  # a part of a tensor crashes torch
    if device.type == "cuda" and len(row) > cpu_bytes:
        try:
            torch.cuda.set_rng_state(row[cpu_bytes:].cpu().clone(), device)
        except RuntimeError as error:
            raise DinogenError(f"random.safetensors: no state of {device} ({first_line(error)})") from error
