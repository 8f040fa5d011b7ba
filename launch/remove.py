"""`dinogen remove`: take somebody out of shards."""

import sys
from pathlib import Path

from jsonargparse import Namespace

from dinogen.advice import command_line
from launch.command import CommandParser, run_command, say_done

DESCRIPTION = """\
Rewrite the shards that hold certain samples, and the manifest, without them; the old files are deleted. What is named
must be there, or nothing is changed. Crop folders, copies of the shards and models trained before are not changed."""


def build_parser() -> CommandParser:
    parser = CommandParser("remove", DESCRIPTION)
    parser.add_argument("--data", type=str, required=True, help="folder of shards, as written by dinogen pack")
    parser.add_argument("--key", type=str, nargs="+", default=[], help="keys of samples to remove")
    parser.add_argument(
        "--source",
        type=str,
        nargs="+",
        default=[],
        help="source pictures, by file name, sha256 or address, whose samples are all removed",
    )
    return parser


def work(args: Namespace) -> None:
    from shards.remove import remove_samples

    removal = remove_samples(Path(args.data), args.key, args.source)
    say_done(
        f"{args.data} without {len(removal.keys)} samples ({removal.manifest.samples} are left)",
        command_line("verify", data=args.data),
    )


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
