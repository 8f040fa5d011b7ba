"""Sliced transport of fine detail: where it ends, and what it does to images that are all alike."""

import pytest
import torch

from dinogen.config import SlicesConfig
from dinogen.objectives.base import Seen
from dinogen.objectives.slices import BLOCK, SETS, SlicedDetail, blocks
from dinogen.octaves import octaves


def loss_of(images: torch.Tensor, reals: torch.Tensor, cur_nimg: int = 0) -> torch.Tensor:
    assert len(reals) == SETS * len(images)
    return SlicedDetail(SlicesConfig(), seed=1)(Seen({}, {}, images, reals, cur_nimg)).loss


def striped(n: int, seed: int) -> torch.Tensor:
    """Images `[n, 3, 32, 32]` of two patterns of stripes, each with strengths of its own."""
    rng = torch.Generator().manual_seed(seed)
    fine, coarse = torch.tensor([1.0, -1.0]).repeat(16), torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(8)
    strengths = torch.randn(2, n, 3, 1, 1, generator=rng)
    return (strengths[0] * fine + strengths[1] * coarse).repeat(1, 1, 32, 1)


def patchy(n: int, seed: int) -> torch.Tensor:
    """Images `[n, 3, 32, 32]` of noise: in each place most have little of it, and a few have much."""
    rng = torch.Generator().manual_seed(seed)
    strengths = (0.7 * torch.randn(n, 1, 4, 4, generator=rng)).exp()
    return strengths.repeat_interleave(8, 2).repeat_interleave(8, 3) * torch.randn(n, 3, 32, 32, generator=rng)


def test_blocks_cover_the_image_from_the_shift_on():
    images = torch.arange(2 * 3 * 24 * 24.0).view(2, 3, 24, 24)
    found = blocks(images, [1, 2])
    assert found.shape == (4, 2, 3 * BLOCK**2)
    torch.testing.assert_close(found[3, 1].view(3, 8, 8), images[1, :, 9:17, 10:18])


def test_the_same_images_in_another_order_are_where_they_should_be():
    images = striped(64, 0)
    reals = images.repeat_interleave(SETS, dim=0)
    assert float(loss_of(images[torch.randperm(64)], reals)) < 1e-3  # not 0: sets that agree by chance are rare
    assert float(loss_of(images * 0.5, reals)) > 0.1


@pytest.mark.parametrize("n", [8, 32])
def test_images_that_differ_as_real_ones_do_need_neither_more_detail_nor_less(n: int):
    """On average. Targets of one set of real images take detail away until two thirds of its energy are left."""

    def more_wanted(scale: float) -> float:
        wanted = []
        for step in range(20):
            images = (scale * patchy(n, step)).requires_grad_()
            loss_of(images, patchy(SETS * n, 1000 + step), step).backward()
            assert images.grad is not None
            wanted.append(-float((images.grad * images).detach().sum()))
        return sum(wanted)

    assert more_wanted(0.85) > 0 > more_wanted(1.15)


def test_images_that_are_all_alike_come_to_differ_as_real_ones_do():
    images = (striped(16, 0).mean(dim=0, keepdim=True) + 0.01 * striped(16, 1)).requires_grad_()
    optimizer = torch.optim.Adam([images], lr=0.05)
    for step in range(400):
        loss = loss_of(images, striped(SETS * 16, 2 + step), step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    finest, wanted = (octaves(each, 32)[0][32].var(dim=0).mean() for each in (images.detach(), striped(512, 999)))
    assert 0.75 < float(finest / wanted) < 1.3


def test_a_step_can_be_taken_again_and_the_next_one_looks_along_other_axes():
    images, reals = striped(8, 0) * 0.5, striped(SETS * 8, 1)
    assert float(loss_of(images, reals, 7)) == float(loss_of(images, reals, 7))
    assert float(loss_of(images, reals, 7)) != float(loss_of(images, reals, 8))


@pytest.mark.parametrize(("clock", "resolution", "on"), [(999, 64, False), (1000, 32, False), (1000, 64, True)])
def test_it_begins_when_and_where_the_config_says(clock, resolution, on):
    term = SlicedDetail(SlicesConfig(from_kimg=1, from_resolution=64), seed=0)
    assert term.is_on(clock, resolution) == on


def test_detail_goes_where_what_lies_under_it_says():
    """Dark images have a fine pattern and bright ones none: any image may have it for a term that sees detail alone."""
    rng = torch.Generator().manual_seed(0)
    pattern = torch.tensor([1.0, -1.0]).repeat(16)

    def drawn(n: int, detailed: bool) -> tuple[torch.Tensor, torch.Tensor]:
        dark = torch.rand(n, 1, 1, 1, generator=rng) < 0.5
        flat = torch.where(dark, -0.5, 0.5) + 0.05 * torch.randn(n, 3, 1, 1, generator=rng)
        return flat + torch.where(dark, 0.3, 0.0) * pattern * detailed, dark.flatten()

    flat, dark = drawn(48, detailed=False)
    detail = (0.02 * torch.randn(48, 3, 32, 32, generator=rng)).requires_grad_()
    optimizer = torch.optim.Adam([detail], lr=0.02)
    for step in range(200):
        reals = drawn(SETS * 48, detailed=True)[0].expand(-1, -1, 32, -1)
        loss = loss_of(flat.expand(-1, -1, 32, 32) + octaves(detail, 32)[0][32], reals, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    strength = (detail.detach() * pattern).mean(dim=(1, 2, 3))
    assert strength[dark].mean() > 0.05 and strength[dark].mean() > 2 * strength[~dark].abs().mean()
