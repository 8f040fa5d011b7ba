"""`dinogen compare`: several generators on the same terms."""

import sys
from pathlib import Path

from jsonargparse import Namespace

from dinogen.advice import to_open
from launch.command import CommandParser, run_command, say_done
from launch.judging import add_terms, make_terms


def build_parser() -> CommandParser:
    parser = CommandParser(
        "compare",
        "Judge several generators like dinogen evaluate, on the same terms: one table, and one page with the pictures.",
        "Figures of different resolutions stand side by side but do not compare: each is judged at its own.",
        renamed={"reference": "data"},
    )
    parser.add_argument(
        "--model",
        type=str,
        nargs="+",
        required=True,
        help="generators to compare: runs (their newest snapshots), snapshots, or hub ids such as owner/name",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("comparison"), help="folder to write compare.html and compare.json into"
    )
    add_terms(parser)
    return parser


def work(args: Namespace) -> None:
    from dinogen.evaluate import compare_models

    compare_models(args.model, make_terms(args), args.output, args.device)
    say_done(args.output, to_open(args.output / "compare.html"), remark="compare.json and compare.html")


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
