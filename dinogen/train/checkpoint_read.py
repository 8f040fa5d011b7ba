"""Reading one checkpoint: everything is checked before anything is used, and old versions are brought up to date."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from dinogen.data.order import LoaderState
from dinogen.errors import DinogenError, first_line
from dinogen.tensor_files import DamagedFile, Expected, check_header, quoted, read_json, read_tensors

VERSION = 2
STATE_FILE = "state.json"
MOST_COUNTED = 2**53  # images, steps, samples: beyond it JSON's numbers are not exact

ADDED = ("banks",)  # files that version 1 had not yet
ADVERSARY, FRECHET = "adversary", "frechet"
LATE = {ADVERSARY, FRECHET}  # files of what joins a run late: in a checkpoint only once it has
PARTIAL = {"optimizer", ADVERSARY}  # hold an optimiser's state, which a parameter without gradient has none of

# What state.json holds, and of which type.
STATE = {
    "version": int,
    "cur_nimg": int,
    "cur_step": int,
    "world_size": int,
    "loader": dict,
    "bank_resolution": int | None,
    "scaler": dict | None,
    "files": dict | None,  # None: an old version's, which had no list, and no sha256 of the rest of state.json
    "sha256": str | None,
}


def load_checkpoint(path: Path, expected: Mapping[str, Expected]) -> tuple[dict[str, dict[str, Tensor]], dict]:
    """Read a checkpoint back: its tensors by file, and its state. Old versions are brought up to date.

    Raises:
        DamagedFile: names the file and what is wrong with it.
        DinogenError: a checkpoint of another version.
    """
    state = migrate(path, read_json(path / STATE_FILE))
    check_state(path / STATE_FILE, state)
    if state["sha256"] not in (None, digest_of(state)):
        raise DamagedFile(f"{path / STATE_FILE}: changed since it was written")
    if state["cur_nimg"] != nimg_of(path):
        raise DamagedFile(f"{path}: holds the checkpoint of {state['cur_nimg']} images, which its name denies")
    listed = state["files"]
    needed, possible = (
        {f"{name}.safetensors" for name in names} for names in (expected.keys() - LATE, expected.keys() | LATE)
    )
    if listed is not None and not needed <= listed.keys() <= possible:
        raise DamagedFile(f"{path / STATE_FILE}: lists other files than {', '.join(sorted(expected))}")
    tensors = {}
    for name, shapes in expected.items():
        file = path / f"{name}.safetensors"
        if listed is None and name in ADDED and not file.exists():
            tensors[name] = {}
        elif name not in LATE or (listed is not None and file.name in listed):
            tensors[name] = read_listed(file, listed and listed[file.name], shapes, partial=name in PARTIAL)
    check_random_states(path / "random.safetensors", tensors["random"], state["world_size"])
    return tensors, state


def read_listed(file: Path, written: dict | None, expected: Expected, partial: bool) -> dict[str, Tensor]:
    """The tensors of one file, whose length and sha256 must be as they were `written` down, where they were."""
    check_header(file)
    if written and file.stat().st_size != written.get("bytes"):
        raise DamagedFile(f"{file}: {file.stat().st_size} bytes long, but {written.get('bytes')} were written")
    tensors = read_tensors(file, expected, partial)  # before the hash: names and shapes bound what is read
    if written and fingerprint(file) != written:
        raise DamagedFile(f"{file}: its sha256 is not the one in {STATE_FILE}")
    return tensors


def check_random_states(file: Path, tensors: Mapping[str, Tensor], world_size: int) -> None:
    """Refuse what torch could not continue its random numbers from.

    Raises:
        DamagedFile: not a state, or not one for each rank.
    """
    states = [tensors["latents"], *tensors["ranks"]]
    if len(states) != 1 + world_size:
        raise DamagedFile(f"{file}: {len(states) - 1} ranks' random states instead of {world_size}")
    try:
        for state in states:
            torch.Generator().set_state(state[: len(tensors["latents"])].clone())  # a part of a tensor crashes torch
    except RuntimeError as error:
        raise DamagedFile(f"{file}: no random state ({first_line(error)})") from error


def check_state(path: Path, state: dict) -> None:
    """Refuse a state that training could not go on from.

    Raises:
        DamagedFile: a key is missing, unknown, or of another type.
    """
    if difference := sorted(STATE.keys() ^ state.keys()):
        what = "is missing" if difference[0] in STATE else "is unknown"
        raise DamagedFile(f"{path}: the key {quoted(difference[0])} {what}")
    for key, kind in STATE.items():
        value = state[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise DamagedFile(f"{path}: {key} is no {getattr(kind, '__name__', kind)}")
    counts = {key: state[key] for key in ("cur_nimg", "cur_step", "world_size")} | state["loader"]
    if state["loader"].keys() != LoaderState.__dataclass_fields__.keys():
        raise DamagedFile(f"{path}: loader does not say epoch and position")
    for key, count in counts.items():
        if type(count) is not int or not 0 <= count < MOST_COUNTED:
            raise DamagedFile(f"{path}: {key} is no whole number from 0 up")
    if not all(isinstance(written, dict) and written for written in (state["files"] or {}).values()):
        raise DamagedFile(f"{path}: files does not say how long each is")
    if not all(type(value) in (int, float) for value in (state["scaler"] or {}).values()):
        raise DamagedFile(f"{path}: scaler holds more than numbers")


def nimg_of(path: Path) -> int:
    """The clock that a checkpoint's name tells."""
    return int(path.name.removeprefix("nimg"))


def digest_of(state: dict) -> str:
    """The sha256 of a state, its own entry `sha256` aside."""
    return hashlib.sha256(json.dumps(state | {"sha256": None}, sort_keys=True).encode()).hexdigest()


def fingerprint(path: Path) -> dict:
    """A file's length and sha256."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


# ---- other versions


def migrate(path: Path, state: object) -> dict:
    """Bring an old checkpoint's state up to date, version by version.

    Raises:
        DamagedFile: no state at all.
        DinogenError: a version that this dinogen cannot read.
    """
    version = state.get("version") if isinstance(state, dict) else None
    if type(version) is not int or (version == VERSION and None in (state.get("files"), state.get("sha256"))):
        raise DamagedFile(f"{path / STATE_FILE}: no checkpoint's state")
    while version in MIGRATIONS:
        state = MIGRATIONS[version](state)
        version = state["version"]
    if version != VERSION:
        raise DinogenError(
            f"{path} has checkpoint version {version}, this dinogen reads {min(MIGRATIONS)} to {VERSION}; go on with "
            "the dinogen that wrote it, or start anew with another --output"
        )
    return state


def migrate_1(state: dict) -> dict:
    """Version 1 had no list of files, so that what happened to them cannot be noticed, and no banks at first."""
    return {"bank_resolution": None, **state, "version": 2, "files": None, "sha256": None}


MIGRATIONS: dict[int, Callable[[dict], dict]] = {1: migrate_1}
