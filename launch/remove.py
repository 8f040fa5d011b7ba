"""`dinogen remove`: take somebody out of shards."""

import sys
from pathlib import Path

from jsonargparse import Namespace

from dinogen.advice import command_line, counted
from launch.command import CommandParser, run_command, say_done

DESCRIPTION = """\
Rewrite the shards that hold certain samples, the manifest and the dataset card without them. The old files are
deleted. What is named must be there, or nothing is changed. Crop folders, copies of the shards and models trained
before are not changed. Example: dinogen remove --data data/shards --source IMG_2041.jpg"""


def build_parser() -> CommandParser:
    parser = CommandParser("remove", DESCRIPTION)
    parser.add_argument("--data", type=str, required=True, help="folder of shards, as written by dinogen pack")
    parser.add_argument(
        "--key", type=str, nargs="+", default=[], help="samples to remove, by their keys, with their mirror images"
    )
    parser.add_argument(
        "--source",
        type=str,
        nargs="+",
        default=[],
        help="source pictures whose samples are all removed, by path as in report.csv, file name, sha256 or address. "
        "A file name that several have is refused",
    )
    return parser


def work(args: Namespace) -> None:
    from shards.remove import remove_samples

    removal = remove_samples(Path(args.data), args.key, args.source)
    say_done(
        args.data,
        command_line("verify", data=args.data),
        remark=f"{counted(len(removal.keys), 'sample')} removed, {removal.manifest.samples:,} left",
        removed=len(removal.keys),
        samples=removal.manifest.samples,
    )


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
