"""The layout of a run's folder, and the notes that make a run repeatable.

RUN/config.yaml          the merged config
RUN/environment.json     versions, devices, git state, one entry a launch
RUN/checkpoints/nimg…/   everything to go on from; the last `saving.keep_checkpoints` are kept
RUN/snapshots/kimg…/     the averaged generator, for users
RUN/pictures/            grids of samples
RUN/tensorboard/         scalars and images
"""

import json
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import accelerate
import torch
import transformers
import yaml

import dinogen
from dinogen.config import RunConfig
from dinogen.errors import DinogenError
from dinogen.files import make_output_folder, remove_leftovers, write_bytes, write_json


class RunFolder:
    """Paths inside a run's folder."""

    def __init__(self, root: Path):
        self.root = root
        self.config = root / "config.yaml"
        self.environment = root / "environment.json"
        self.checkpoints = root / "checkpoints"
        self.snapshots = root / "snapshots"
        self.pictures = root / "pictures"
        self.tensorboard = root / "tensorboard"

    def prepare(self, config: RunConfig, devices: dict) -> None:
        """Create the folder, clear away what killed launches left half-written, and write down the config and where
        this launch runs. Call on the first rank.
        """
        make_output_folder(self.root)
        self.clear_leftovers()
        text = yaml.safe_dump(plain(asdict(config)), sort_keys=False, allow_unicode=True)
        write_bytes(self.config, text.encode())
        launches = json.loads(self.environment.read_text()) if self.environment.exists() else []
        write_json(self.environment, [*launches, describe_environment() | devices])

    def clear_leftovers(self) -> None:
        """Delete what killed launches of this run left half-written."""
        for folder in (self.root, self.checkpoints, self.snapshots, self.pictures):
            remove_leftovers(folder)

    def check_same_generator(self, config: RunConfig) -> None:
        """Refuse to go on with another network than the run was started with.

        Raises:
            DinogenError: names the first key that differs.
        """
        if not self.config.exists():
            return
        before = yaml.safe_load(self.config.read_text())["generator"]
        for key, value in asdict(config.generator).items():
            if before.get(key) != value:
                raise DinogenError(
                    f"{self.root} was started with generator.{key} {before.get(key)}, now it is {value}; "
                    "give the old value, or another --output to start anew"
                )


def plain(value: object) -> object:
    """Tuples as lists, for YAML."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def describe_environment() -> dict:
    """Versions, machine, command line and git state."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
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
