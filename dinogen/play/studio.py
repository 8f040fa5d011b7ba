"""What the page draws, without the page: faces, walks, mixed styles, pyramids, photos on their way."""

import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor

from dinogen.errors import DinogenError
from dinogen.images import image_grid, png_bytes, save_film, to_float, to_pil, viewing_scale
from dinogen.library import Generator
from dinogen.networks.synthesis import block_resolutions
from dinogen.pictures import pyramid_rows
from dinogen.play.settings import TABS, Limits, Settings
from dinogen.project import open_teacher, project
from dinogen.sample import BATCH_SIZE, describe_sample, style_mixing
from dinogen.styles import style_bytes
from dinogen.teachers import Teacher

KEPT = 24  # drawn pages of faces that are kept, so that going back takes no time
FILM_FRAMES = 48  # there and back
FITTED_ON = 8  # faces whose embeddings decide what a colour means
SECONDS = 0.5  # between two pictures of a projection
NEW_SEEDS = 10_000  # short ones are easier to tell others


@dataclass(frozen=True)
class Projected:
    """Where the projection of a photo has got to.

    Args:
        step: steps done.
        steps: of all.
        distance: of the nearest face so far, see `dinogen.project.Likeness`.
        first: distance of the sample that it began with.
        picture: photo, nearest sample and face, side by side.
        style: the face so far as the content of a `w.safetensors`.
    """

    step: int
    steps: int
    distance: float
    first: float
    picture: Image
    style: bytes


