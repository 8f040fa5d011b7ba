"""`dinogen evaluate`: judge a generator by what had no part in its training."""

import sys
from pathlib import Path

from jsonargparse import Namespace

from launch.command import CommandParser, run_command, say_done
from launch.judging import add_terms, make_terms


def build_parser() -> CommandParser:
    parser = CommandParser(
        "evaluate",
        "Judge a generator: do its samples look like faces, like these, like many of them, and not like copies?",
        "The judge is MTCNN, a face detector that training never saw. Every figure stands beside what other real "
        "images get in the same comparison: nothing better can be hoped for. No figure is to be believed alone: one "
        "perfect face drawn a thousand times has a face_rate of 1 and a diversity of 0.",
    )
    parser.add_argument(
        "--model", type=str, required=True, help="a run (its newest snapshot), a snapshot, or a hub id: owner/name"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("report.json"), help="the figures; report.html, nearest.png beside it"
    )
    add_terms(parser)
    return parser


def work(args: Namespace) -> None:
    from dinogen.errors import UsageError
    from dinogen.evaluate import evaluate_model

    if args.output.suffix != ".json":
        raise UsageError(f"--output {args.output}: must end in .json; the page gets the same name with .html")
    evaluate_model(args.model, make_terms(args), args.output, args.device)
    page = args.output.with_suffix(".html")
    say_done(f"{args.output}, nearest.png and {page.name}", f"open {page} in a browser")


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
