"""`dinogen download`: fetch photos, each with a record of where it came from."""

import sys
from dataclasses import asdict
from pathlib import Path

from jsonargparse import Namespace

from dinogen.advice import command_line, sibling
from launch.command import CommandParser, run_command, say_done
from shards.options import require

DESCRIPTION = """\
Fetch photos into a folder: NAME.jpg, and NAME.json with its address, sha256, licence and consent, which dinogen crop
carries along. A broken connection is resumed. Run the same command again after an interruption, or to try once more
what could not be fetched. downloads.csv says what became of every address."""


def build_parser() -> CommandParser:
    parser = CommandParser("download", DESCRIPTION)
    parser.add_argument(
        "--dataset",
        type=str,
        required=True,
        help="photos to fetch. samples: five portraits on Unsplash. A .txt: an address on each line. A .csv: a column "
        "address and perhaps licence, consent, caption. A Hugging Face data set: OWNER/NAME or "
        "datasets://OWNER/NAME?split=train",
    )
    parser.add_argument("--output", type=str, required=True, help="folder for the photos; made if it is not there")
    parser.add_argument("--workers", type=int, default=8, help="photos of a list to fetch at the same time")
    return parser


def work(args: Namespace) -> None:
    require("workers", args.workers, 1)
    from shards.download import download

    summary = download(args.dataset, Path(args.output), args.workers)
    crop = command_line("crop", input=args.output, output=sibling(args.output, "photos", "crops"))
    say_done(args.output, crop, remark=str(summary), **asdict(summary))


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
