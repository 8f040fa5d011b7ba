"""What a viewer shows of a picture: upright, in 8-bit sRGB, on white. Everything that reads pictures goes this way."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
MODE_OF = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}  # of the pixels that a profile speaks of
SAME = 3  # of 255: a profile that moves no colour further is sRGB itself, whatever its name is
USUAL_GAMMA = (0.43, 0.48)  # of PNGs, for screens as sRGB describes them
WITH_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
EXIF_ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright_rgb(image: Image.Image) -> Image.Image:
    """An opened picture, of an animation the first frame, as an RGB image of 8 bits that carries no metadata.

    Sixteen bits are scaled, EXIF's orientation and a colour profile are applied, and white lies behind transparency.

    Raises:
        Exception: nearly anything, even SyntaxError, as decoders do of damaged files.
    """
    image.load()
    orientation = orientation_of(image)
    rgb = to_rgb(image)
    return rgb.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else rgb


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or it cannot be read."""
    try:
        return int(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:  # a broken EXIF block is not a reason to lose a good photo
        return 1


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode → RGB: 16 bits scaled, colours brought into sRGB, then transparency over white."""
    info = image.info
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(sixteen_to_eight(np.asarray(image)))
    alpha = None
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        whole = image if image.mode == "RGBA" else image.convert("RGBA")
        alpha = whole.getchannel("A")
        image = whole.convert("RGB")
    if profile := info.get("icc_profile"):
        image = to_srgb(image, profile)
    elif isinstance(gamma := info.get("gamma"), float) and "srgb" not in info:
        image = from_gamma(image, gamma)
    image = image if image.mode == "RGB" else image.convert("RGB")
    if alpha is not None:
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=alpha)
        image = white
    return bare(image)


def sixteen_to_eight(values: np.ndarray) -> np.ndarray:
    """Grey values of 0 to 65535 → uint8, rounded. Shape `[H, W]` either way."""
    return ((np.clip(values, 0, 65535).astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Bring colours of another profile (Display P3, linear light, press CMYK) into sRGB; a broken one is ignored."""
    try:
        mode, transform = transform_of(profile)
        if image.mode != mode:
            if "CMYK" in (image.mode, mode):
                return image  # a profile of other pixels than these
            image = image.convert(mode)
        return image if transform is None else ImageCms.applyTransform(image, transform) or image
    except (ImageCms.PyCMSError, OSError, ValueError, KeyError):
        return image


@lru_cache(maxsize=8)
def transform_of(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """The mode of the pixels that a profile describes, and what brings them into sRGB; None where they are in it.

    Raises:
        PyCMSError, OSError, ValueError, KeyError: a broken profile, or of other pixels than pictures have.
    """
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    # Pillow declares the profile as a file.
    mode = MODE_OF[source.profile.xcolor_space.strip()]  # pyright: ignore[reportAttributeAccessIssue]
    # Without a cache, which several threads must not share.
    transform = ImageCms.buildTransform(source, SRGB, mode, "RGB", flags=ImageCms.Flags.NOCACHE)
    if mode != "CMYK":
        colours = probe().convert(mode)
        moved = np.asarray(ImageCms.applyTransform(colours, transform), int) - np.asarray(colours.convert("RGB"), int)
        if np.abs(moved).max() <= SAME:
            return mode, None
    return mode, transform


def probe() -> Image.Image:
    """Colours from all over the cube, 9×9×9 of them, and all greys."""
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    greys = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)
    return Image.fromarray(np.concatenate([cube, greys])[None])


def from_gamma(image: Image.Image, gamma: float) -> Image.Image:
    """Bring a PNG that states how its values follow from light, `light ** gamma`, into sRGB."""
    if gamma <= 0 or USUAL_GAMMA[0] < gamma < USUAL_GAMMA[1]:
        return image
    light = (np.arange(256) / 255) ** (1 / gamma)
    shown = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    image = image if image.mode in ("L", "RGB") else image.convert("RGB")
    return image.point((shown * 255).round().astype(int).tolist() * len(image.getbands()))


def bare(image: Image.Image) -> Image.Image:
    """The pixels alone: no EXIF, GPS position, comment or profile follows into what is saved from here."""
    image.info = {}
    if hasattr(image, "_exif"):
        image._exif = None
    return image
