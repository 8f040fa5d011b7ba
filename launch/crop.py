"""`dinogen crop`: find faces in photos and cut aligned crops."""

import sys
from dataclasses import asdict
from pathlib import Path

from jsonargparse import Namespace

from dinogen.advice import command_line, sibling
from launch.command import CommandParser, run_command, say_done
from launch.options import add_options, options_of
from shards.options import CropOptions

DESCRIPTION = """\
Find faces in photos and cut aligned square crops, turned and scaled like FFHQ's.
Each crop is KEY.jpg with KEY.json beside it (source, box, landmarks, transform, split). EXIF rotation is applied. All
metadata, GPS positions too, is left behind. report.html and report.csv show what became of every photo: look at the
page before the next step. Run the same command again after an interruption, or after adding, moving or deleting photos.
Only what is new is searched, and crops of photos that are gone are deleted. A photo.json beside photo.jpg may state its
"licence" and "consent"; both are carried along."""


def build_parser() -> CommandParser:
    parser = CommandParser("crop", DESCRIPTION, epilog="Example: dinogen crop --input data/photos --output data/crops")
    parser.add_argument(
        "--input",
        type=str,
        required=True,
        help="photos to search for faces. A folder: all below it, in .zip and .tar files too. A .zip or .tar, "
        "WebDataset shards too. A .txt list of paths and addresses. An address: s3://, gs://, hf://, https://. A "
        "Hugging Face data set: datasets://OWNER/NAME?split=train",
    )
    parser.add_argument(
        "--output", type=str, required=True, help="folder for the crops and the report; made if it is not there"
    )
    add_options(parser, CropOptions)
    parser.add_argument(
        "--workers",
        type=int | None,
        default=None,
        help="processes to share the work. Default: one for each core. The crops do not depend on it",
    )
    return parser


def work(args: Namespace) -> None:
    options = options_of(args, CropOptions)
    from shards.crop import crop_folder

    summary = crop_folder(args.input, args.output, options, workers=args.workers)
    say_done(
        args.output,
        command_line("pack", input=args.output, output=sibling(args.output, "crops", "shards")),
        remark=f"{summary}; see {Path(args.output, 'report.html')}",
        **asdict(summary),
    )


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
