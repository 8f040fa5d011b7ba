"""Captions in the generator: what they change, and what they must leave alone."""

from typing import Any

import pytest
import torch
from torch import Tensor

from dinogen.config import GeneratorConfig, RunConfig, ScheduleConfig
from dinogen.errors import DinogenError
from dinogen.networks import Generator, Words
from dinogen.networks.words import GUIDANCE_START
from dinogen.opening import load_generator
from dinogen.train.start import start_from_snapshot

SIZES: dict[str, Any] = {"img_resolution": 32, "z_dim": 16, "w_dim": 16, "channel_base": 1024, "channel_max": 64}
TEXT = {"text_dim": 6, "token_dim": 10}


def make_generator(**changes: Any) -> Generator:
    torch.manual_seed(0)
    return Generator(**SIZES | changes)


def make_words(**changes: Tensor | None) -> Words:
    """Of three captions with two, five and one tokens."""
    rng = torch.Generator().manual_seed(1)
    parts: dict[str, Tensor | None] = {
        "pooled": torch.nn.functional.normalize(torch.randn(3, 6, generator=rng)),
        "tokens": torch.randn(3, 5, 10, generator=rng),
        "mask": torch.arange(5) < torch.tensor([[2], [5], [1]]),
        "guidance": torch.linspace(1.5, 2.5, 3),
    }
    return Words(**parts | changes)  # pyright: ignore[reportArgumentType]


def trained() -> Generator:
    """A generator whose text parts are no longer zero."""
    generator = make_generator(**TEXT)
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if not parameter.any() and not name.endswith("position"):
                std = 0.25 if name == "caption.guidance.weight" else 1.0  # it counts four times
                parameter.normal_(std=std, generator=torch.Generator().manual_seed(2))
    return generator


@pytest.fixture(scope="module")
def plain() -> Generator:
    return make_generator()


@pytest.fixture(scope="module")
def worded() -> Generator:
    return trained()


@pytest.fixture(scope="module")
def z() -> Tensor:
    return torch.randn(3, 16, generator=torch.Generator().manual_seed(3))


def test_before_training_no_words_change_any_image(plain, z):
    fresh = make_generator(**TEXT)
    assert torch.equal(fresh(z, words=make_words()), plain(z))
    fresh(z, words=make_words()).square().mean().backward()
    for name in ("caption.pooled", "synthesis.attention.b16.out", "synthesis.attention.b32.out"):
        gradient = fresh.get_parameter(f"{name}.weight").grad
        assert gradient is not None and gradient.any(), f"{name} must learn"


def test_after_training_the_null_caption_draws_what_no_words_draw(worded, z):
    null = make_words(pooled=torch.zeros(3, 6), mask=torch.zeros(3, 5, dtype=torch.bool), guidance=torch.ones(3))
    assert torch.equal(worded(z, words=null), worded(z))


@pytest.mark.parametrize("part", ["pooled", "tokens", "guidance"])
def test_each_part_of_the_words_changes_the_images(worded, z, part):
    without = make_words(**{part: torch.zeros_like(make_words().pooled) if part == "pooled" else None})
    assert (worded(z, words=make_words()) - worded(z, words=without)).abs().mean() > 1e-3


def test_guidance_makes_more_of_what_a_caption_adds(z):
    """It has nothing of its own to add: then it could not go further in a caption's direction."""
    generator = make_generator(**TEXT)
    caption = generator.caption
    assert caption is not None
    torch.nn.init.normal_(caption.pooled.weight)
    words, unguided = make_words(guidance=torch.full((3,), 2.0)), make_words(guidance=None)
    before = caption(words) / caption(unguided)
    torch.testing.assert_close(before, torch.full_like(before, 1 + GUIDANCE_START))
    generator(z, words=words).square().mean().backward()
    gradient = caption.guidance.weight.grad
    assert gradient is not None and gradient.any(), "and then it is learned"
    torch.nn.init.constant_(caption.guidance.weight, 0.1)
    after = caption(words) / caption(unguided)
    torch.testing.assert_close(after, after[:1, :1].expand_as(after))
    assert after[0, 0] > before[0, 0] + 0.05