class Studio:
    """Draws what `Settings` describe.

    Args:
        model: a run, a snapshot or a hub id.
        device: as `Generator.from_pretrained` takes it.
        encoder: where the text encoder is now; None where it was in training.
        teacher: whose pyramids are shown and compared: `auto`, the folder of a copy, or `none`.

    Raises:
        UsageError, DinogenError: see `Generator.from_pretrained`, and `open_teacher` for a folder.
    """

    def __init__(self, model: str, device: str = "auto", encoder: str | None = None, teacher: str = "auto"):
        self.model, self.device_name, self.encoder, self.teacher_name = model, device, encoder, teacher
        self.teacher: Teacher | None = None
        self.no_teacher = ""
        self.open()
        self.find_teacher()

    def open(self) -> None:
        """Open the model, or the newest snapshot that its run has by now."""
        generator = Generator.from_pretrained(self.model, self.device_name, self.encoder)
        self.no_words, guidance = "", 1.0
        if generator.takes_words:
            try:
                guidance = generator.reader.guidance
            except DinogenError as error:
                if self.encoder:
                    raise
                self.no_words = str(error)
        mixes = tuple(block_resolutions(generator.resolution)[:-1])
        words = generator.takes_words and not self.no_words
        self.generator, self.limits = generator, Limits(TABS, words, guidance, mixes)
        self.faces = lru_cache(maxsize=KEPT)(self._faces)

    def find_teacher(self) -> None:
        """Open the teacher, or keep the reason why it cannot be opened."""
        if self.teacher_name == "none":
            self.no_teacher = "no teacher was asked for (--teacher none)"
            return
        try:
            self.teacher = open_teacher(self.model, self.teacher_name, self.generator.device)
        except DinogenError as error:
            if self.teacher_name != "auto":
                raise
            self.no_teacher = str(error)
            print(f"The page shows no pyramids: {error}", file=sys.stderr)

    def about(self, settings: Settings) -> str:
        """What a file with a face keeps of how it was drawn."""
        prompt = settings.prompt or None
        return describe_sample(self.generator.network, settings.seed, settings.psi, prompt, settings.guidance)

    def _faces(self, seed: int, psi: float, prompt: str, guidance: float, count: int) -> Tensor:
        # A CPU draws singly in half of the time: nothing is drawn that is not shown, and its caches hold an image.
        size = 1 if self.generator.device.type == "cpu" else BATCH_SIZE
        return self.generator.sample(count, seed, prompt or None, psi, guidance, batch_size=size, output="pt")

    def page(self, settings: Settings) -> Tensor:
        """The faces of the grid, uint8 `[count, 3, R, R]`: those of `dinogen sample`, to one grey level."""
        return self.faces(settings.seed, settings.psi, settings.prompt, settings.guidance, settings.count)

    def face(self, settings: Settings) -> Tensor:
        """The face that was picked, uint8 `[3, R, R]`; it need not be in the grid."""
        if settings.face < settings.count:
            return self.page(settings)[settings.face]
        return self.walk_between(settings, settings.face, settings.face, 2)[0]

    def png(self, settings: Settings) -> bytes:
        """The picked face as a file that keeps its seed and settings."""
        return png_bytes(to_pil(self.face(settings)), self.about(settings))

    @staticmethod
    def file_name(settings: Settings) -> str:
        """As `dinogen sample` names it."""
        return f"seed{settings.seed:04d}-{settings.face:06d}.png"

    def walk_between(self, settings: Settings, start: int, end: int, frames: int) -> Tensor:
        prompt, psi, guidance = settings.prompt or None, settings.psi, settings.guidance
        return self.generator.interpolate(start, end, frames, settings.seed, prompt, psi, guidance, output="pt")

    def walk(self, settings: Settings) -> Image:
        """A strip from face to face."""
        strip = self.walk_between(settings, settings.start, settings.end, settings.frames)
        return image_grid(strip, len(strip), viewing_scale(self.generator.resolution))

    def film(self, settings: Settings) -> bytes:
        """A walk there and back, as an MP4."""
        there = self.walk_between(settings, settings.start, settings.end, FILM_FRAMES // 2 + 1)
        with tempfile.TemporaryDirectory() as folder:
            save_film([*there, *there.flip(0)[1:-1]], Path(folder, "walk.mp4"))
            return Path(folder, "walk.mp4").read_bytes()

    def mix(self, settings: Settings) -> Image:
        """A table: the coarse styles of a face a row, the fine ones of another a column."""
        words = self.generator.words_of(settings.prompt or None, settings.guidance)
        faces, upto = (settings.coarse, settings.fine), settings.upto or None
        table = style_mixing(self.generator.network, *faces, settings.seed, settings.psi, words, upto)
        labels = ["", *(f"fine {number}" for number in settings.fine)]
        for number in settings.coarse:
            labels += [f"coarse {number}", *("" for _ in settings.fine)]
        return image_grid(table, 1 + len(settings.fine), viewing_scale(self.generator.resolution), labels)

    @torch.no_grad()
    def pyramid(self, settings: Settings) -> Image | None:
        """What the teacher sees of the picked face, a row for each layer; None without a teacher."""
        if self.teacher is None:
            return None
        others = self.page(replace(settings, count=FITTED_ON))
        faces = torch.cat([self.face(settings)[None], others]).to(self.generator.device)
        return pyramid_rows(self.teacher(to_float(faces)), self.teacher.specs.nearest(faces.shape[-1]))

    def projection(self, photo: Tensor, steps: int, seed: int = 0) -> Iterator[Projected]:
        """The way from the nearest sample to a photo's face, some times a second and at its end.

        Args:
            photo: uint8 `[3, R, R]`.
            steps: of the way.
            seed: of the samples to begin with.
        """
        network, shown_at, start = self.generator.network, -SECONDS, None
        for number, step in enumerate(project(network, to_float(photo), self.teacher, steps, seed)):
            start = step if start is None else start
            if time.monotonic() - shown_at < SECONDS and number < steps:
                continue
            nearest = self.generator.draw(step.w[None], output="pt")[0]
            images, labels = torch.stack([photo, start.image, nearest]), ["photo", "nearest sample", "projected"]
            picture = image_grid(images, 3, viewing_scale(self.generator.resolution), labels)
            style = style_bytes(step.w, network)
            yield Projected(number, steps, step.distance, start.distance, picture, style)
            shown_at = time.monotonic()


def new_seed() -> int:
    """A seed that nobody has chosen."""
    return secrets.randbelow(NEW_SEEDS)
