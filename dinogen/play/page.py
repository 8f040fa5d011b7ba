"""The page itself, in Gradio: its controls and tabs, and which answer comes when one is used."""

from typing import Any

import gradio as gr

from dinogen.advice import public_name
from dinogen.play import pieces
from dinogen.play.answers import CONTROLS, MOST_STEPS, Answers
from dinogen.play.settings import (
    FEWEST_FRAMES,
    MOST_FACES,
    MOST_FRAMES,
    MOST_LETTERS,
    MOST_PSI,
    TABS,
    Settings,
    as_text,
)

LABELS: dict[str, str] = dict(zip(TABS, ("Faces", "Walk", "Mix", "What the teacher sees", "Photo", "Training")))
STEPS = 150  # of a projection
PHOTO_MEGABYTES = 20
MOST_WAITING = 32  # clicks of all visitors together; more are refused
KEPT_SECONDS = 600  # for which drawn pictures, and uploads that nobody read, stay in the page's temporary folder
PHOTO_SECONDS = 1800  # for which a photo's crop stays in memory
FOLLOW_SECONDS = 5
PRIVACY = (
    "If the photo shows a real person: ask that person first, for this use and for what you will show. The photo's "
    "file is deleted as soon as it is read. Its crop stays in this machine's memory until you press Forget, for half "
    "an hour at most. What you save is personal data like the photo: delete it when you delete the photo."
)
SHOW_ADDRESS = "(link) => { try { history.replaceState(null, '', link) } catch (error) {} }"
CSS = """
#gallery .grid-wrap { max-height: none; }
.dinogen-picture { max-width: 100%; height: auto; display: block; }
.dinogen-face { width: min(100%, 320px); image-rendering: auto; display: block; border-radius: 4px; }
.dinogen-film { width: min(100%, 320px); display: block; }
.dinogen-note { opacity: .75; margin: .4em 0; overflow-wrap: anywhere; }
.dinogen-warning { border-left: 4px solid #d97706; padding: .3em .8em; margin: .4em 0; overflow-wrap: anywhere; }
.dinogen-save { display: inline-block; margin: .4em .8em .4em 0; text-decoration: underline; }
.dinogen-progress { width: 100%; }
.dinogen-figures { display: flex; flex-wrap: wrap; gap: .6em 2em; margin: .4em 0 1em; }
.dinogen-figures div { display: flex; flex-direction: column; }
.dinogen-figures strong { font-size: 1.4em; font-variant-numeric: tabular-nums; }
.dinogen-figures span { opacity: .75; }
.dinogen-figure { margin: 0 0 1em; }
.dinogen-figure img { max-width: min(100%, 640px); }
.dinogen-pair { display: flex; flex-wrap: wrap; gap: 1.5em; align-items: flex-start; }
.dinogen-pair > .dinogen-face { width: 200px; margin-top: 20px; }
.dinogen-log { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85em; margin-top: 1em; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); gap: 12px; }
.plots svg { width: 100%; height: auto; font: 11px system-ui, sans-serif; fill: currentColor; }
"""


