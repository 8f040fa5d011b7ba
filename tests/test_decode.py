"""What a photo's bytes become: what a viewer shows, in 8-bit sRGB, or a cause."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from helpers.files import EXIF_ORIENTATION, GPS, encoded, png_bomb, turned_for_exif
from shards import decode as decoding
from shards.decode import Rejected, decode, heif_decoder, kind_of


def quarters(size: int = 32) -> Image.Image:
    """Red, green, blue and white quarters: any turn or flip shows."""
    pixels = np.zeros((size, size, 3), np.uint8)
    half = size // 2
    pixels[:half, :half] = (220, 30, 30)
    pixels[:half, half:] = (30, 200, 30)
    pixels[half:, :half] = (30, 30, 220)
    pixels[half:, half:] = 245
    return Image.fromarray(pixels)


def assert_shows(payload: bytes, image: Image.Image, tolerance: int = 12) -> None:
    decoded = decode(payload)
    assert decoded.mode == "RGB" and decoded.size == image.size
    difference = np.abs(np.asarray(decoded, int) - np.asarray(image.convert("RGB"), int))
    assert np.median(difference) <= tolerance and difference.mean() <= tolerance


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(format, orientation):
    upright = quarters().crop((0, 0, 32, 24))
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    assert_shows(encoded(turned_for_exif(upright, orientation), format, exif=exif, quality=95), upright)


def test_the_limit_of_pixels_is_ours_not_pillows(monkeypatch):
    """A phone's 200 megapixels are above Pillow's own limit, which stays as it was for others."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode(encoded(quarters(), "PNG"), 32 * 32).size == (32, 32)
    with pytest.raises(Rejected, match="32×32 pixels; at most 1,023 are decoded"):
        decode(encoded(quarters(), "PNG"), 32 * 32 - 1)
    assert Image.MAX_IMAGE_PIXELS == 100


MODERN = [
    pytest.param("HEIF", marks=pytest.mark.skipif(not heif_decoder(), reason="needs pip install 'dinogen[heif]'")),
    pytest.param(
        "AVIF", marks=pytest.mark.skipif(not features.check_module("avif"), reason="this Pillow reads no AVIF")
    ),
]


@pytest.mark.parametrize("format", MODERN)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_and_avif_are_shown_upright(format, orientation):
    upright = quarters(64).crop((0, 0, 64, 48))
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    payload = encoded(turned_for_exif(upright, orientation), format, exif=exif.tobytes(), quality=95)
    assert kind_of(payload) == {"HEIF": ".heic", "AVIF": ".avif"}[format]
    assert_shows(payload, upright)


@pytest.mark.parametrize("format", MODERN)
def test_heic_and_avif_may_be_transparent_or_cut_or_too_large(format):
    image = quarters().convert("RGBA")
    image.putalpha(Image.new("L", (32, 32), 0))
    assert np.asarray(decode(encoded(image, format))).min() > 245
    payload = encoded(quarters(256), format)
    for damaged, most, cause in (
        (payload[: len(payload) // 2], 10**6, "damaged"),
        (payload, 65_535, "too-many-pixels"),
    ):
        with pytest.raises(Rejected) as rejected:
            decode(damaged, most)
        assert rejected.value.cause == cause


@pytest.mark.parametrize(
    ("brand", "package"), [(b"heic", "dinogen[heif]"), (b"mif1", "dinogen[heif]"), (b"avif", "pillow")]
)
def test_without_its_package_a_heic_or_avif_is_reported_by_the_name_of_it(brand, package, monkeypatch):
    monkeypatch.setattr(decoding, "heif_decoder", lambda: False)
    monkeypatch.setattr(decoding.features, "check_module", lambda name: False)
    with pytest.raises(Rejected) as rejected:
        decode(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0" + brand + bytes(100))
    assert rejected.value.cause == "needs-package" and package in rejected.value.detail


def test_no_metadata_survives():
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    exif.get_ifd(GPS)[2] = (52.0, 31.0, 0.0)
    image = decode(encoded(quarters(), "JPEG", exif=exif, comment=b"at home", dpi=(300, 300)))
    again = Image.open(io.BytesIO(encoded(image, "JPEG")))
    assert not again.getexif() and "exif" not in again.info and "comment" not in again.info


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK"])
def test_every_mode_becomes_rgb(mode):
    image = quarters().convert(mode)
    format = "JPEG" if mode == "CMYK" else "PNG"
    assert_shows(encoded(image, format), image)


def test_transparency_becomes_white():
    image = quarters().convert("RGBA")
    image.putalpha(Image.fromarray(np.tile(np.uint8([255, 0]), (32, 16))))
    pixels = np.asarray(decode(encoded(image, "PNG")))
    assert (pixels[:, 1::2] == 255).all() and tuple(pixels[0, 0]) == (220, 30, 30)


def test_a_transparent_palette_entry_becomes_white():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 200, 0, 0])
    image.putpixel((0, 0), 0)
    pixels = np.asarray(decode(encoded(image, "PNG", transparency=0)))
    assert tuple(pixels[0, 0]) == (255, 255, 255) and tuple(pixels[1, 1]) == (200, 0, 0)


def test_grey_with_alpha_becomes_white():
    image = Image.merge("LA", (Image.new("L", (4, 4), 10), Image.new("L", (4, 4), 0)))
    assert np.asarray(decode(encoded(image, "PNG"))).min() == 255


def test_sixteen_bits_are_scaled_not_clipped():
    ramp = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (8, 1))
    pixels = np.asarray(decode(encoded(Image.fromarray(ramp), "PNG")))[0, :, 0].astype(int)
    assert np.abs(pixels - np.arange(256)).max() <= 1


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_taken(format):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    assert_shows(encoded(frames[0], format, save_all=True, append_images=frames[1:], lossless=True), frames[0])


