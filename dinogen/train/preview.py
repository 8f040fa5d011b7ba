"""Pictures of a run: the same latents and the same real faces each time, so that two pictures can be compared."""

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from dinogen.config import RunConfig
from dinogen.data.loader import load_crops
from dinogen.evaluate.metrics import mean_pairwise_distance
from dinogen.images import image_grid, titled, to_float, to_uint8, viewing_scale
from dinogen.networks import Generator
from dinogen.pictures import last_layer, pyramid_picture
from dinogen.pyramid import Pyramid, StagedSpec, resize
from dinogen.schedule import Stage
from dinogen.train.wording import Wording

GRID_COLUMNS = 8
GRID_COUNT = 64
PYRAMID_COUNT = 6  # of real and of generated images
STRIP_ROWS = 4
STRIP_FRAMES = 8
PROMPT_ROWS = 6
PROMPT_COLUMNS = 8
LETTERS = 20  # a caption's letters are as high as this part of a picture's width


class Preview:
    """Draws what a person looks at. Call on all ranks: a sharded teacher's forward is a collective.

    Args:
        config: of the run.
        look: the teacher, in the precision of training.
        specs: of what it sees.
        device: where the generator is.
        wording: the captions of the data set; None in a run without text.
    """

    def __init__(
        self,
        config: RunConfig,
        look: Callable[[Tensor], Pyramid],
        specs: StagedSpec,
        device: torch.device,
        wording: Wording | None = None,
    ):
        self.look, self.specs, self.device = look, specs, device
        # Checking whole shards for a preview would take minutes on big data; the loader does check what it reads.
        self.crops = load_crops(Path(config.data), GRID_COUNT, verify="size")
        rng = torch.Generator().manual_seed(config.seed + 1)
        self.z = torch.randn(GRID_COUNT, config.generator.z_dim, generator=rng).to(device)
        self.words = None if wording is None else wording.shown(0, GRID_COUNT)
        self.prompts = [] if wording is None else wording.prompts(PROMPT_ROWS)
        self.prompt_words = None if wording is None else wording.reader(self.prompts)

    @torch.no_grad()
    def draw(self, network: Generator, stage: Stage) -> tuple[dict[str, Image.Image], float]:
        """Let a generator draw as it does at a stage.

        Returns:
            Pictures with captions, by names that sort them; and the mean distance in pixels between two samples, over
            that between two real images.
        """
        drawn = []
        for some in torch.arange(GRID_COUNT, device=self.device).split(16):
            words = None if self.words is None else self.words[some]
            drawn.append(network(self.z[some], stage.resolution, stage.alpha, words=words))
        samples = torch.cat(drawn)
        real = resize(to_float(self.crops.to(self.device)), stage.resolution)
        count = min(PYRAMID_COUNT, len(real))
        shown = torch.cat([real[:count], samples[:count]])
        maps = last_layer(self.look(shown), self.specs.nearest(stage.resolution))
        pyramids = pyramid_picture(shown, maps, {"real": count, "generated": count})
        size = f"{stage.resolution} px"
        pictures = {
            "1_generated": grid(samples, GRID_COLUMNS, f"generated, {size}"),
            "2_real": grid(real, GRID_COLUMNS, f"real, {size}"),
            "3_pyramids": captioned(pyramids, "what the teacher sees: real | generated"),
            "4_interpolation": grid(self.walks(network, stage), STRIP_FRAMES, "each row: from one face to another"),
        }
        if self.prompts:
            pictures["5_prompts"] = self.table(network, stage)
        ours, theirs = (mean_pairwise_distance(images.flatten(1)) for images in (samples, real))
        return pictures, float(ours / theirs)

    def table(self, network: Generator, stage: Stage) -> Image.Image:
        """A row for each of some captions, which stands above it; the latents of the columns are the same."""
        assert self.prompt_words is not None
        rows = []
        for number in range(len(self.prompts)):
            words = self.prompt_words[torch.full((PROMPT_COLUMNS,), number, device=self.device)]
            images = to_uint8(network(self.z[:PROMPT_COLUMNS], stage.resolution, stage.alpha, words=words))
            rows.append(image_grid(images, PROMPT_COLUMNS, viewing_scale(stage.resolution)))
        return captioned(titled(rows, self.prompts), "words by rows, faces by columns")

    def walks(self, network: Generator, stage: Stage) -> Tensor:
        """Rows of straight walks between styles, with the same words, `[rows · frames, 3, R, R]`."""
        words = None if self.words is None else self.words[:STRIP_ROWS]
        start, end = (network.style(z, words=words) for z in self.z[: 2 * STRIP_ROWS].chunk(2))
        steps = torch.linspace(0, 1, STRIP_FRAMES, device=start.device)[None, :, None]
        w = start[:, None].lerp(end[:, None], steps).flatten(0, 1)
        if words is not None:
            words = words[torch.arange(STRIP_ROWS, device=w.device).repeat_interleave(STRIP_FRAMES)]
        return network.draw(w, stage.resolution, stage.alpha, words)


def captioned(picture: Image.Image, text: str) -> Image.Image:
    """A picture with a line of text above it, large enough to be read in a thumbnail."""
    size = picture.width // LETTERS
    page = Image.new("RGB", (picture.width, picture.height + 3 * size // 2), "white")
    page.paste(picture, (0, 3 * size // 2))
    ImageDraw.Draw(page).text((2, size // 5), text, "black", font_size=size)
    return page


def grid(images: Tensor, columns: int, caption: str) -> Image.Image:
    """Images in [-1, 1], row by row."""
    return captioned(image_grid(to_uint8(images), columns, viewing_scale(images.shape[-1])), caption)
