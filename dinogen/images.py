"""Small things that everybody needs who shows or stores an image."""

import errno
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from dinogen.errors import DinogenError, UsageError, first_line
from dinogen.files import atomic_file

TILE_SIZE = 128  # pixels at which a person sees a face at ease
FILM_SIZE = 256
FILM_FPS = 24
GIF_SIZE = 192
GIF_STEP = 2  # every second frame
GIF_COLOURS = 128  # in all frames together
GIF_PALETTE_FRAMES = 16  # that the colours are chosen by
PNG_KEY = "dinogen"
GAP = 2  # white pixels between tiles
TEXT_SIZE = 12
TITLE_SIZE = 16  # of what was drawn by words
MOST_LINES = 6  # of a title
TITLE_WIDTH = 480  # pixels that titles have at least
LABEL = 18  # pixels for a line of text below a tile
HEADING = 20  # pixels for a line of text above a picture


def to_uint8(images: Tensor) -> Tensor:
    """`[..., H, W]` floats in [-1, 1], values beyond clipped, to uint8 on the CPU."""
    return ((images.detach().float() + 1) * 127.5).round().clamp(0, 255).byte().cpu()


def viewing_scale(resolution: int, size: int = TILE_SIZE) -> int:
    """The whole factor by which images of side `resolution` grow to about `size` pixels; never below 1."""
    return max(1, size // resolution)


def enlarge(images: Tensor, factor: int) -> Tensor:
    """Bicubic enlargement of uint8 `[n, 3, H, W]` to uint8 `[n, 3, factor·H, factor·W]`, on the CPU."""
    if factor == 1:
        return images.cpu()
    larger = F.interpolate(images.cpu().float(), scale_factor=factor, mode="bicubic", align_corners=False)
    return larger.round().clamp(0, 255).byte()


def grid_columns(count: int) -> int:
    """How many of `count` images stand in a row: about as many as there are rows, with few places left empty."""
    square = math.ceil(math.sqrt(count))

    def cost(columns: int) -> tuple[int, int]:
        empty = -count % columns
        return empty + columns - square, empty

    return min(range(square, 2 * square), key=cost)


def image_grid(images: Tensor, columns: int, upscale: int = 1, labels: Sequence[str] = ()) -> Image.Image:
    """Lay images out as a grid, row by row.

    Args:
        images: uint8 `[n, 3, H, W]`.
        columns: images in a row; the last row may be shorter.
        upscale: whole factor by which each image is enlarged, see `viewing_scale`.
        labels: words below each image; none where empty.
    """
    tiles = enlarge(images, upscale)
    count, _, height, width = tiles.shape
    rows, line = -(-count // columns), height + (LABEL if labels else 0) + GAP
    page = Image.new("RGB", (columns * (width + GAP) - GAP, rows * line - GAP), "white")
    for index, tile in enumerate(tiles):
        left, top = (index % columns) * (width + GAP), (index // columns) * line
        page.paste(to_pil(tile), (left, top))
        if labels:
            write(page, labels[index], left + width / 2, top + height + 1, anchor="ma")
    return page


def stack(pictures: Mapping[str, Image.Image]) -> Image.Image:
    """Pictures one below the other, each with its title above."""
    heights = [HEADING + picture.height + LABEL for picture in pictures.values()]
    page = Image.new("RGB", (max(picture.width for picture in pictures.values()), sum(heights) - LABEL), "white")
    top = 0
    for (title, picture), height in zip(pictures.items(), heights):
        write(page, title, 0, top)
        page.paste(picture, (0, top + HEADING))
        top += height
    return page


def titled(pictures: Sequence[Image.Image], titles: Sequence[str]) -> Image.Image:
    """Pictures one below the other, each with a text above it, in as many lines as it needs, six at most.

    Raises:
        ValueError: not as many titles as pictures.
    """
    width = max(TITLE_WIDTH, *(picture.width for picture in pictures))
    texts = [lines_of(title, width, TITLE_SIZE) for title in titles]
    line = TITLE_SIZE * 3 // 2
    heights = [len(lines) * line + picture.height + line for lines, picture in zip(texts, pictures, strict=True)]
    page = Image.new("RGB", (width, sum(heights) - line), "white")
    top = 0
    for lines, picture, height in zip(texts, pictures, heights):
        for number, text in enumerate(lines):
            write(page, text, 1, top + number * line, size=TITLE_SIZE)
        page.paste(picture, (0, top + len(lines) * line))
        top += height
    return page


def lines_of(text: str, width: int, size: int) -> list[str]:
    """A text broken between words, and within words that are too long, into lines of at most `width` pixels."""
    font = ImageFont.load_default(size)
    lines = [""]
    for word in text[: width * MOST_LINES].split():  # a letter has a pixel at least
        longer = f"{lines[-1]} {word}".lstrip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        lines += [""] if lines[-1] else []
        for letter in word:
            if font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], lines[MOST_LINES - 1].rstrip() + " …"]
    return lines


def write(page: Image.Image, text: str, x: float, y: float, anchor: str = "la", size: int = TEXT_SIZE) -> None:
    """Put a line of text into a picture, in black; `anchor` says what of it stands at `(x, y)`, in Pillow's letters."""
    ImageDraw.Draw(page).text((x, y), text, "black", ImageFont.load_default(size), anchor=anchor)


def to_pil(image: Tensor) -> Image.Image:
    """uint8 `[3, H, W]` as a picture."""
    return Image.fromarray(np.ascontiguousarray(image.cpu().permute(1, 2, 0).numpy()))


def save_png(image: Image.Image, path: Path, about: str = "") -> None:
    """Write a PNG whole or not at all; `about` is kept inside it, see `said_of`."""
    with atomic_file(Path(path)) as temporary:
        temporary.write_bytes(png_bytes(image, about))


def png_bytes(image: Image.Image, about: str = "") -> bytes:
    """What `save_png` writes."""
    kept, stream = PngInfo(), io.BytesIO()
    if about:
        kept.add_text(PNG_KEY, about)
    image.save(stream, format="PNG", pnginfo=kept)
    return stream.getvalue()


def said_of(path: Path) -> str | None:
    """What `save_png` was told about an image; None of a file that it did not write."""
    try:
        with Image.open(path) as image:
            return image.info.get(PNG_KEY)
    except OSError:
        return None


def to_float(images: Tensor) -> Tensor:
    """uint8 `[..., H, W]` to floats in [-1, 1], on the same device: the inverse of `to_uint8`."""
    return images.float() / 127.5 - 1


def save_film(frames: Iterable[Tensor], path: Path) -> None:
    """Write an endless GIF or an MP4 (H.264), whole or not at all.

    Small frames are enlarged to about 256 pixels. A GIF has half of the frames, 192 pixels and few colours.

    Args:
        frames: uint8 `[3, R, R]` each.
        path: its suffix, `.gif` or `.mp4`, decides which.

    Raises:
        UsageError: another suffix.
        DinogenError: there is no ffmpeg that works, for an MP4.
    """
    if path.suffix.lower() not in (".gif", ".mp4"):
        raise UsageError(f"{path}: a film ends in .gif or .mp4")
    with atomic_file(path) as temporary:
        (_write_gif if path.suffix.lower() == ".gif" else _write_mp4)(frames, temporary)


def _write_gif(frames: Iterable[Tensor], path: Path) -> None:
    # A GIF knows no movement. With every frame at full size and its own palette it is 15 times as large as an MP4.
    size = (GIF_SIZE, GIF_SIZE)
    pictures = [to_pil(frame).resize(size, Image.Resampling.BICUBIC) for frame in islice(frames, 0, None, GIF_STEP)]
    shown = pictures[:: -(-len(pictures) // GIF_PALETTE_FRAMES)]
    page = Image.new("RGB", (GIF_SIZE, GIF_SIZE * len(shown)))
    for number, picture in enumerate(shown):
        page.paste(picture, (0, GIF_SIZE * number))
    palette = page.quantize(GIF_COLOURS, method=Image.Quantize.MEDIANCUT)
    first, *others = (picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures)
    milliseconds = round(1000 / FILM_FPS * GIF_STEP, -1)  # the format counts in steps of 10
    first.save(path, format="GIF", save_all=True, append_images=others, duration=milliseconds, loop=0, optimize=False)


def _write_mp4(frames: Iterable[Tensor], path: Path) -> None:
    writer = None
    for frame in (enlarge(frame[None], viewing_scale(frame.shape[-1], FILM_SIZE))[0] for frame in frames):
        with _plain_film_errors():
            if writer is None:
                # The format is named because ffmpeg would read it off the suffix, which a temporary name does not have.
                size, form = (frame.shape[2], frame.shape[1]), ["-f", "mp4"]
                writer = imageio_ffmpeg.write_frames(str(path), size, fps=FILM_FPS, quality=8, output_params=form)
                writer.send(None)
            writer.send(to_pil(frame).tobytes())
    with _plain_film_errors():
        if writer is not None:
            writer.close()
        if not path.exists() or not path.stat().st_size:
            raise OSError("it has written nothing")


@contextmanager
def _plain_film_errors() -> Iterator[None]:
    """What a missing or broken ffmpeg leads to, as a line that says what to do."""
    try:
        yield
    except (OSError, RuntimeError, LookupError, StopIteration) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise DinogenError(
            f"no film: ffmpeg does not work here ({first_line(error)[:200]}); give a .gif, or pip install "
            "--force-reinstall imageio-ffmpeg and unset IMAGEIO_FFMPEG_EXE"
        ) from error
