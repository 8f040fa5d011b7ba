"""`dinogen inspect`: what is in these shards."""

import sys
from pathlib import Path

from jsonargparse import Namespace

from dinogen.advice import command_line
from dinogen.errors import UsageError
from launch.command import CommandParser, run_command, say_done
from launch.options import Seed
from shards.options import require

DESCRIPTION = """\
Say what a folder of shards holds: samples, splits, teacher, tensors, sizes. Draw some crops beside their pyramids. A
map is shown by its three strongest principal components as red, green and blue."""


def build_parser() -> CommandParser:
    parser = CommandParser("inspect", DESCRIPTION)
    parser.add_argument(
        "--data",
        type=str,
        required=True,
        help="folder of shards, as written by dinogen pack, or its address (s3://, gs://, hf://, https://)",
    )
    parser.add_argument("--output", type=str, default="inspect.png", help="picture to write, a .png")
    parser.add_argument("--count", type=int, default=8, help="number of samples in the picture")
    parser.add_argument("--split", type=str, default="train", help="split to take them from")
    parser.add_argument("--seed", type=Seed, default=0, help="which samples to take: a whole number")
    return parser


def work(args: Namespace) -> None:
    if not args.output.endswith(".png"):
        raise UsageError(f"--output {args.output}: give the name of a .png")
    require("count", args.count, 1)
    from dinogen.data.folder import open_folder
    from dinogen.files import atomic_file
    from shards.overview import picture, summary

    folder = open_folder(args.data)
    manifest = folder.manifest()
    print(summary(manifest))
    image = picture(folder, manifest, args.split, args.count, args.seed)
    with atomic_file(Path(args.output)) as temporary:
        image.save(temporary, format="png")
    say_done(args.output, command_line("train", config="faces32", data=args.data, output="runs/faces"))


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
