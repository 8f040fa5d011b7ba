"""Pictures of pyramids: what a teacher sees of some images, as colours."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from dinogen.images import image_grid, stack, to_pil, to_uint8
from dinogen.pyramid import Pyramid, PyramidSpec, colour_name, level_name

TILE = 128  # side of an image or a map in a picture, in pixels
GAP = 4
HEADING = 18  # pixels above the tiles for the names of their columns


def pyramid_picture(images: Tensor, pyramid: Pyramid, groups: Mapping[str, int]) -> Image.Image:
    """A row for each image: the image, then each of its maps. Names stand above the columns.

    Args:
        images: `[N, 3, R, R]` in [-1, 1].
        pyramid: theirs; what is not a map, as the class token, is left out.
        groups: how many images belong together, by the name of the group. Groups stand side by side, in this order.
    """
    columns = {"image": images} | {name: colours(name, maps) for name, maps in pyramid.items() if maps.ndim == 4}
    tiles = torch.stack([to_uint8(F.interpolate(x.float(), size=(TILE, TILE))) for x in columns.values()], dim=1)
    width, height = len(columns) * (TILE + GAP), HEADING + max(groups.values()) * (TILE + GAP) - GAP
    page = Image.new("RGB", (len(groups) * (width + 2 * GAP) - 3 * GAP, height), "white")
    pen = ImageDraw.Draw(page)
    for number, (group, rows) in enumerate(zip(groups, tiles.split(list(groups.values())))):
        for column, name in enumerate(columns):
            left = number * (width + 2 * GAP) + column * (TILE + GAP)
            pen.text((left + 1, 3), name if column else group, "black")
            for row, tile in enumerate(rows[:, column]):
                page.paste(to_pil(tile), (left, HEADING + row * (TILE + GAP)))
    return page


def pyramid_rows(pyramid: Pyramid, spec: PyramidSpec) -> Image.Image:
    """What a teacher sees of the first of some images: a row for each layer, from coarse to fine, and one of colours.

    Args:
        pyramid: theirs. The other images are there so that a colour means the same in a map as among them.
        spec: of their stage.
    """
    rows = {f"Layer {layer}": [level_name(layer, g) for g in spec.levels_of(layer) if g > 1] for layer in spec.layers}
    rows["Colours"] = [colour_name(g) for g in spec.colour_levels]
    pictures = {}
    for title, names in rows.items():
        maps = [F.interpolate(colours(name, pyramid[name])[:1], size=(TILE, TILE)) for name in names]
        labels = [name.rpartition("_")[2] for name in names]
        if maps:
            pictures[title] = image_grid(to_uint8(torch.cat(maps)), len(maps), labels=labels)
    return stack(pictures)


def last_layer(pyramid: Pyramid, spec: PyramidSpec) -> Pyramid:
    """The maps of the last layer that show more than one colour, from coarse to fine."""
    names = [level_name(spec.layers[-1], g) for g in spec.levels_of(spec.layers[-1]) if g > 1]
    return {name: pyramid[name] for name in names}


def colours(name: str, maps: Tensor) -> Tensor:
    """A map as `[N, 3, g, g]` in [-1, 1]: the means of colour maps, the principal components of embeddings."""
    maps = maps.detach().float().cpu()
    return maps[:, :3] if name.startswith("rgb") else 2 * principal_colours(maps) - 1


def principal_colours(maps: Tensor) -> Tensor:
    """Show embeddings as colours: their first three principal components, fitted on all maps together.

    Args:
        maps: `[N, C, g, g]`.

    Returns:
        `[N, 3, g, g]` in [0, 1].
    """
    points = maps.movedim(1, -1).reshape(-1, maps.shape[1]).double()
    points = points - points.mean(dim=0)
    _, vectors = torch.linalg.eigh(points.T @ points)
    axes = vectors[:, -3:].flip(1)
    # An eigenvector's sign is arbitrary; fixing it keeps the colours from flipping between two pictures.
    axes = axes * axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()
    colours = points @ axes
    low, high = colours.quantile(0.02, dim=0), colours.quantile(0.98, dim=0)
    colours = ((colours - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    side = maps.shape[-1]
    return colours.reshape(len(maps), side, side, 3).permute(0, 3, 1, 2).float()
