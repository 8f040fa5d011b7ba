"""`dinogen project`: the face of a generator that is nearest to a photo."""

import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt

from dinogen.advice import command_line
from launch.command import CommandParser, run_command, say_done
from launch.drawing import add_device, add_model
from launch.options import Seed

if TYPE_CHECKING:
    from torch import Tensor

    from dinogen.data.schema import CropSize
    from dinogen.library import Generator
    from dinogen.project import Step
    from dinogen.teachers import Teacher
    from shards.photo import Cropper
    from shards.sources import Source

FILM_FRAMES = 96
LAST_FRAMES = 24  # for which a film rests at its end
NO_PICTURE = ("not-an-image", "damaged", "empty-file", "unreadable", "needs-package")  # causes
CONSENT = (
    "If the photo shows a real person: ask that person first, for this use and for what you will show. The styles are "
    "personal data like the photo; delete them when you delete it."
)


def build_parser() -> CommandParser:
    parser = CommandParser(
        "project",
        "Find the face of a generator that is nearest to a photo: its styles, a picture of both, a film of the way.",
        "Ask whoever is in the photo first, and keep the styles as you would keep the photo: they show the person.\n\n"
        "Example: dinogen project --model runs/faces --image me.jpg --output projected",
    )
    add = parser.add_argument
    add_model(parser, "generator to draw with")
    add("--image", type=Path, required=True, help="photo with a face; its largest one is cut as dinogen crop cuts it")
    add("--output", type=Path, default=Path("projected"), help="folder for w.safetensors, pair.png and way.mp4")
    add("--steps", type=PositiveInt, default=400, help="steps of the way; more of them come nearer")
    add("--aligned", action="store_true", help="the image is a crop already, square: nothing is searched or cut")
    add(
        "--teacher",
        type=str,
        default="auto",
        help="whose pyramids say what is near, beside pixels. auto: the teacher of the model's run; or the folder of a "
        "copy of it; or none",
    )
    add("--seed", type=Seed, default=0, help="seed of the samples of which the nearest is the start")
    add_device(parser)
    return parser


def work(args: Namespace) -> None:
    from dinogen.folder_lock import FolderLock
    from dinogen.library import Generator
    from dinogen.progress import note
    from dinogen.project import teacher_of_model
    from dinogen.styles import STYLE_FILE

    generator = Generator.from_pretrained(args.model, args.device)
    picture = open_crop(args.image, generator.resolution, args.aligned)
    teacher = teacher_of_model(args.model, args.teacher, generator.device)
    note(CONSENT)
    with FolderLock(args.output, "is projecting"):
        first, last = walk(args, generator, picture, teacher)
    say_done(
        args.output,
        command_line("sample", model=args.model, style=args.output / STYLE_FILE, output=args.output / "faces"),
        remark=f"distance {first.distance:.3f} of the nearest sample, {last.distance:.3f} after {args.steps} steps",
        distance=last.distance,
        distance_of_sample=first.distance,
    )


def walk(args: Namespace, generator: "Generator", picture: "Tensor", teacher: "Teacher | None") -> "tuple[Step, Step]":
    """Project, and write what comes of it: the first step and the last."""
    import torch

    from dinogen.images import image_grid, save_film, save_png, to_float, viewing_scale
    from dinogen.progress import progress_bar
    from dinogen.project import project
    from dinogen.styles import STYLE_FILE, save_style

    steps, every = [], -(-args.steps // FILM_FRAMES)
    with progress_bar(args.steps + 1, "projecting", "step") as bar:
        for step in project(generator.network, to_float(picture), teacher, args.steps, args.seed):
            steps.append(step)
            bar.set_postfix_str(f"distance {step.distance:.3f}", refresh=False)
            bar.update()
    first, last = steps[0], steps[-1]
    save_style(last.w, generator.network, args.output / STYLE_FILE)
    nearest = generator.draw(last.w[None], output="pt")[0]
    faces, labels = [picture, first.image, nearest], ["photo", "nearest sample", "projected"]
    grid = image_grid(torch.stack(faces), len(faces), viewing_scale(generator.resolution), labels)
    save_png(grid, args.output / "pair.png")
    save_film([*(step.image for step in steps[::every]), *[nearest] * LAST_FRAMES], args.output / "way.mp4")
    return first, last


def open_crop(path: Path, resolution: int, aligned: bool) -> "Tensor":
    """A face as the data have it, uint8 `[3, R, R]`.

    Raises:
        UsageError: no picture, no face in it, or one that is too small.
    """
    from dinogen.errors import UsageError
    from shards.decode import Rejected
    from shards.sources import FileSource

    try:
        return crop_of(FileSource(path.name, str(path)), resolution, aligned)
    except Rejected as error:
        raise UsageError(f"--image {path}: {error.cause}, {error.detail}; {remedy_for(error.cause)}") from error


def remedy_for(cause: str) -> str:
    """What to do about a photo that gives no crop."""
    if cause == "not-square":
        return "leave out --aligned"
    if cause in NO_PICTURE:
        return "take a JPEG or PNG"
    return "take another photo, or --aligned for a crop"


def crop_of(source: "Source", resolution: int, aligned: bool) -> "Tensor":
    """The largest face of a photo as the data have it, uint8 `[3, R, R]`.

    Args:
        source: the photo.
        resolution: R.
        aligned: whether it is a crop already, square: nothing is searched or cut.

    Raises:
        Rejected: no picture, no face in it, or one that is too small; `not-square`.
    """
    from PIL import Image

    from dinogen.data.image import decode_image
    from dinogen.data.schema import CROP_SIZES
    from shards.decode import Rejected, decode
    from shards.photo import encode

    if aligned:
        image = decode(source.read())
        if image.width != image.height:
            raise Rejected("not-square", f"{image.width}×{image.height} pixels; a crop is square")
        reduced = image.resize((resolution, resolution), Image.Resampling.BOX)  # as crops become images of a stage
        return decode_image(encode(reduced, "png"), crop_size=resolution)
    size = next((side for side in CROP_SIZES if side >= resolution), CROP_SIZES[-1])
    outcome = cropper_of(size)(source)
    if not outcome.crops:
        raise Rejected(outcome.cause, outcome.detail)
    return decode_image(outcome.crops[0].picture, resolution, size)


@cache
def cropper_of(size: "CropSize") -> "Cropper":
    """Cuts photos as data are cut; its detector is opened once."""
    from shards.options import CropOptions
    from shards.photo import Cropper

    return Cropper(CropOptions(size=size, min_sharpness=0, format="png"))


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