class Page:
    """The playground of a model.

    Args:
        answers: draw.
    """

    def __init__(self, answers: Answers):
        self.answers, self.studio, self.limits = answers, answers.studio, answers.limits
        self.training = answers.training

    def build(self) -> gr.Blocks:
        """The page, not yet served."""
        name = public_name(self.studio.model)
        with gr.Blocks(
            title=f"{name}: dinogen", analytics_enabled=False, delete_cache=(60, KEPT_SECONDS), fill_width=True
        ) as blocks:
            self.heading = gr.HTML(self.answers.about_model())
            self.tab = gr.State("faces")
            with gr.Row():
                with gr.Column(scale=1, min_width=240):
                    self.add_controls()
                with gr.Column(scale=4, min_width=320):
                    self.add_tabs()
            self.connect(blocks)
        blocks.queue(max_size=MOST_WAITING, default_concurrency_limit=1)
        return blocks

    def add_controls(self) -> None:
        """What all tabs share, on the left."""
        words, usual = self.limits.words, Settings()
        self.seed = gr.Number(usual.seed, label="Seed", precision=0, minimum=0, elem_id="seed")
        self.another = gr.Button("Another seed", variant="primary", elem_id="another")
        self.psi = gr.Slider(
            0, MOST_PSI, usual.psi, step=0.05, label="Truncation", elem_id="psi", buttons=[],
            info="1 keeps all variety; lower is safer and more alike",
        )  # fmt: skip
        self.prompt = gr.Textbox(
            label="Prompt", placeholder="a woman with red hair", max_length=MOST_LETTERS, visible=words,
            elem_id="prompt", info="Enter draws",
        )  # fmt: skip
        most = max(self.limits.guidance, 1.0)
        self.guidance = gr.Slider(
            1, max(most, 1.1), usual.guidance, step=0.1, label="Guidance", visible=words and most > 1, buttons=[],
            elem_id="guidance", info="How far the prompt is exaggerated",
        )  # fmt: skip
        self.count = gr.Slider(1, MOST_FACES, usual.count, step=1, label="Faces", elem_id="count", buttons=[])
        self.notice = gr.HTML(elem_id="notice")
        self.link = gr.Textbox(label="Link to what you see", interactive=False, buttons=["copy"], elem_id="link")

    def add_tabs(self) -> None:
        """What is drawn, on the right."""
        adders = {name: getattr(self, f"add_{name}") for name in self.limits.tabs}
        with gr.Tabs(elem_id="tabs") as self.tabs:
            self.tab_of = {}
            for name, add in adders.items():
                with gr.Tab(LABELS[name], id=name, elem_id=f"tab-{name}") as self.tab_of[name]:
                    add()

    def add_faces(self) -> None:
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                gr.HTML(pieces.paragraph("Click a face to pick it."))
                self.gallery = gr.Gallery(
                    label="Faces", show_label=False, columns=4, object_fit="contain", height="auto", format="png",
                    allow_preview=False, interactive=False, buttons=[], elem_id="gallery",
                )  # fmt: skip
            with gr.Column(scale=1, min_width=240):
                self.details = gr.HTML(elem_id="details")
                self.from_it = gr.Button("Walk from it", elem_id="from-it")
                self.to_it = gr.Button("Walk to it", elem_id="to-it")
                self.look_at_it = gr.Button("What the teacher sees of it", elem_id="look-at-it")

    def add_walk(self) -> None:
        usual = Settings()
        with gr.Row():
            self.start = gr.Number(usual.start, label="From face", precision=0, minimum=0, elem_id="start")
            self.end = gr.Number(usual.end, label="To face", precision=0, minimum=0, elem_id="end")
            self.frames = gr.Slider(
                FEWEST_FRAMES,
                MOST_FRAMES,
                usual.frames,
                step=1,
                label="Faces in the strip",
                elem_id="frames",
                buttons=[],
            )
        self.walk = gr.HTML(elem_id="walk")
        self.film_it = gr.Button("Make a film of it", elem_id="film-it")
        self.film = gr.HTML(elem_id="film")

    def add_mix(self) -> None:
        usual = Settings()
        gr.HTML(pieces.paragraph("Coarse styles say pose and shape, fine ones colours and light."))
        with gr.Row():
            self.coarse = gr.Textbox(
                as_text(usual.coarse), label="Coarse styles of faces, a row each", elem_id="coarse"
            )
            self.fine = gr.Textbox(as_text(usual.fine), label="Fine styles of faces, a column each", elem_id="fine")
            choices = [("half of the blocks", 0), *((f"{side} pixels", side) for side in self.limits.mixes)]
            self.upto = gr.Dropdown(choices, value=0, label="Coarse up to", elem_id="upto")
        self.mixed = gr.HTML(elem_id="mixed")

    def add_teacher(self) -> None:
        self.face = gr.Number(0, label="Face", precision=0, minimum=0, elem_id="face")
        if self.studio.teacher is None:
            gr.HTML(pieces.paragraph(f"There is nothing to see here: {self.studio.no_teacher}", "dinogen-warning"))
        else:
            gr.HTML(
                pieces.paragraph(
                    "Maps of each layer, from coarse to fine. Like colours are alike to the teacher. A layer's three "
                    "strongest directions are its red, green and blue."
                )
            )
        self.pyramid = gr.HTML(elem_id="pyramid")

    def add_photo(self) -> None:
        self.crop = gr.State(None, time_to_live=PHOTO_SECONDS)
        gr.HTML(pieces.paragraph(PRIVACY, "dinogen-warning"))
        if self.studio.teacher is None:
            gr.HTML(pieces.paragraph(f"Only pixels are compared: {self.studio.no_teacher}"))
        with gr.Row():
            with gr.Column(scale=1, min_width=240):
                self.agreed = gr.Checkbox(label="The person has agreed, or it is nobody's photo", elem_id="agreed")
                self.aligned = gr.Checkbox(label="It is a crop already, square", elem_id="aligned")
                self.photo = gr.File(label=f"Photo, at most {PHOTO_MEGABYTES} MB", height=180, elem_id="photo")
                self.steps = gr.Slider(10, MOST_STEPS, STEPS, step=10, label="Steps", elem_id="steps", buttons=[])
                with gr.Row():
                    self.go = gr.Button("Find face", variant="primary", elem_id="go", min_width=140)
                    self.stop = gr.Button("Stop", elem_id="stop", min_width=60)
                    self.forget = gr.Button("Forget", elem_id="forget", min_width=60)
            with gr.Column(scale=2, min_width=320):
                self.chosen = gr.HTML(elem_id="chosen")
                self.projected = gr.HTML(elem_id="projected")

    def add_training(self) -> None:
        self.stamp = gr.State(None)
        self.timer = gr.Timer(FOLLOW_SECONDS, active=False)
        self.newer = gr.HTML(elem_id="newer")
        self.renew = gr.Button("Draw with the newest snapshot", elem_id="renew")
        self.news = gr.HTML(elem_id="news")

    def connect(self, blocks: gr.Blocks) -> None:
        """What happens when something is used. Drawing is done one at a time, for all visitors together."""
        controls = [getattr(self, name) for name in CONTROLS]
        shown = [self.gallery, self.details, self.walk, self.mixed, self.pyramid, self.notice, self.link]
        drawing: dict[str, Any] = {
            "concurrency_id": "draw", "concurrency_limit": 1, "show_progress": "minimal",
            "show_progress_on": [self.gallery, self.walk, self.mixed, self.pyramid],
        }  # fmt: skip
        live = {"inputs": controls, "outputs": shown, "trigger_mode": "always_last", **drawing}
        once = {"inputs": controls, "trigger_mode": "once", **drawing}
        changed = [
            self.seed.input, self.psi.input, self.prompt.submit, self.prompt.blur, self.guidance.input,
            self.count.input, self.start.input, self.end.input, self.frames.input, self.coarse.submit,
            self.coarse.blur, self.fine.submit, self.fine.blur, self.upto.input, self.face.input,
        ]  # fmt: skip
        gr.on(changed, self.answers.show, api_name="show", **live)
        for name, tab in self.tab_of.items():
            outputs = [self.tab, *([self.timer] if self.training else []), *shown]
            tab.select(self.answers.opener(name), **(live | {"outputs": outputs}), api_visibility="private")
        self.another.click(self.answers.renew_seed, outputs=[self.seed, *shown], api_name="another", **once)
        self.gallery.select(self.answers.pick, outputs=[self.face, *shown], api_visibility="private", **once)
        self.from_it.click(self.answers.walk_from, outputs=[self.start, self.notice], api_visibility="private", **once)
        ways = [self.tabs, self.tab, self.end, *shown]
        self.to_it.click(self.answers.walk_to, outputs=ways, api_visibility="private", **once)
        self.look_at_it.click(
            self.answers.look, outputs=[self.tabs, self.tab, *shown], api_visibility="private", **once
        )
        self.film_it.click(self.answers.make_film, outputs=[self.film, self.notice], api_name="film", **once)
        blocks.load(self.answers.open_page, outputs=[self.tabs, *controls, *shown], api_visibility="private", **drawing)
        self.link.change(None, inputs=self.link, js=SHOW_ADDRESS, api_visibility="private")
        self.connect_photo()
        if self.training:
            self.connect_training(controls, shown, drawing)

    def connect_photo(self) -> None:
        """Photos have a queue of their own, so that drawing does not wait for a projection."""
        alone: dict[str, Any] = {"concurrency_id": "photo", "concurrency_limit": 1}
        taken = [self.crop, self.chosen, self.projected, self.photo]
        # Without Gradio's own reading of the file, which leaves a copy.
        self.photo.upload(
            self.answers.take_photo, [self.photo, self.aligned], taken, preprocess=False, api_name="photo",
            trigger_mode="once", **alone,
        )  # fmt: skip
        inputs = [self.crop, self.steps, self.agreed, self.seed]
        going = self.go.click(
            self.answers.project,
            inputs,
            self.projected,
            api_name="project",
            trigger_mode="once",
            show_progress="hidden",
            **alone,
        )
        self.stop.click(None, cancels=[going], api_visibility="private")
        self.forget.click(
            lambda: (None, "", "", None), None, taken, cancels=[going], queue=False, api_visibility="private"
        )

    def connect_training(self, controls: list, shown: list, drawing: dict[str, Any]) -> None:
        following: dict[str, Any] = {"concurrency_id": "follow", "concurrency_limit": 4, "show_progress": "hidden"}
        news = [self.news, self.newer, self.stamp]
        gr.on(
            [self.timer.tick, self.tab_of["training"].select], self.answers.follow, self.stamp, news,
            api_name="training", trigger_mode="once", **following,
        )  # fmt: skip
        self.renew.click(
            self.answers.reopen,
            controls,
            [self.heading, self.newer, *shown],
            trigger_mode="once",
            api_visibility="private",
            **drawing,
        )
