"""What the page answers when something on it is used. All drawing is `studio`'s."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import gradio as gr
from torch import Tensor

from dinogen.advice import public_name
from dinogen.errors import DinogenError
from dinogen.images import png_bytes, to_pil
from dinogen.play import pieces
from dinogen.play.following import Training
from dinogen.play.settings import Limits, Settings, as_text, read_settings
from dinogen.play.studio import Studio, new_seed

CONTROLS = tuple(field.name for field in fields(Settings))
PARTS = ("gallery", "details", "walk", "mixed", "pyramid")  # of which a tab shows some
SHOWN = len(PARTS) + 2  # outputs of whatever draws: the parts, the notice, the link
MOST_STEPS = 400

OpenPhoto = Callable[[bytes, int, bool], Tensor]


class Answers:
    """Answers to the browser. Values come in the order of `CONTROLS`; pictures go back in that of `PARTS`.

    Args:
        studio: draws.
        open_photo: gives a photo's face, uint8 `[3, R, R]`, from the file's bytes, R, and whether it is a crop already;
            raises DinogenError with what to tell whoever chose it.
        uploads: the folder in which Gradio keeps what was uploaded; nothing outside it is read.
    """

    def __init__(self, studio: Studio, open_photo: OpenPhoto, uploads: Path):
        self.studio, self.open_photo, self.uploads = studio, open_photo, uploads.resolve()
        self.training = Training.of(studio.model)

    @property
    def limits(self) -> Limits:
        """What the model can do, and which tabs there are."""
        limits = self.studio.limits
        return limits if self.training else replace(limits, tabs=tuple(tab for tab in limits.tabs if tab != "training"))

    def about_model(self) -> str:
        """The heading."""
        generator = self.studio.generator
        side = generator.resolution
        steered = ", steered by words" if self.limits.words else ""
        words = (
            f"{public_name(self.studio.model)}: {side}×{side} pixels{steered}, model {generator.network.fingerprint}"
        )
        note = f"Prompts cannot be read here: {self.studio.no_words}" if self.studio.no_words else ""
        return f"<h2>dinogen playground</h2>{pieces.paragraph(words)}{pieces.paragraph(note, 'dinogen-warning')}"

    def settings_of(self, values: tuple) -> tuple[Settings, list[str]]:
        return read_settings(dict(zip(CONTROLS, values)), self.limits)

    def show(self, request: gr.Request, *values: object) -> list:
        """Draw what the open tab shows."""
        return self.drawn(*self.settings_of(values), request)

    def drawn(self, settings: Settings, complaints: list[str], request: gr.Request) -> list:
        """The outputs of one tab; the others stay as they are, and are drawn when they are opened."""
        parts: dict[str, Any] = dict.fromkeys(PARTS, gr.skip())
        try:
            parts |= self.parts_of(settings)
        except DinogenError as error:
            complaints = [*complaints, str(error)]
        notice = "".join(pieces.paragraph(text, "dinogen-warning") for text in complaints)
        return [*parts.values(), notice, place_of(request) + settings.query()]

    def parts_of(self, settings: Settings) -> dict[str, Any]:
        """What the open tab shows, by the names of its parts."""
        studio, about = self.studio, self.studio.about(settings)
        stem = f"seed{settings.seed:04d}"
        if settings.tab == "faces":
            faces = [(to_pil(face), f"{number}") for number, face in enumerate(studio.page(settings))]
            return {"gallery": gr.Gallery(faces, selected_index=None), "details": self.details_of(settings)}
        if settings.tab == "walk":
            name = f"walk-{stem}-{settings.start:06d}-{settings.end:06d}.png"
            alt = f"Walk from face {settings.start} to face {settings.end}"
            return {"walk": pieces.shown(studio.walk(settings), name, alt, about)}
        if settings.tab == "mix":
            return {"mixed": pieces.shown(studio.mix(settings), f"mixed-{stem}.png", "Mixed styles", about)}
        if settings.tab == "teacher" and (picture := studio.pyramid(settings)):
            face = pieces.picture(png_bytes(to_pil(studio.face(settings))), f"Face {settings.face}", "dinogen-face")
            maps = pieces.shown(picture, f"pyramid-{studio.file_name(settings)}", "Pyramid", about)
            return {"pyramid": f'<div class="dinogen-pair">{face}<div>{maps}</div></div>'}
        return {}

    def details_of(self, settings: Settings) -> str:
        """The picked face, how it was drawn, and its file."""
        payload, name = self.studio.png(settings), self.studio.file_name(settings)
        words = f"Face {settings.face} of seed {settings.seed}. The file keeps: {self.studio.about(settings)}"
        face = pieces.picture(payload, f"Face {settings.face}", "dinogen-face")
        return face + pieces.download(payload, "image/png", name, f"Save {name}") + pieces.paragraph(words)

    def opener(self, name: str) -> Callable:
        """What opens a tab."""

        def open_tab(request: gr.Request, *values: object) -> list:
            timer = [gr.Timer(active=name == "training")] if self.training else []
            if values[0] == name:  # what has opened it has drawn it, such as an address
                return [gr.skip(), *timer, *[gr.skip()] * SHOWN]
            settings, complaints = self.settings_of((name, *values[1:]))
            return [name, *timer, *self.drawn(settings, complaints, request)]

        return open_tab

    def open_page(self, request: gr.Request) -> list:
        """What an address asks for."""
        settings, complaints = read_settings(asked_for(request), self.limits)
        controls = [getattr(settings, name) for name in CONTROLS]
        controls = [as_text(value) if isinstance(value, tuple) else value for value in controls]
        return [gr.Tabs(selected=settings.tab), *controls, *self.drawn(settings, complaints, request)]

    def renew_seed(self, request: gr.Request, *values: object) -> list:
        settings, complaints = self.settings_of(values)
        settings = replace(settings, seed=new_seed())
        return [settings.seed, *self.drawn(settings, complaints, request)]

    def pick(self, event: gr.SelectData, request: gr.Request, *values: object) -> list:
        """A click on a face of the grid; the grid stays as it is."""
        settings, complaints = self.settings_of(values)
        settings = replace(settings, face=event.index)
        _, *others = self.drawn(settings, complaints, request)
        return [settings.face, gr.skip(), *others]

    def walk_from(self, *values: object) -> list:
        settings, _ = self.settings_of(values)
        words = f"A walk begins with face {settings.face}. Pick another face, and press “Walk to it”."
        return [settings.face, pieces.paragraph(words)]

    def walk_to(self, request: gr.Request, *values: object) -> list:
        settings, complaints = self.settings_of(values)
        settings = replace(settings, end=settings.face, tab="walk")
        return [gr.Tabs(selected="walk"), "walk", settings.end, *self.drawn(settings, complaints, request)]

    def look(self, request: gr.Request, *values: object) -> list:
        settings, complaints = self.settings_of(values)
        drawn = self.drawn(replace(settings, tab="teacher"), complaints, request)
        return [gr.Tabs(selected="teacher"), "teacher", *drawn]

    def make_film(self, *values: object) -> list:
        settings, complaints = self.settings_of(values)
        try:
            name = f"walk-seed{settings.seed:04d}-{settings.start:06d}-{settings.end:06d}.mp4"
            film = pieces.film(self.studio.film(settings), name)
        except DinogenError as error:
            film, complaints = "", [*complaints, str(error)]
        return [film, "".join(pieces.paragraph(text, "dinogen-warning") for text in complaints)]

    def take_photo(self, uploaded: object, aligned: bool) -> list:
        """Read a photo and cut its face. Its file is gone when this returns, whatever becomes of it."""
        try:
            crop = self.open_photo(read_and_delete(uploaded, self.uploads), self.studio.generator.resolution, aligned)
        except DinogenError as error:
            return [None, pieces.paragraph(str(error), "dinogen-warning"), "", None]
        picture = pieces.picture(png_bytes(to_pil(crop)), "The photo's face", "dinogen-face")
        return [crop, picture + pieces.paragraph("Its face, as it will be looked for."), "", None]

    def project(self, crop: Tensor | None, steps: float, agreed: bool, seed: object) -> Iterator[str]:
        """The way to a photo's face, with pictures."""
        if crop is None:
            yield pieces.paragraph("Choose a photo first.", "dinogen-warning")
            return
        if not agreed:
            yield pieces.paragraph("Tick first that the person has agreed, or that it is nobody.", "dinogen-warning")
            return
        settings, _ = read_settings({"seed": seed}, self.limits)
        for found in self.studio.projection(crop, max(1, min(int(steps), MOST_STEPS)), settings.seed):
            words = (
                f"Step {found.step} of {found.steps}: distance {found.distance:.3f}, {found.first:.3f} at the start."
            )
            files = pieces.download(found.style, "application/octet-stream", "w.safetensors", "Save its styles")
            yield (
                pieces.progress(found.step, found.steps)
                + pieces.paragraph(words)
                + pieces.shown(found.picture, "pair.png", "Photo, nearest sample and projected face", "")
                + files
            )

    def follow(self, stamp: object) -> list:
        """What is new of the training."""
        assert self.training is not None
        now = self.training.stamp()
        if now == stamp:
            return [gr.skip(), gr.skip(), gr.skip()]
        kimg = self.training.newest_kimg()
        newest = f"The newest snapshot is that of {kimg} kimg." if kimg else "There is no snapshot yet."
        return [self.training.html(), pieces.paragraph(newest), now]

    def reopen(self, request: gr.Request, *values: object) -> list:
        """Draw with the newest snapshot from now on, in all tabs of all visitors."""
        try:
            self.studio.open()
            words = f"All tabs draw with the newest snapshot now: model {self.studio.generator.network.fingerprint}."
        except DinogenError as error:
            words = str(error)
        settings, complaints = self.settings_of(values)
        return [self.about_model(), pieces.paragraph(words), *self.drawn(settings, complaints, request)]


def read_and_delete(uploaded: object, folder: Path) -> bytes:
    """The content of an uploaded file, which is gone afterwards.

    Args:
        uploaded: what Gradio says of it.
        folder: in which it must lie.

    Raises:
        DinogenError: no file came.
    """
    told = uploaded if isinstance(uploaded, dict) else getattr(uploaded, "__dict__", {})
    path = Path(str(told.get("path") or "")).resolve()
    if not path.is_relative_to(folder) or not path.is_file():
        raise DinogenError("no photo came; choose it again")
    try:
        return path.read_bytes()
    finally:
        path.unlink(missing_ok=True)
        if path.parent != folder:
            shutil.rmtree(path.parent, ignore_errors=True)


def place_of(request: gr.Request) -> str:
    """The page's own address without its query; nothing where a program asks."""
    return str(request.headers.get("referer") or "").partition("?")[0]


def asked_for(request: gr.Request) -> dict[str, str]:
    """The query of the page's address."""
    query = urlsplit(str(request.headers.get("referer") or "")).query
    return dict(parse_qsl(query, keep_blank_values=True)) or dict(request.query_params)
