"""`dinogen interpolate`: walk between faces."""

import sys
from pathlib import Path

from jsonargparse import Namespace
from jsonargparse.typing import restricted_number_type

from dinogen.advice import command_line
from launch.command import CommandParser, run_command, say_done
from launch.drawing import A_GENERATOR, add_drawing

SUFFIXES = (".png", ".gif", ".mp4")
STRIP_FRAMES = 8
FILM_FRAMES_A_FACE = 24

AtLeastTwo = restricted_number_type("AtLeastTwo", int, (">=", 2))


def build_parser() -> CommandParser:
    parser = CommandParser(
        "interpolate",
        "Walk between faces in straight lines from style to style: as a strip (.png) or as a film (.gif, .mp4).",
        "A smooth walk over believable faces says that the generator has learned a space of faces, not a list of them.",
    )
    add = parser.add_argument
    add("--model", type=str, required=True, help=f"generator to draw with: {A_GENERATOR}")
    add(
        "--output",
        type=Path,
        default=Path("interpolation.png"),
        help="file to write. .png: a strip with a row for every two faces. .gif or .mp4: a film through all faces and "
        "back to the first. A .gif is smaller, coarser, and 2 to 4 times as many bytes",
    )
    add("--faces", type=AtLeastTwo, default=6, help="number of faces to walk between")
    add(
        "--frames",
        type=AtLeastTwo,
        default=None,
        help=f"number of images in a row of a strip (default: {STRIP_FRAMES}), or of frames in the film (default: "
        f"{FILM_FRAMES_A_FACE} for each face)",
    )
    add_drawing(parser)
    return parser


def work(args: Namespace) -> None:
    from dinogen.errors import UsageError
    from dinogen.images import image_grid, save_film, save_png, viewing_scale
    from dinogen.opening import choose_device, load_generator
    from dinogen.progress import progress
    from dinogen.sample import interpolation_loop, interpolation_strip

    suffix = args.output.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"--output {args.output}: must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    generator = load_generator(args.model, choose_device(args.device))
    if suffix == ".png":
        frames = args.frames or STRIP_FRAMES
        strip = interpolation_strip(generator, args.faces // 2, frames, args.seed, args.truncation_psi)
        save_png(image_grid(strip, frames, viewing_scale(generator.trained_resolution)), args.output)
    else:
        frames = args.frames or FILM_FRAMES_A_FACE * args.faces
        loop = interpolation_loop(generator, args.faces, frames, args.seed, args.truncation_psi)
        save_film(progress(loop, frames, "drawing", "frame"), args.output)
    say_done(args.output, command_line("evaluate", model=args.model))


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
