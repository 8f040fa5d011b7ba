"""One decoder: a picture has the same pixels wherever it is read, as a photo, a crop or a reference."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from dinogen.data.image import decode_image
from dinogen.evaluate.reference import load_reference
from dinogen.upright import transform_of
from helpers.drawn_face import draw_face
from helpers.files import EXIF_ORIENTATION, encoded, png_chunk, turned_for_exif
from helpers.profiles import P3_PRIMARIES, profile
from shards.decode import decode

FACE = draw_face((256, 256))
LINEAR = profile("linear Rec709")


def to_linear(image: Image.Image, gamma: float | None = None) -> Image.Image:
    """sRGB values as values that are light, or light ** (1 / gamma)."""
    x = np.asarray(image) / 255
    light = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    return Image.fromarray((light ** (1 / (gamma or 1)) * 255).round().astype(np.uint8))


def with_chunk(payload: bytes, kind: bytes, data: bytes) -> bytes:
    return payload[:33] + png_chunk(kind, data) + payload[33:]


def half_clear(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 256).astype(np.uint8), (256, 1))))
    return image


def sideways() -> bytes:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    return encoded(turned_for_exif(FACE, 6), "JPEG", quality=95, exif=exif)


GREY = FACE.convert("L")
SIXTEEN = Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257)
PICTURES = {
    "plain": encoded(FACE, "PNG"),
    "jpeg": encoded(FACE, "JPEG", quality=95),
    "grey": encoded(GREY, "JPEG", quality=95),
    "sixteen bits": encoded(SIXTEEN, "PNG"),
    "palette": encoded(FACE.quantize(64), "PNG"),
    "palette with a profile": encoded(to_linear(FACE).quantize(256), "PNG", icc_profile=LINEAR),
    "palette with a clear entry": encoded(FACE.quantize(64), "PNG", transparency=3),
    "clear": encoded(half_clear(FACE), "PNG"),
    "clear with a profile": encoded(half_clear(to_linear(FACE)), "PNG", icc_profile=LINEAR),
    "grey and clear": encoded(half_clear(GREY), "PNG"),
    "cmyk": encoded(FACE.convert("CMYK"), "JPEG", quality=95),
    "linear light": encoded(to_linear(FACE), "PNG", icc_profile=LINEAR),
    "grey with a profile of colours": encoded(to_linear(GREY), "PNG", icc_profile=LINEAR),
    "wide gamut": encoded(FACE, "JPEG", quality=95, icc_profile=profile("sRGB wide", P3_PRIMARIES, 2.2)),
    "linear by its chunk": with_chunk(encoded(to_linear(FACE), "PNG"), b"gAMA", (100_000).to_bytes(4, "big")),
    "sideways": sideways(),
    "animation": encoded(FACE, "PNG", save_all=True, append_images=[Image.new("RGB", FACE.size)]),
}  # fmt: skip


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_has_the_same_pixels_wherever_it_is_read(kind: str, tmp_path: Path):
    photo = np.asarray(decode(PICTURES[kind]))
    assert np.array_equal(decode_image(PICTURES[kind]).permute(1, 2, 0).numpy(), photo)
    suffix = "png" if PICTURES[kind].startswith(b"\x89PNG") else "jpg"
    (tmp_path / f"a.{suffix}").write_bytes(PICTURES[kind])
    assert np.array_equal(load_reference(tmp_path, 1, 256).images[0].permute(1, 2, 0).numpy(), photo)


@pytest.mark.parametrize("kind", [kind for kind in PICTURES if "linear" in kind or kind in ("sideways", "animation")])
def test_it_shows_what_was_meant(kind: str):
    assert np.abs(np.asarray(decode(PICTURES[kind]), int) - np.asarray(FACE, int)).mean() < 3


@pytest.mark.parametrize("name", ["linear Rec709", "GIMP built-in Linear sRGB", "sRGB-elle-V2-g10.icc", "sRGB"])
def test_a_profile_is_known_by_its_curves_and_not_by_its_name(name: str):
    payload = encoded(to_linear(FACE), "PNG", icc_profile=profile(name))
    assert np.abs(np.asarray(decode(payload), int) - np.asarray(FACE, int)).mean() < 1


def test_the_usual_profile_costs_no_level_whatever_it_is_called():
    usual = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert transform_of(usual)[1] is None
    renamed = usual.replace("sRGB".encode("utf-16-be"), "Mine".encode("utf-16-be"))
    assert np.array_equal(np.asarray(decode(encoded(FACE, "PNG", icc_profile=renamed))), np.asarray(FACE))


def test_a_wide_gamut_is_brought_in():
    """Display P3's red lies outside sRGB: it gets the reddest there is, and a pale one becomes stronger."""
    payload = encoded(Image.new("RGB", (8, 8), (200, 120, 120)), "PNG", icc_profile=profile("P3", P3_PRIMARIES, 2.2))
    red, green, _ = np.asarray(decode(payload))[0, 0].astype(int)
    assert red > 203 and green < 120


def test_colours_are_converted_before_white_lies_behind_them():
    """Half of linear mid-grey over white: the grey is brought into sRGB first."""
    image = Image.new("RGBA", (8, 8), (55, 55, 55, 128))
    pixels = np.asarray(decode(encoded(image, "PNG", icc_profile=LINEAR)), int)
    assert np.abs(pixels - (128 * 128 + 127 * 255) / 255).max() <= 3


@pytest.mark.parametrize("profile_of", ["CMYK", b"x"])
def test_a_profile_of_other_pixels_is_ignored(profile_of):
    broken = profile("x").replace(b"RGB XYZ ", b"CMYKXYZ ") if profile_of == "CMYK" else profile_of
    assert np.array_equal(np.asarray(decode(encoded(FACE, "PNG", icc_profile=broken))), np.asarray(FACE))
    stream = io.BytesIO(encoded(FACE.convert("CMYK"), "JPEG", icc_profile=LINEAR))
    assert decode(stream.getvalue()).mode == "RGB"
