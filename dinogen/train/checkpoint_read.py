"""Reading one checkpoint: everything is checked before anything is used, and old versions are brought up to date."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from dinogen.data.order import LoaderState
from dinogen.errors import DinogenError
from dinogen.kept import Kept
from dinogen.tensor_files import DamagedFile, check_header, quoted, read_json, read_tensors

VERSION = 3
STATE_FILE = "state.json"
MOST_COUNTED = 2**53  # images, steps, samples: beyond it JSON's numbers are not exact

OLD_FILES = {"heads": "adversary"}  # stems that files had in earlier versions

# What state.json holds, and of which type.
STATE = {
    "version": int,
    "cur_nimg": int,
    "cur_step": int,
    "world_size": int,
    "loader": dict,
    "scaler": dict | None,
    "files": dict | None,  # None: an old version's, which had no list, and no sha256 of the rest of state.json
    "sha256": str | None,
}


def load_checkpoint(path: Path, kept: Sequence[Kept]) -> tuple[dict[str, dict[str, Tensor]], dict]:
    """Read a checkpoint back: its tensors by file, and its state. Old versions are brought up to date.

    Raises:
        DamagedFile: names the file and what is wrong with it.
        DinogenError: a checkpoint of another version.
    """
    state = migrate(path, read_json(path / STATE_FILE))
    check_state(path / STATE_FILE, state)
    if state["cur_nimg"] != nimg_of(path):
        raise DamagedFile(f"{path}: holds the checkpoint of {state['cur_nimg']} images, which its name denies")
    listed = state["files"]
    needed = {part.file for part in kept if not part.joins_late}
    if listed is not None and not needed <= listed.keys():
        raise DamagedFile(f"{path / STATE_FILE}: lists other files than {', '.join(sorted(needed))}")
    tensors = {}
    for part in kept:
        if part.joins_late and (listed is None or part.file not in listed):
            continue
        old = OLD_FILES.get(part.file, part.file)
        name = old if (path / f"{old}.safetensors").exists() else part.file
        written = listed and listed[part.file]
        tensors[part.file] = read_listed(path / f"{name}.safetensors", written, part)
    if len(tensors["random"]["ranks"]) != state["world_size"]:
        ranks = len(tensors["random"]["ranks"])
        raise DamagedFile(
            f"{path / 'random.safetensors'}: {ranks} ranks' random states instead of {state['world_size']}"
        )
    return tensors, state


def read_listed(file: Path, written: dict | None, part: Kept) -> dict[str, Tensor]:
    """The tensors of one file, whose length and sha256 must be as they were `written` down, where they were."""
    check_header(file)
    if written and file.stat().st_size != written.get("bytes"):
        raise DamagedFile(f"{file}: {file.stat().st_size} bytes long, but {written.get('bytes')} were written")
    # Before the hash: names and shapes bound what is read.
    tensors = read_tensors(file, part.expected(), part.may_lack_groups)
    if written and fingerprint(file) != written:
        raise DamagedFile(f"{file}: its sha256 is not the one in {STATE_FILE}")
    if misfit := part.misfit(tensors):
        raise DamagedFile(f"{file}: {misfit}")
    return tensors


def check_state(path: Path, state: dict) -> None:
    """Refuse a state that training could not resume from.

    Raises:
        DamagedFile: a key is missing, unknown, or of another type.
    """
    if difference := sorted(STATE.keys() ^ state.keys()):
        what = "is missing" if difference[0] in STATE else "is unknown"
        raise DamagedFile(f"{path}: the key {quoted(difference[0])} {what}")
    for key, kind in STATE.items():
        value = state[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise DamagedFile(f"{path}: {key} is not {getattr(kind, '__name__', kind)}")
    counts = {key: state[key] for key in ("cur_nimg", "cur_step", "world_size")} | state["loader"]
    if state["loader"].keys() != LoaderState.__dataclass_fields__.keys():
        raise DamagedFile(f"{path}: loader does not say epoch and position")
    for key, count in counts.items():
        if type(count) is not int or not 0 <= count < MOST_COUNTED:
            raise DamagedFile(f"{path}: {key} is not a whole number from 0 up")
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


def migrate(path: Path, state: Any) -> dict[str, Any]:
    """Bring an old checkpoint's state up to date, version by version.

    Raises:
        DamagedFile: no state at all, or one that was changed since it was written.
        DinogenError: a version that this dinogen cannot read.
    """
    version = state.get("version") if isinstance(state, dict) else None
    if type(version) is not int or (version in (2, VERSION) and None in (state.get("files"), state.get("sha256"))):
        raise DamagedFile(f"{path / STATE_FILE}: no checkpoint's state")
    if version in (2, VERSION) and state["sha256"] != digest_of(state):
        raise DamagedFile(f"{path / STATE_FILE}: changed since it was written")
    while version in MIGRATIONS:
        state = MIGRATIONS[version](state)
        version = state["version"]
    if version != VERSION:
        raise DinogenError(
            f"{path} has checkpoint version {version}, this dinogen reads {min(MIGRATIONS)} to {VERSION}; resume with "
            "the dinogen that wrote it, or start anew with another --output"
        )
    return state


def migrate_1(state: dict) -> dict:
    """Version 1 had no list of files, so that what happened to them cannot be noticed."""
    return {"bank_resolution": None, **state, "version": 2, "files": None, "sha256": None}


def migrate_2(state: dict) -> dict:
    """Version 2 named files with their suffix, called heads `adversary`, and kept banks of features, which are gone."""
    state = {key: value for key, value in state.items() if key != "bank_resolution"}
    if isinstance(state["files"], dict):
        stems = {name.removesuffix(".safetensors"): written for name, written in state["files"].items()}
        renamed = {old: new for new, old in OLD_FILES.items()}
        state["files"] = {renamed.get(stem, stem): written for stem, written in stems.items() if stem != "banks"}
    return state | {"version": 3}


MIGRATIONS: dict[int, Callable[[dict], dict]] = {1: migrate_1, 2: migrate_2}
