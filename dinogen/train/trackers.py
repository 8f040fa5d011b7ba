"""Where scalars and pictures of a run go: stats.jsonl in its folder, and what accelerate's trackers serve."""

import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, get_available_trackers
from PIL.Image import Image

from dinogen.config import RunConfig
from dinogen.errors import DinogenError, UsageError, first_line
from dinogen.files import write_bytes
from dinogen.train.run_folder import RunFolder
from dinogen.train.run_log import LOG

Tracker = Any  # a GeneralTracker, whose types leave out what all its kinds have
PROJECT = "dinogen"  # under which services file the runs
NAME_OF_RUN = {"wandb": "name", "trackio": "name", "mlflow": "run_name", "swanlab": "experiment_name"}


class StatsFile(GeneralTracker):
    """One JSON object for each time that something is logged: `cur_nimg`, `kimg`, `time` and the scalars, by their tags
    without the numbers that sort them.

    Args:
        path: of the file. Lines after the clock that a launch begins at are cut: they are about to come again.
        cur_nimg: that clock.
    """

    name = "stats"
    requires_logging_directory = False

    def __init__(self, path: Path, cur_nimg: int):
        super().__init__()
        self.path, self.cur_nimg = path, cur_nimg

    @property
    def tracker(self) -> Path:
        return self.path

    def start(self) -> None:
        if self.path.exists():
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
            write_bytes(self.path, "".join(line for line in lines if self.is_past(line)).encode())

    def is_past(self, line: str) -> bool:
        """Whether a line is whole and no later than the clock at the start."""
        try:
            return line.endswith("\n") and json.loads(line)["cur_nimg"] <= self.cur_nimg
        except (ValueError, KeyError, TypeError):
            return False

    def log(self, values: dict, step: int | None = None, **more: object) -> None:
        line: dict[str, object] = {"cur_nimg": step, "kimg": (step or 0) / 1000, "time": round(time.time(), 3)}
        for tag, value in values.items():
            line[re.sub(r"^\d_", "", tag)] = float(f"{value:.6g}") if math.isfinite(value) else None  # JSON has no NaN
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class Trackers:
    """Those of a run. One that fails says so, once until it works again, and does not take the run with it."""

    def __init__(self, trackers: Sequence[Tracker] = ()):
        self.trackers = trackers
        self.failing: set[str] = set()

    def log(self, scalars: Mapping[str, float], cur_nimg: int) -> None:
        """Write scalars by their tags; what stands before a tag's slash is its group."""
        self._each(lambda tracker: tracker.log(dict(scalars), step=cur_nimg))

    def show(self, pictures: Mapping[str, Image], cur_nimg: int) -> None:
        """Write pictures by their tags, where a tracker takes pictures."""
        self._each(lambda tracker: show(tracker, pictures, cur_nimg))

    def finish(self) -> None:
        self._each(lambda tracker: tracker.finish())

    def _each(self, use: Callable[[Tracker], None]) -> None:
        for tracker in self.trackers:
            try:
                use(tracker)
                self.failing.discard(tracker.name)
            except Exception as error:  # services fail in ways of their own
                if tracker.name not in self.failing:
                    LOG.warning(f"{tracker.name} could not be written ({first_line(error)}). Training continues.")
                self.failing.add(tracker.name)


def show(tracker: Tracker, pictures: Mapping[str, Image], cur_nimg: int) -> None:
    if hasattr(tracker, "log_images"):
        layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
        tracker.log_images({tag: np.asarray(p)[None] for tag, p in pictures.items()}, step=cur_nimg, **layout)


def check_trackers(names: Sequence[str]) -> None:
    """Refuse names of trackers that cannot serve.

    Raises:
        UsageError: accelerate does not know one, or its package is not installed.
    """
    available = [str(kind) for kind in get_available_trackers()]
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise UsageError(f"trackers: '{name}' is not known; choose from {', '.join(LOGGER_TYPE_TO_CLASS)}")
        if name not in available:
            raise UsageError(f"trackers: {name} is not installed; pip install {name}, or leave it out of trackers")


def open_trackers(config: RunConfig, folder: RunFolder, cur_nimg: int) -> Trackers:
    """Start what a run's config names, and its stats.jsonl, at a clock reading.

    Raises:
        DinogenError: one of them does not start, as a service that wants a login.
    """
    name = Path(config.output).absolute().name
    trackers: list[Tracker] = [StatsFile(folder.stats, cur_nimg)]
    for service in dict.fromkeys(config.trackers):
        kind = LOGGER_TYPE_TO_CLASS[service]
        if service == "tensorboard":
            # What was logged after the checkpoint is about to come again; what was logged at it is not.
            trackers.append(kind(name, folder.tensorboard, purge_step=cur_nimg + 1))
        else:
            place = [folder.root / service] if kind.requires_logging_directory else []
            trackers.append(kind(PROJECT, *place, **({NAME_OF_RUN[service]: name} if service in NAME_OF_RUN else {})))
    for tracker in trackers:
        try:
            tracker.start()
            if tracker.name != "tensorboard":  # it would open a second run for them; config.yaml holds them
                tracker.store_init_configuration(dict(flat(asdict(config))))
        except DinogenError:
            raise
        except Exception as error:
            raise DinogenError(f"trackers: {tracker.name} does not start: {first_line(error)}") from error
    return Trackers(trackers)


def flat(values: Mapping, parents: str = "") -> list[tuple[str, object]]:
    """Keys with dots, and values that any tracker takes."""
    pairs: list[tuple[str, object]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            pairs += flat(value, f"{parents}{key}.")
        else:
            pairs.append((f"{parents}{key}", value if isinstance(value, bool | int | float | str) else str(value)))
    return pairs
