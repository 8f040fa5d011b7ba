"""`dinogen sample`: draw faces with a trained generator."""

import math
import sys
from pathlib import Path

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveInt

from launch.command import CommandParser, command_line, run_command, say_done

GRID_IMAGES = 100


def build_parser() -> CommandParser:
    parser = CommandParser(
        "sample",
        "Draw faces with a trained generator: one PNG each, and grid.png to look at.",
        "Sample number i depends on --seed and i alone: drawing more of them later does not change the first ones.",
    )
    parser.add_argument(
        "--model", type=str, required=True, help="a run (its newest snapshot), a snapshot, or a hub id: owner/name"
    )
    parser.add_argument("--count", type=PositiveInt, default=64, help="faces to draw")
    parser.add_argument(
        "--output", type=Path, default=Path("samples"), help="folder for seed000000.png … and grid.png (the first 100)"
    )
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="another seed, other faces")
    parser.add_argument(
        "--truncation-psi", type=NonNegativeFloat, default=1.0, help="below 1: safer, more alike; 0: the average face"
    )
    parser.add_argument("--device", type=str, default="auto", help="auto takes a GPU where there is one; or cpu, cuda")
    return parser


def work(args: Namespace) -> None:
    import torch

    from dinogen.files import make_output_folder
    from dinogen.images import image_grid, save_png, to_pil, viewing_scale
    from dinogen.opening import choose_device, load_generator
    from dinogen.progress import progress_bar
    from dinogen.sample import sample_batches

    generator = load_generator(args.model, choose_device(args.device))
    output = make_output_folder(args.output)
    shown = []
    with progress_bar(args.count, "drawing") as bar:
        for batch in sample_batches(generator, args.count, args.seed, args.truncation_psi):
            for image in batch:
                save_png(to_pil(image), output / f"seed{bar.n:06d}.png")
                bar.update()
                if len(shown) < GRID_IMAGES:
                    shown.append(image)
    columns = math.ceil(math.sqrt(len(shown)))
    scale = viewing_scale(generator.trained_resolution)
    save_png(image_grid(torch.stack(shown), columns, scale), output / "grid.png")
    walk = command_line("interpolate", model=args.model, output="faces.mp4")
    say_done(output, walk, remark=f"{args.count} faces and grid.png", faces=args.count)


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
