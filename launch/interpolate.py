"""`dinogen interpolate`: walk between faces."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from jsonargparse.typing import restricted_number_type

from dinogen.advice import command_line
from launch.command import CommandParser, run_command, say_done
from launch.drawing import add_drawing, add_model, add_words, check_words, tidy

if TYPE_CHECKING:
    from dinogen.library import Generator

SUFFIXES = (".png", ".gif", ".mp4")
FACES = 6
STRIP_FRAMES = 8
FILM_FRAMES_A_FACE = 24
FILM_FRAMES_OF_WORDS = 96
BOTH = "--from and --to"
STYLES = ".safetensors"

FROM = "words to begin with, in quotes; an empty text is none. Or a file of styles, as dinogen project writes them"

AtLeastTwo = restricted_number_type("AtLeastTwo", int, (">=", 2))


def build_parser() -> CommandParser:
    parser = CommandParser(
        "interpolate",
        "Walk between faces in straight lines from style to style: as a strip (.png) or as a film (.gif, .mp4).",
        "A smooth walk over believable faces says that the generator has learned a space of faces, not a list of them. "
        "With --from and --to each face stays and its words change. A strip then has a row for each face. A film shows "
        "one face, sample 0 of --seed, on the way to the other words and back. Between two files of dinogen project "
        "the walk goes from face to face.\n\n"
        'Example: dinogen interpolate --model runs/faces --from "a woman" --to "a woman with red hair"',
    )
    add = parser.add_argument
    add_model(parser, "generator to draw with")
    add(
        "--output",
        type=Path,
        default=Path("interpolation.png"),
        help="file to write. .png: a strip with a row for every two faces. .gif or .mp4: a film through all faces and "
        "back to the first. A .gif is smaller, coarser, and 2 to 4 times as many bytes",
    )
    add("--faces", type=AtLeastTwo, default=None, help=f"number of faces to walk between (default: {FACES})")
    add(
        "--frames",
        type=AtLeastTwo,
        default=None,
        help=f"number of images in a row of a strip, or of frames in the film. Default: {STRIP_FRAMES} for a strip, "
        f"{FILM_FRAMES_A_FACE} for each face of a film, {FILM_FRAMES_OF_WORDS} for a film of words",
    )
    add("--from", type=str, default=None, metavar="TEXT|FILE", help=FROM)
    add("--to", type=str, default=None, metavar="TEXT|FILE", help="words, or a file of styles, to end with")
    add_words(parser, BOTH)
    add_drawing(parser)
    return parser


def work(args: Namespace) -> None:
    from dinogen.errors import UsageError
    from dinogen.library import Generator

    suffix = args.output.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"--output {args.output}: must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    given = [args["from"] is not None, args.to is not None]
    if any(given) and not all(given):
        raise UsageError(f"give both {BOTH}, or none of them")
    styles = [text is not None and text.endswith(STYLES) for text in (args["from"], args.to)]
    if any(styles) and not all(styles):
        raise UsageError(f"{BOTH}: give two files of styles or two texts, not one of each")
    if any(styles) and args.faces is not None:
        raise UsageError(f"--faces {args.faces}: a walk between two files of styles shows no others; leave it out")
    check_words(args, any(given) and not any(styles), BOTH)
    if any(given) and suffix != ".png" and args.faces is not None:
        raise UsageError(f"--faces {args.faces}: a film from words to words shows one face; leave it out")
    generator = Generator.from_pretrained(args.model, args.device, args.encoder)
    if any(styles):
        walk_styles(args, generator)
    elif any(given):
        walk_words(args, generator)
    else:
        walk_faces(args, generator)
    say_done(args.output, command_line("evaluate", model=args.model))


def walk_faces(args: Namespace, generator: "Generator") -> None:
    """From face to face."""
    from dinogen.images import image_grid, save_film, save_png, viewing_scale
    from dinogen.progress import progress
    from dinogen.sample import interpolation_loop, interpolation_strip

    faces = args.faces or FACES
    if args.output.suffix.lower() == ".png":
        frames = args.frames or STRIP_FRAMES
        strip = interpolation_strip(generator.network, faces // 2, frames, args.seed, args.truncation_psi)
        save_png(image_grid(strip, frames, viewing_scale(generator.resolution)), args.output)
    else:
        frames = args.frames or FILM_FRAMES_A_FACE * faces
        loop = interpolation_loop(generator.network, faces, frames, args.seed, args.truncation_psi)
        save_film(progress(loop, frames, "drawing", "frame"), args.output)


def walk_styles(args: Namespace, generator: "Generator") -> None:
    """From one projected face to another."""
    from dinogen.images import image_grid, save_film, save_png, viewing_scale
    from dinogen.styles import read_style

    start, end = (read_style(Path(file).expanduser(), generator.network) for file in (args["from"], args.to))
    if args.output.suffix.lower() == ".png":
        strip = generator.interpolate(start, end, args.frames or STRIP_FRAMES, output="pt")
        save_png(image_grid(strip, len(strip), viewing_scale(generator.resolution)), args.output)
    else:
        frames = args.frames or 2 * FILM_FRAMES_A_FACE
        there = generator.interpolate(start, end, frames // 2 + 1, output="pt")
        save_film([*there, *there.flip(0)[1:-1]], args.output)


def walk_words(args: Namespace, generator: "Generator") -> None:
    """From words to words."""
    from dinogen.images import image_grid, save_film, save_png, titled, viewing_scale
    from dinogen.progress import progress
    from dinogen.sample import word_loop, word_strip

    texts = tidy(args["from"], "--from"), tidy(args.to, "--to")
    start, end = (generator.reader([text], args.guidance) for text in texts)
    if args.output.suffix.lower() == ".png":
        frames = args.frames or STRIP_FRAMES
        strip = word_strip(generator.network, start, end, args.faces or FACES, frames, args.seed, args.truncation_psi)
        first, last = (f'"{text}"' if text else "no words" for text in texts)
        picture = image_grid(strip, frames, viewing_scale(generator.resolution))
        save_png(titled([picture], [f"From {first} to {last}"]), args.output)
    else:
        frames = args.frames or FILM_FRAMES_OF_WORDS
        loop = word_loop(generator.network, start, end, frames, args.seed, args.truncation_psi)
        save_film(progress(loop, frames, "drawing", "frame"), args.output)


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
