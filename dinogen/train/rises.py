"""Sudden rises of the gradient or the loss, and the batch that they came with."""

import json
import statistics
from collections import deque
from pathlib import Path

from dinogen.distributed import gather_objects, rank
from dinogen.train.health import Verdict
from dinogen.train.run_log import LOG

REMEMBERED = 64  # steps whose median is what is usual
ENOUGH = 16  # steps that a median needs
SUDDEN = 10.0  # times the median
KEYS_SHOWN = 4


class RiseWatch:
    """Notices when the gradient's norm or the loss is suddenly far above what it was.

    The loss of a drift is constant by construction, so that a bad batch shows in the gradient alone.
    """

    def __init__(self) -> None:
        self.kind: object = None
        self.recent: deque[tuple[float, float]] = deque(maxlen=REMEMBERED)

    def note(self, kind: object, verdict: Verdict) -> str | None:
        """Take in a step; returns what rose, if something did.

        Args:
            kind: what the step is comparable with: its stage and objective. Another one starts afresh.
            verdict: of a finite step.
        """
        if kind != self.kind:
            self.kind = kind
            self.recent.clear()
        rises = []
        for name, value, before in zip(
            ("gradient norm", "loss"), (verdict.gradient_norm, verdict.loss), zip(*self.recent)
        ):
            median = statistics.median(before)
            if len(before) >= ENOUGH and value > SUDDEN * median:
                rises.append(f"{name} {value:.3g}, the median of the {len(before)} steps before is {median:.3g}")
        self.recent.append((verdict.gradient_norm, verdict.loss))
        return "; ".join(rises) or None


def log_rise(folder: Path, cur_nimg: int, rise: str, keys: list[str]) -> None:
    """Name the batch, in a line of `rises.jsonl` and shortly on the screen. Call on all ranks, each with its keys."""
    everybodys = [key for part in gather_objects(keys) for key in part]
    if rank() != 0:
        return
    shown = f"{', '.join(everybodys[:KEYS_SHOWN])} … ({len(everybodys)} keys in {folder / 'rises.jsonl'})"
    LOG.warning(f"Sudden rise at {cur_nimg / 1000:.3f} kimg: {rise}. Its batch: {shown}")
    try:
        with open(folder / "rises.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"cur_nimg": cur_nimg, "rise": rise, "keys": everybodys}) + "\n")
    except OSError as error:
        LOG.warning(f"The keys could not be written there ({error.strerror}).")
