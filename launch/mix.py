"""`dinogen mix`: coarse styles of some faces with fine styles of others."""

import sys
from pathlib import Path

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

from dinogen.advice import command_line, counted
from launch.command import CommandParser, run_command, say_done
from launch.drawing import add_drawing, add_model, add_prompts, add_words, check_words, tidy

COARSE, FINE = [0, 1, 2, 3], [4, 5, 6, 7, 8, 9]


def build_parser() -> CommandParser:
    parser = CommandParser(
        "mix",
        "Draw a table of faces: the coarse styles of one face a row, the fine styles of another face a column.",
        "Coarse styles say pose and shape, fine ones colours and light. How well they part says what a generator has "
        "learned. Faces are named by their numbers: seed0007-000012.png of dinogen sample is number 12 of --seed 7.\n\n"
        "Example: dinogen mix --model runs/faces --coarse 12 3 --fine 40 7 25",
    )
    add = parser.add_argument
    add_model(parser, "generator to draw with")
    add("--output", type=Path, default=Path("mixed.png"), help="table to write, a .png")
    numbers = {"type": NonNegativeInt, "nargs": "+", "metavar": "NUMBER"}
    add("--coarse", default=COARSE, help="numbers of the faces whose coarse styles are taken, a row each", **numbers)
    add("--fine", default=FINE, help="numbers of the faces whose fine styles are taken, a column each", **numbers)
    add(
        "--up-to",
        type=PositiveInt,
        default=None,
        metavar="RESOLUTION",
        help="resolution of the last block with a coarse style, in pixels. Default: half of the blocks have one",
    )
    add_prompts(parser, "Several texts are taken in turn by the faces of the rows, then by those of the columns")
    add_words(parser, "--prompt")
    add_drawing(parser)
    return parser


def work(args: Namespace) -> None:
    from dinogen.errors import UsageError
    from dinogen.images import image_grid, save_png, viewing_scale
    from dinogen.library import Generator
    from dinogen.sample import style_mixing

    if args.output.suffix.lower() != ".png":
        raise UsageError(f"--output {args.output}: must end in .png")
    prompts = [tidy(prompt, "--prompt") for prompt in args.prompt or ()]
    check_words(args, bool(prompts), "--prompt")
    generator = Generator.from_pretrained(args.model, args.device, args.encoder)
    words = generator.words_of(prompts, args.guidance)
    faces = args.coarse, args.fine
    table = style_mixing(generator.network, *faces, args.seed, args.truncation_psi, words, args.up_to)
    labels = ["", *(f"fine {number}" for number in args.fine)]
    for number in args.coarse:
        labels += [f"coarse {number}", *("" for _ in args.fine)]
    save_png(image_grid(table, 1 + len(args.fine), viewing_scale(generator.resolution), labels), args.output)
    walk = command_line("interpolate", model=args.model, seed=args.seed, output="faces.mp4")
    say_done(args.output, walk, remark=counted(len(args.coarse) * len(args.fine), "mixed face"))


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
