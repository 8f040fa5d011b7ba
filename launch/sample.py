"""`dinogen sample`: draw faces with a trained generator."""

import sys
from pathlib import Path

from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt

from dinogen.advice import command_line
from launch.command import CommandParser, run_command, say_done
from launch.drawing import A_GENERATOR, add_drawing

GRID_IMAGES = 100


def build_parser() -> CommandParser:
    parser = CommandParser(
        "sample",
        "Draw faces with a trained generator: one PNG each, and grid.png to look at.",
        "Sample number i depends on --seed and i alone: drawing more of them later does not change the first ones. "
        "seed0007-000012.png is sample 12 of seed 7; model, seed and truncation are kept in the file.",
    )
    add = parser.add_argument
    add("--model", type=str, required=True, help=f"generator to draw with: {A_GENERATOR}")
    add("--count", type=PositiveInt, default=64, help="number of faces to draw")
    add(
        "--output",
        type=Path,
        default=Path("samples"),
        help=f"folder for the faces and grid.png of the first {GRID_IMAGES}",
    )
    add_drawing(parser)
    return parser


def work(args: Namespace) -> None:
    import torch

    from dinogen.files import make_output_folder
    from dinogen.images import grid_columns, image_grid, save_png, to_pil, viewing_scale
    from dinogen.opening import choose_device, load_generator
    from dinogen.progress import progress_bar
    from dinogen.sample import sample_batches

    generator = load_generator(args.model, choose_device(args.device))
    output = make_output_folder(args.output)
    about = f"model {generator.fingerprint}, seed {args.seed}, truncation_psi {args.truncation_psi:g}"
    names = [f"seed{args.seed:04d}-{index:06d}.png" for index in range(args.count)]
    warn_of_others(output, names, about)
    shown = []
    with progress_bar(args.count, "drawing") as bar:
        for batch in sample_batches(generator, args.count, args.seed, args.truncation_psi):
            for image in batch:
                save_png(to_pil(image), output / names[bar.n], about)
                bar.update()
                if len(shown) < GRID_IMAGES:
                    shown.append(image)
    scale = viewing_scale(generator.trained_resolution)
    save_png(image_grid(torch.stack(shown), grid_columns(len(shown)), scale), output / "grid.png")
    walk = command_line("interpolate", model=args.model, output="faces.mp4")
    say_done(output, walk, remark=f"{args.count} faces and grid.png", faces=args.count)


def warn_of_others(folder: Path, names: list[str], about: str) -> None:
    """Say which samples in a folder will stay there beside the new ones, though they are others' samples."""
    from dinogen.images import said_of

    others = [path for path in sorted(folder.glob("seed*.png")) if path.name not in names and said_of(path) != about]
    if others:
        print(
            f"{folder} keeps {len(others)} samples of another seed, model or truncation, such as {others[0].name}; "
            "delete them or choose another --output to keep these apart.",
            file=sys.stderr,
        )


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
