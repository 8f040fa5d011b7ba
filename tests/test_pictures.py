"""Pictures of pyramids."""

import numpy as np
import torch

from dinogen.pictures import GAP, HEADING, TILE, principal_colours, pyramid_picture


def tile(page: np.ndarray, column: int, row: int, left: int = 0) -> np.ndarray:
    top, left = HEADING + row * (TILE + GAP), left + column * (TILE + GAP)
    return page[top : top + TILE, left : left + TILE]


def test_a_row_shows_an_image_and_its_maps_and_groups_stand_side_by_side():
    grey = torch.tensor([-1.0, 0.0, 1.0])[:, None, None, None].expand(3, 3, 8, 8)
    maps = torch.randn(3, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    pyramid = {"cls": torch.zeros(3, 16), "l1_4x4": maps, "rgb_4x4": torch.full((3, 6, 4, 4), 0.5)}
    page = np.asarray(pyramid_picture(grey, pyramid, {"real": 2, "generated": 1}))
    second = 3 * (TILE + GAP) + 2 * GAP
    assert page.shape == (HEADING + 2 * TILE + GAP, second + 3 * TILE + 2 * GAP, 3)
    assert (tile(page, 0, 0) == 0).all() and (tile(page, 0, 1) == 128).all() and (tile(page, 0, 0, second) == 255).all()
    assert (tile(page, 2, 1) == 191).all() and (tile(page, 2, 1, second) == 255).all(), "no second row in this group"
    assert len(np.unique(tile(page, 1, 1).reshape(-1, 3), axis=0)) == 16
    for left in (0, TILE + GAP, second):
        assert page[:HEADING, left : left + TILE].min() < 100, "named"


def test_two_kinds_of_places_get_two_colours_whatever_else_varies():
    kind = torch.arange(32).view(2, 1, 4, 4) % 2
    maps = torch.cat([8.0 * kind, 8.0 * (1 - kind), 0.1 * torch.randn(2, 6, 4, 4)], dim=1)
    first = principal_colours(maps)[:, 0]
    assert set(first[kind[:, 0] == 1].round().tolist()) ^ set(first[kind[:, 0] == 0].round().tolist()) == {0.0, 1.0}
