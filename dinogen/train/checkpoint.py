"""Checkpoints: everything that resuming needs, whole or not at all, and nothing that needs a pickle.

A checkpoint is a folder of safetensors and of state.json, which is written last and holds every other file's length
and sha256. It is written under a temporary name by the first rank alone, which is sent what the others know, then
synced and renamed: a folder with a final name was complete when it got it, and whatever happens to it later is noticed.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from dinogen.errors import DinogenError, first_line
from dinogen.files import atomic_folder, remove_folder, write_json
from dinogen.kept import Kept
from dinogen.tensor_files import DamagedFile, unreadable
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
        keep: number of the newest that are kept.
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
                files = {path.stem: fingerprint(path) for path in sorted(temporary.iterdir())}
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


def load_newest(folder: Path, kept: Sequence[Kept]) -> tuple[Path, dict[str, dict[str, Tensor]], dict] | None:
    """The newest checkpoint, its tensors by file, and its state; None where there is none.

    A damaged one is not passed over: that would lose training without anybody having decided it.

    Args:
        folder: where the run's checkpoints live.
        kept: the parts, which say what their files have to hold.

    Raises:
        DinogenError: it is damaged, or of another version; names the file and says how to continue.
    """
    found = list_checkpoints(folder)
    if not found:
        return None
    try:
        return found[-1], *load_checkpoint(found[-1], kept)
    except DamagedFile as error:
        raise DinogenError(f"{error}; {remedy(found, kept)}") from error
    except OSError as error:
        raise unreadable(found[-1], error) from error


def remedy(found: list[Path], kept: Sequence[Kept]) -> str:
    """What to do about a damaged newest checkpoint."""
    for before in reversed(found[:-1]):
        try:
            load_checkpoint(before, kept)
        except (DinogenError, OSError):
            continue
        lost = (nimg_of(found[-1]) - nimg_of(before)) / 1000
        newer = " and ".join(str(path) for path in found[found.index(before) + 1 :])
        return (
            f"restore it, or delete the folder {newer} to resume from {before.name}, which is whole: "
            f"{lost:g} kimg of training are lost"
        )
    return "restore it; no checkpoint before it is whole, so without it training starts anew, with another --output"
