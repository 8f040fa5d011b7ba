"""A trained generator for your own programs: `from dinogen import Generator`."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, Self, overload

import torch
from PIL.Image import Image
from torch import Tensor

from dinogen.errors import UsageError
from dinogen.images import to_pil
from dinogen.networks import Generator as GeneratorNetwork
from dinogen.opening import BUNDLED, choose_device, load_generator
from dinogen.reader import Reader, load_reader
from dinogen.sample import BATCH_SIZE, WordsOf, draw_all, latents, sample_images, word_strip

Prompt = str | Sequence[str] | None
Face = int | str | Tensor
Output = Literal["pil", "pt"]


class Generator:
    """A trained generator to draw with. `Generator.from_pretrained` opens one.

    Faces have numbers: sample i of a seed is a function of the seed, i and its prompt, here as in `dinogen sample`.
    Every method that draws gives PIL images, or with `output="pt"` a uint8 tensor `[n, 3, R, R]` on the CPU. R is
    `resolution`. A prompt is a text for all images, or several texts, which the images take in turn.

    Args:
        network: in evaluation mode, on the device where all shall be computed.
        model: what it was opened from, see `from_pretrained`: there its text encoder is looked up.
        encoder: a folder or a hub id that has the text encoder now; None takes it from where it was in training.
    """

    def __init__(self, network: GeneratorNetwork, model: str | Path, encoder: str | None = None):
        self.network, self.model, self.encoder = network, model, encoder

    @classmethod
    def from_pretrained(cls, model: str | Path = BUNDLED, device: str = "auto", encoder: str | None = None) -> Self:
        """Open a trained generator. Only safetensors are read, never a pickle.

        Args:
            model: a run's folder (its newest snapshot is taken), a snapshot's folder, or a hub id such as `owner/name`.
                `bundled` is the one that dinogen brings: people who do not exist, at 128×128 pixels.
            device: `auto` is the GPU where there is one, else the CPU; anything else is a device by its torch name.
            encoder: see the class.

        Raises:
            UsageError: nothing of that name, a folder without a snapshot, or a device that is not there.
            DinogenError: the hub does not give it, or its files are broken or do not fit each other.
        """
        return cls(load_generator(model, choose_device(device)), model, encoder)

    @property
    def resolution(self) -> int:
        """Side of its images, in pixels."""
        return self.network.trained_resolution

    @property
    def takes_words(self) -> bool:
        """Whether prompts steer it."""
        return self.network.takes_words

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.network.w_avg.device

    @cached_property
    def reader(self) -> Reader:
        """What reads its prompts, opened when the first one comes.

        Raises:
            UsageError: it was trained without words.
            DinogenError: the text encoder is not there or is another one than in training, or a file is broken.
        """
        return load_reader(self.model, self.device, self.encoder)

    def words_of(self, prompt: Prompt, guidance: float = 1.0) -> WordsOf | None:
        """What gives the words of some images by the first one's number and their count; None without a prompt.

        Raises:
            UsageError, DinogenError: see `reader`; guidance without a prompt, or more than was learned.
        """
        prompts = [prompt] if isinstance(prompt, str) else prompt
        if not prompts:
            if guidance != 1:
                raise UsageError(f"guidance {guidance:g} exaggerates words, and there are none; give a prompt too")
            return None
        self.reader([None], guidance)  # refuses what was not learned before the work begins
        return self.reader.in_turn(prompts, guidance)

    @overload
    def sample(
        self, count: int = ..., seed: int = ..., prompt: Prompt = ..., truncation_psi: float = ...,
        guidance: float = ..., *, batch_size: int = ..., output: Literal["pil"] = "pil",
    ) -> list[Image]: ...  # fmt: skip
    @overload
    def sample(
        self, count: int = ..., seed: int = ..., prompt: Prompt = ..., truncation_psi: float = ...,
        guidance: float = ..., *, batch_size: int = ..., output: Literal["pt"],
    ) -> Tensor: ...  # fmt: skip
    def sample(
        self,
        count: int = 1,
        seed: int = 0,
        prompt: Prompt = None,
        truncation_psi: float = 1.0,
        guidance: float = 1.0,
        *,
        batch_size: int = BATCH_SIZE,
        output: Output = "pil",
    ) -> list[Image] | Tensor:
        """Draw samples 0 to `count - 1` of a seed, the same as `dinogen sample` draws.

        Args:
            count: number of images, 1 or more.
            seed: 0 or more.
            prompt: what the images shall be like; None or an empty text leaves that open.
            truncation_psi: 1 keeps all variety, below 1 images are safer and more alike, 0 draws the average style.
            guidance: how far words are exaggerated, from 1 (not at all) to what was learned.
            batch_size: images drawn at a time, always whole batches. 1 is quickest for a single image, and may move
                a pixel by one grey level.
            output: `pil`, or `pt` for a tensor.

        Raises:
            UsageError, DinogenError: see `words_of`.
        """
        words = self.words_of(prompt, guidance)
        return _given(sample_images(self.network, count, seed, truncation_psi, batch_size, words), output)

    @torch.no_grad()
    def style(
        self,
        count: int = 1,
        seed: int = 0,
        prompt: Prompt = None,
        truncation_psi: float = 1.0,
        guidance: float = 1.0,
        *,
        first: int = 0,
    ) -> Tensor:
        """Styles of samples `first` to `first + count - 1` of a seed, to compute with and to `draw`.

        Args:
            count, seed, prompt, truncation_psi, guidance: see `sample`.
            first: number of the first sample.

        Returns:
            `[count, w_dim]` on `device`.

        Raises:
            UsageError, DinogenError: see `words_of`.
        """
        words = self.words_of(prompt, guidance)
        z = latents(seed, first, count, self.network.z_dim)
        return self.network.style(z, truncation_psi, None if words is None else words(first, count))

    @overload
    def draw(
        self, w: Tensor, prompt: Prompt = ..., guidance: float = ..., *, output: Literal["pil"] = "pil"
    ) -> list[Image]: ...
    @overload
    def draw(self, w: Tensor, prompt: Prompt = ..., guidance: float = ..., *, output: Literal["pt"]) -> Tensor: ...
    @torch.no_grad()
    def draw(
        self, w: Tensor, prompt: Prompt = None, guidance: float = 1.0, *, output: Output = "pil"
    ) -> list[Image] | Tensor:
        """Draw styles.

        Args:
            w: `[n, w_dim]`, or `[n, blocks, w_dim]` with a style for each block.
            prompt: that of the styles. They have it in them, but some models look at its single words too.
            guidance: that of the styles.
            output: `pil`, or `pt` for a tensor.

        Raises:
            UsageError, DinogenError: see `words_of`.
        """
        return _given(draw_all(self.network, w.to(self.device), self.words_of(prompt, guidance)), output)

    @overload
    def interpolate(
        self, start: Face, end: Face, frames: int = ..., seed: int = ..., prompt: Prompt = ...,
        truncation_psi: float = ..., guidance: float = ..., *, output: Literal["pil"] = "pil",
    ) -> list[Image]: ...  # fmt: skip
    @overload
    def interpolate(
        self, start: Face, end: Face, frames: int = ..., seed: int = ..., prompt: Prompt = ...,
        truncation_psi: float = ..., guidance: float = ..., *, output: Literal["pt"],
    ) -> Tensor: ...  # fmt: skip
    @torch.no_grad()
    def interpolate(
        self,
        start: Face,
        end: Face,
        frames: int = 8,
        seed: int = 0,
        prompt: Prompt = None,
        truncation_psi: float = 1.0,
        guidance: float = 1.0,
        *,
        output: Output = "pil",
    ) -> list[Image] | Tensor:
        """Walk from face to face in a straight line from style to style, or from words to words.

        Args:
            start: number of a sample of the seed, or a style `[w_dim]` or `[blocks, w_dim]`, or a prompt.
            end: another one. Between two prompts, sample 0 of the seed stays and its words change.
            frames: images of the walk, both ends included; 2 or more.
            seed: 0 or more.
            prompt: of all images of a walk between faces.
            truncation_psi, guidance, output: see `sample`.

        Raises:
            UsageError, DinogenError: see `words_of`; a walk from words to a face, or words with a prompt beside them.
        """
        if isinstance(start, str) and isinstance(end, str):
            if prompt is not None:
                raise UsageError("a walk from words to words takes no prompt beside them; leave it out")
            before, after = (self.reader([text], guidance) for text in (start, end))
            return _given(word_strip(self.network, before, after, 1, frames, seed, truncation_psi), output)
        if isinstance(start, str) or isinstance(end, str):
            raise UsageError("a walk goes from words to words or from face to face; give two of a kind")
        blocks = len(self.network.synthesis.blocks)
        first, last = (
            self.style(1, seed, prompt, truncation_psi, guidance, first=face)[0] if isinstance(face, int) else face
            for face in (start, end)
        )
        first, last = (w.to(self.device).expand(blocks, -1) for w in (first, last))
        steps = torch.linspace(0, 1, frames, device=self.device)[:, None, None]
        words = self.words_of(prompt, guidance)
        return _given(draw_all(self.network, first.lerp(last, steps), words), output)


def _given(images: Tensor, output: Output) -> list[Image] | Tensor:
    """uint8 `[n, 3, R, R]` as it was asked for."""
    return images if output == "pt" else [to_pil(image) for image in images]
