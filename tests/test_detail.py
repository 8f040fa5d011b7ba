"""Individual detail and shared part of the inner face, and power at the highest frequencies, on constructed images."""

import pytest
import torch
import torch.nn.functional as F

from dinogen.evaluate.detail import detail_votes, energies, inner_face, shared_parts, top_octave_power

SIDES = [64, 32, 16]


def noise(count: int, seed: int, side: int = 64) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def faces(count: int, seed: int) -> torch.Tensor:
    """A pattern that is the same in all, and one of each image's own, as strong at every scale."""
    shared, own = noise(1, seed=99).float(), noise(count, seed).float()
    return (0.5 * shared + 0.5 * own).byte()


def individual(images: torch.Tensor, reference: torch.Tensor) -> list[float]:
    votes = detail_votes(images, reference)
    return [votes[f"individual_detail_{side}"].mean().item() for side in SIDES]


def shared(images: torch.Tensor) -> list[float]:
    return [shared_parts(images)[f"shared_part_{side}"] for side in SIDES]


def test_reals_against_reals_have_as_much_detail_of_their_own():
    assert individual(faces(100, 0), faces(100, 1)) == pytest.approx([1, 1, 1], abs=0.05)
    assert shared(faces(100, 0)) == pytest.approx([0.5, 0.5, 0.5], abs=0.1)


def test_one_inner_face_in_different_surroundings_is_found():
    same = faces(100, 0)
    inner_face(same)[:] = inner_face(same)[:1]
    votes = individual(same, faces(100, 1))
    assert votes[0] < 0.2, "the enlarged reduction reaches a pixel over the border"
    assert shared(same)[0] > 0.8
    assert torch.cdist(same.flatten(1).float(), same.flatten(1).float())[0, 1] > 1000, "by all other means they differ"


def test_noise_is_all_its_own_and_shares_nothing_however_few_images():
    for count in (8, 200):
        assert max(shared(noise(count, seed=0))) < 0.1
    assert individual(noise(50, 0), noise(50, 1)) == pytest.approx([1, 1, 1], abs=0.1)


def test_smooth_images_lack_fine_detail_and_power():
    sharp = faces(50, 0)
    smooth = F.avg_pool2d(sharp.float(), 5, 1, 2).byte()
    votes = detail_votes(smooth, sharp)
    assert votes["individual_detail_64"].mean() < 0.1 < votes["individual_detail_16"].mean()
    assert votes["top_octave_power"].mean() < 0.1


def test_the_top_octave_begins_at_half_the_highest_frequency():
    x = torch.arange(64) * torch.pi
    waves = [torch.cos(x * f).expand(1, 3, 64, 64) * 100 + 128 for f in (0.3, 0.45, 0.55, 0.8)]
    low, below, above, high = (top_octave_power(wave.byte()).item() for wave in waves)
    assert max(low, below) < 0.05 * min(above, high)


def test_images_without_detail_give_no_figure_that_is_not_finite():
    flat = torch.full((8, 3, 32, 32), 100, dtype=torch.uint8)
    assert all(values.isfinite().all() for values in detail_votes(flat, flat).values())
    assert all(part == 0 for part in shared_parts(flat).values())


def test_images_smaller_than_the_coarsest_octave_have_none():
    assert energies(noise(8, 0, side=8)) == {} and list(energies(noise(8, 0, side=32))) == [32, 16]