def test_colours_of_another_profile_are_brought_to_srgb():
    """In this profile red and blue are swapped: ignoring profiles would tint every face of such a camera."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"tXYZ").replace(b"bXYZ", b"rXYZ").replace(b"tXYZ", b"bXYZ")
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "BGRs".encode("utf-16-be"))
    red, green, blue = quarters().split()
    assert_shows(encoded(Image.merge("RGB", (blue, green, red)), "PNG", icc_profile=swapped), quarters())


@pytest.mark.parametrize("profile", [ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), b"broken"])
def test_a_usual_or_broken_profile_changes_nothing(profile):
    assert_shows(encoded(quarters(), "PNG", icc_profile=profile), quarters(), tolerance=0)


JPEG = encoded(quarters(256), "JPEG")
PNG = encoded(quarters(256), "PNG")


@pytest.mark.parametrize(
    ("payload", "cause"),
    [
        (b"", "empty-file"),
        (b"<html><body>404</body></html>", "not-an-image"),
        (b"\0" * 4096, "not-an-image"),
        (encoded(quarters(), "GIF"), "not-an-image"),
        (encoded(quarters(), "TIFF"), "not-an-image"),
        (JPEG[: len(JPEG) // 2], "damaged"),
        (PNG[: len(PNG) // 2], "damaged"),
        (encoded(quarters(256), "WEBP")[:-40], "damaged"),
        (b"\0\0\0\x18ftypisom\0\0\0\0mp42" + bytes(999), "not-an-image"),
        (JPEG[:3], "not-an-image"),
        (png_bomb(60_000, 60_000), "too-many-pixels"),
        (png_bomb(12_000, 12_000), "too-many-pixels"),
        (png_bomb(2_000, 2_000), "damaged"),
    ],
    ids="empty html zeros gif tiff cut-jpeg cut-png cut-webp film three-bytes bomb big lie".split(),
)
def test_what_is_no_photo_is_rejected_with_its_cause(payload, cause):
    with pytest.raises(Rejected) as rejected:
        decode(payload)
    assert rejected.value.cause == cause
    assert "\n" not in rejected.value.detail


def test_the_pixel_cap_is_the_callers():
    with pytest.raises(Rejected) as rejected:
        decode(PNG, max_pixels=65_535)
    assert rejected.value.cause == "too-many-pixels"
    assert decode(PNG, max_pixels=65_536).size == (256, 256)


def test_a_broken_exif_block_does_not_lose_the_photo():
    assert_shows(encoded(quarters(), "JPEG", exif=b"Exif\0\0II*\0garbage and more garbage", quality=95), quarters())


def test_one_changed_byte_never_escapes_as_another_exception():
    rng = np.random.default_rng(0)
    modern = ["HEIF"] * heif_decoder() + ["AVIF"] * features.check_module("avif")
    for original in [encoded(quarters(48), format) for format in ("JPEG", "PNG", "WEBP", *modern)]:
        for _ in range(150):
            damaged = bytearray(original)
            damaged[rng.integers(len(damaged))] = rng.integers(256)
            try:
                decode(bytes(damaged), max_pixels=1_000_000)
            except Rejected:
                pass