def test_tokens_that_only_fill_up_change_nothing(worded, z):
    words = make_words()
    assert words.tokens is not None and words.mask is not None
    noise = torch.randn(3, 5, 10, generator=torch.Generator().manual_seed(4))
    other = words.tokens.where(words.mask[:, :, None], noise)
    torch.testing.assert_close(worded(z, words=make_words(tokens=other)), worded(z, words=words))
    longer = make_words(tokens=torch.nn.functional.pad(words.tokens, (0, 0, 0, 4), value=7.0),
                        mask=torch.nn.functional.pad(words.mask, (0, 4)))  # fmt: skip
    torch.testing.assert_close(worded(z, words=longer), worded(z, words=words))


def test_each_image_sees_its_own_words(worded, z):
    together, words = worded(z, words=make_words()), make_words()
    torch.testing.assert_close(together[1:2], worded(z[1:2], words=words[1:2]), rtol=1e-4, atol=1e-5)


def test_truncation_pulls_latents_alone(worded, z):
    words = make_words()
    styles = worded.style(z, truncation_psi=0.0, words=words)
    torch.testing.assert_close(styles, worded.w_avg + worded.caption(words))
    assert styles.std(dim=0).mean() > 0.01


def test_styles_are_mixed_with_words(worded, z):
    words = make_words()
    w = worded.style(z, words=words)
    each = w[:, None].expand(-1, len(worded.synthesis.blocks), -1)
    torch.testing.assert_close(worded.draw(each, words=words), worded(z, words=words))
    other = each.clone()
    other[:, 2:] = worded.style(z.flip(0), words=words)[:, None]
    assert not torch.allclose(worded.draw(other, words=words), worded(z, words=words))


def test_words_for_a_model_without_text_are_refused(plain, z):
    with pytest.raises(DinogenError, match="trained without text"):
        plain(z, words=make_words())


# ---- snapshots


def save(generator: Generator, folder, **settings):
    generator.save_pretrained(folder, config=SIZES | settings)
    return str(folder)


def test_a_snapshot_with_text_opens_as_it_was_saved(worded, z, tmp_path):
    where = save(worded, tmp_path, **TEXT, attention_at=[16, 32])
    for opened in (Generator.from_pretrained(where), load_generator(where)):
        assert opened.takes_words
        assert torch.equal(opened(z, words=make_words()), worded(z, words=make_words()))


def run_config(source: str) -> RunConfig:
    schedule = ScheduleConfig(start_resolution=32)
    return RunConfig("data", "run", init_from=source, generator=GeneratorConfig(**SIZES), schedule=schedule)


def test_a_run_without_text_is_extended_to_text(z, tmp_path):
    torch.manual_seed(9)
    before = Generator(**SIZES)
    extended = make_generator(**TEXT)
    start_from_snapshot(extended, run_config(save(before, tmp_path)))
    assert torch.equal(extended(z, words=make_words()), before(z))


def test_a_run_with_pooled_text_alone_is_extended_to_tokens(z, tmp_path):
    before = make_generator(text_dim=6)
    torch.nn.init.normal_(before.get_parameter("caption.pooled.weight"))
    extended = make_generator(**TEXT)
    start_from_snapshot(extended, run_config(save(before, tmp_path, text_dim=6)))
    assert torch.equal(extended(z, words=make_words()), before(z, words=make_words(tokens=None)))


def test_a_model_with_text_is_no_start_without_text_or_with_another_length(worded, tmp_path):
    where = save(worded, tmp_path, **TEXT)
    for other in (make_generator(), make_generator(text_dim=7, token_dim=10)):
        with pytest.raises(DinogenError, match="caption.* is .* give the words"):
            start_from_snapshot(other, run_config(where))
