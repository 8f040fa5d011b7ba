"""`dinogen synth`: draw portraits of nobody, to try everything without a photo."""

import sys
from pathlib import Path

from jsonargparse import Namespace

from dinogen.advice import command_line, sibling
from launch.command import CommandParser, run_command, say_done
from launch.options import Seed


def build_parser() -> CommandParser:
    parser = CommandParser(
        "synth",
        "Draw portraits of people who do not exist, as JPEGs of 512×512 pixels. captions.csv has five captions, "
        "the traits and the true pupil positions of each; a .json beside each says that anybody may use it.",
        epilog="The same seed always draws the same people. Run again, it draws only what is missing; with a larger "
        "--count it continues where the last run ended. Example: dinogen synth --output data/photos",
    )
    parser.add_argument("--count", type=int, default=500, help="number of portraits to draw")
    parser.add_argument("--output", type=Path, required=True, help="folder for the portraits; made if it is not there")
    parser.add_argument("--seed", type=Seed, default=0, help="which people to draw: a whole number, 0 or above")
    parser.add_argument(
        "--studio",
        action="store_true",
        help="draw plain light walls, soft light and frontal faces made up for the stage: quicker to learn",
    )
    parser.add_argument(
        "--workers", type=int | None, default=None, help="processes to share the work. Default: one for each core"
    )
    return parser


def work(args: Namespace) -> None:
    from shards.synth import synth_folder

    synth_folder(args.output, args.count, args.seed, args.workers, args.studio)
    crop = command_line("crop", input=args.output, output=sibling(args.output, "photos", "crops"))
    say_done(args.output, crop, remark=f"{args.count} portraits and captions.csv", portraits=args.count)


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
