"""Pyramids: pooling, colour statistics, what is stored, and what is refused."""

import dataclasses

import pytest
import torch

from dinogen.errors import UsageError
from dinogen.pyramid import PyramidSpec, colour_statistics, complete, pool, pool_colour

SPEC = PyramidSpec("tiny", "0" * 16, 64, 4, 8, layers=(1, 3), levels=(1, 2, 4, 8, 16), fine_layers=(3,))


def test_pooling_averages_cells():
    level = torch.arange(16.0).view(1, 1, 4, 4)
    assert pool(level, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]


def test_colour_statistics_are_mean_and_deviation_of_each_cell():
    images = torch.rand(3, 3, 16, 16) * 2 - 1
    statistics = colour_statistics(images, 4)
    cell = images[1, :, 4:8, 8:12].flatten(1)
    torch.testing.assert_close(statistics[1, :3, 1, 2], cell.mean(1))
    torch.testing.assert_close(
        statistics[1, 3:, 1, 2], (cell.var(1, unbiased=False) + 1e-4).sqrt(), rtol=1e-4, atol=1e-5
    )


def test_coarse_colours_from_fine_ones_equal_those_of_the_image():
    images = torch.rand(3, 3, 32, 32) * 2 - 1
    for g in (1, 2, 4):
        torch.testing.assert_close(
            pool_colour(colour_statistics(images, 8), g), colour_statistics(images, g), rtol=1e-4, atol=1e-5
        )


def test_flat_images_have_a_finite_colour_gradient():
    images = torch.zeros(1, 3, 8, 8, requires_grad=True)
    colour_statistics(images, 2).sum().backward()
    assert images.grad.isfinite().all()


def test_only_the_finest_level_of_each_layer_is_stored_and_the_rest_is_pooled_from_it():
    assert SPEC.stored_shapes() == {"cls": (8,), "l1_8x8": (8, 8, 8), "l3_16x16": (8, 16, 16), "rgb_8x8": (6, 8, 8)}
    stored = {name: torch.rand(2, *shape) for name, shape in SPEC.stored_shapes().items()}
    whole = complete(stored, SPEC)
    assert {name: tuple(level.shape[1:]) for name, level in whole.items()} == SPEC.shapes()
    torch.testing.assert_close(whole["l3_1x1"].flatten(1), stored["l3_16x16"].mean((2, 3)))


def test_fingerprint_changes_with_every_number_but_not_with_the_name():
    assert SPEC.fingerprint == dataclasses.replace(SPEC, teacher="elsewhere/tiny").fingerprint
    others = [
        dataclasses.replace(SPEC, teacher_sha256="1" * 16),
        dataclasses.replace(SPEC, input_size=128),
        dataclasses.replace(SPEC, layers=(2, 3)),
        dataclasses.replace(SPEC, levels=(1, 2, 4, 8)),
        dataclasses.replace(SPEC, fine_layers=()),
    ]
    assert len({SPEC.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_a_spec_survives_json():
    assert PyramidSpec.from_dict(SPEC.to_dict()) == SPEC


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"levels": (3, 6)}, "--levels: 3 does not divide"),
        ({"levels": (16,)}, "begin at or below 8"),
        ({"levels": (8, 4)}, "coarse to fine"),
        ({"input_size": 30}, "--input-size 30"),
        ({"layers": (3, 1)}, "ascending"),
        ({"fine_layers": (2,)}, "--fine-layers 2 must be among --layers 1 3"),
    ],
)
def test_impossible_specs_are_refused_by_name(change, named):
    with pytest.raises(UsageError, match=named):
        dataclasses.replace(SPEC, **change)
