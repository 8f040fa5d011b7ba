"""What the page shows of a run while it trains; read from the files that the trainer writes, never from the trainer."""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from dinogen.evaluate.curves import charts, read_curves
from dinogen.opening import newest_snapshot, run_of
from dinogen.page import ENVIRONMENT

TEMPLATE = "training.html"
LINES = 12  # of the log
LOG_BYTES = 20_000  # from which they are taken
FIGURES = {  # of a line of the log, and how they are called
    "kimg": "kimg",
    "schedule/resolution": "pixels a side",
    "loss/total": "loss",
    "overview/drift": "drift",
    "overview/spread": "spread",
    "overview/diversity": "diversity",
    "overview/images_per_second": "images a second",
    "metrics/face_rate": "face rate",
    "metrics/frechet_detector": "Fréchet distance, detector",
}
PICTURE_SIDE = 1100  # pixels at most


@dataclass(frozen=True)
class Training:
    """A run's folder, looked at from outside.

    Args:
        run: the folder.
    """

    run: Path

    @classmethod
    def of(cls, model: str) -> "Training | None":
        """The run that a model is, or whose snapshot it is; None where it is of none."""
        run = run_of(model)
        return None if run is None else cls(run)

    def stamp(self) -> tuple[object, ...]:
        """Changes when there is something new to see."""
        files = [self.run / "stats.jsonl", self.run / "log.txt", self.newest_picture()]
        return tuple(stamp_of(file) for file in files)

    def newest_picture(self) -> Path | None:
        """The newest grid of samples."""
        return max((self.run / "pictures").glob("kimg*.png"), key=lambda path: path.stem, default=None)

    def newest_kimg(self) -> str | None:
        """Of the newest snapshot, as its folder says it."""
        snapshot = newest_snapshot(self.run)
        return None if snapshot is None else f"{float(snapshot.name.removeprefix('kimg')):g}"

    def figures(self) -> dict[str, str]:
        """The newest value of each figure."""
        found: dict[str, float] = {}
        for line in lines_at_end(self.run / "stats.jsonl"):
            with suppress(ValueError, AttributeError, TypeError):  # the first line is cut, the last may be half-written
                found |= {key: float(value) for key, value in json.loads(line).items() if key in FIGURES}
        return {name: f"{found[key]:.4g}" for key, name in FIGURES.items() if key in found}

    def html(self) -> str:
        """The newest picture, figures, curves and lines of the log, as a part of a page. All text is escaped."""
        picture = self.newest_picture()
        return ENVIRONMENT.get_template(TEMPLATE).render(
            picture=None if picture is None else open_reduced(picture),
            named="" if picture is None else f"{float(picture.stem.removeprefix('kimg')):g} kimg",
            figures=self.figures(),
            charts=charts([read_curves(self.run)]),
            log=lines_at_end(self.run / "log.txt")[-LINES:],
        )


def stamp_of(file: Path | None) -> tuple[str, int, int] | None:
    """Name, size and time of a file; None where there is none."""
    if file is None or not file.exists():
        return None
    status = file.stat()
    return file.name, status.st_size, status.st_mtime_ns


def lines_at_end(file: Path) -> list[str]:
    """The last whole lines of a file that may grow to any length; none where there is none."""
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - LOG_BYTES))
            lines = stream.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return lines[1:] if size > LOG_BYTES else lines


def open_reduced(path: Path) -> Image.Image | None:
    """A picture, not larger than a page; None while it cannot be read."""
    try:
        with Image.open(path) as image:
            image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
            return image.convert("RGB")
    except (OSError, UnidentifiedImageError):
        return None
