"""The layout of a run's folder, and the notes that make a run repeatable.

RUN/config.yaml          the merged config
RUN/teacher.json         the spec of the teacher that it was started with
RUN/environment.json     versions, devices, git state, one entry a launch
RUN/checkpoints/nimg…/   everything to resume from; the last `saving.keep_checkpoints` are kept
RUN/snapshots/kimg…/     the averaged generator, for users
RUN/pictures/            grids of samples
RUN/log.txt              what was said on the screen and at each point of the scalars, with times
RUN/stats.jsonl          scalars, one JSON object a line
RUN/tensorboard/NAME/    scalars and images, under the run's name
RUN/.lock                held by the trainer that writes here
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import accelerate
import torch
import transformers
import yaml

import dinogen
from dinogen.config import RunConfig
from dinogen.distributed import from_first_rank
from dinogen.errors import DinogenError
from dinogen.files import remove_leftovers, write_bytes, write_json
from dinogen.folder_lock import FolderLock
from dinogen.pyramid import StagedSpec, read_specs


class RunFolder:
    """Paths inside a run's folder."""

    def __init__(self, root: Path):
        self.root = root
        self.config = root / "config.yaml"
        self.teacher = root / "teacher.json"
        self.environment = root / "environment.json"
        self.checkpoints = root / "checkpoints"
        self.snapshots = root / "snapshots"
        self.pictures = root / "pictures"
        self.tensorboard = root / "tensorboard"
        self.log = root / "log.txt"
        self.stats = root / "stats.jsonl"
        self.lock = FolderLock(root, "is training")

    @contextmanager
    def in_use(self, config: RunConfig, specs: StagedSpec, devices: dict, device: torch.device) -> Iterator[None]:
        """Prepare the folder, and keep other trainers out of it while entered. Call on all ranks.

        Raises:
            DinogenError: another trainer writes here, or this one cannot.
        """
        from_first_rank(lambda: self.prepare(config, specs, devices), device)
        try:
            yield
        finally:
            self.lock.release()

    def prepare(self, config: RunConfig, specs: StagedSpec, devices: dict) -> None:
        """Create the folder and lock it, clear away what killed launches left, and write down the config, the teacher
        and where this launch runs. Call on the first rank.
        """
        self.lock.acquire()
        self.clear_leftovers()
        text = yaml.safe_dump(plain(asdict(config)), sort_keys=False, allow_unicode=True)
        write_bytes(self.config, text.encode())
        write_json(self.teacher, specs.to_dict())
        launches = self.noted(self.environment, list) or []
        write_json(self.environment, [*launches, describe_environment() | devices])

    def noted(self, path: Path, kind: type) -> Any:
        """What an earlier launch wrote into a file of this folder; None where there is no such file.

        Raises:
            DinogenError: it holds something else now.
        """
        try:
            # YAML's reader takes JSON too, but would need seconds for the notes of a hundred launches.
            found = (json.loads if path.suffix == ".json" else yaml.safe_load)(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError, yaml.YAMLError):
            found = None
        if not isinstance(found, kind):
            raise DinogenError(f"{path}: damaged; put a copy of it back, or delete it: the next launch writes it anew")
        return found

    def clear_leftovers(self) -> None:
        """Delete what killed launches of this run left half-written."""
        for folder in (self.root, self.checkpoints, self.snapshots, self.pictures):
            remove_leftovers(folder)

    def check_same_generator(self, config: RunConfig) -> None:
        """Refuse to resume with another network than the run was started with.

        Raises:
            DinogenError: names the first key that differs.
        """
        before = (self.noted(self.config, dict) or {}).get("generator")
        if not isinstance(before, dict):
            return
        for key, value in asdict(config.generator).items():
            if before.get(key) != value:
                raise DinogenError(
                    f"{self.root} was started with generator.{key} {before.get(key)}, now it is {value}; "
                    "give the old value, or another --output to start anew"
                )

    def check_same_words(self, config: RunConfig) -> None:
        """Refuse to resume with text a run that was started without, and the other way.

        Raises:
            DinogenError: says which, and what to do.
        """
        noted = self.noted(self.config, dict)
        if noted is None:
            return
        before, now = noted.get("words"), config.words
        if bool(before) != (now is not None):
            remedy = f"another --output with --init_from {self.root}" if now else "the old words again"
            raise DinogenError(f"{self.root} was started {'without' if now else 'with'} words; give {remedy}")
        before = {"source": "captions"} | (before if isinstance(before, dict) else {})  # before there was a choice
        for key in ("source", "attention"):
            if now is not None and before.get(key) != getattr(now, key):
                raise DinogenError(
                    f"{self.root} was started with words.{key} {str(before.get(key)).lower()}; give the old value, or "
                    "another --output to start anew"
                )

    def check_same_teacher(self, data: str, packed: StagedSpec) -> None:
        """Refuse to resume with shards that another teacher packed than those that the run was started with.

        Shards with more or fewer stages are welcome.

        Raises:
            DinogenError: says in what they differ, and what to do.
        """
        if not self.teacher.exists():
            return
        before = read_specs(self.teacher)
        for resolution in set(before) & set(packed):
            if before[resolution].fingerprint != packed[resolution].fingerprint:
                raise DinogenError(
                    f"{data}: packed with {packed.describe()}, but {self.root} was started with "
                    f"{before.describe()}; give the old --data, or another --output to start anew"
                )


def plain(value: Any) -> Any:
    """Tuples as lists, for YAML."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def describe_environment() -> dict:
    """Versions, machine, command line and git state."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "host": platform.node(),
        "pid": os.getpid(),
        "dinogen": dinogen.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "accelerate": accelerate.__version__,
        "git": git_state(),
    }


def git_state() -> dict | None:
    """Commit and whether the work tree differs from it; None outside a checkout or without git."""
    source = Path(dinogen.__file__).parent

    def ask(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(source), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "changed": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
