"""`dinogen evaluate`: judge a generator by networks that were not used in its training."""

import sys
from pathlib import Path

from jsonargparse import Namespace

from dinogen.advice import to_open
from launch.command import CommandParser, run_command, say_done
from launch.drawing import A_GENERATOR
from launch.judging import add_terms, make_terms


def build_parser() -> CommandParser:
    parser = CommandParser(
        "evaluate",
        "Judge a generator: do its samples look like faces, like these, like many of them, and not like copies?",
        "A verdict in words comes first. The judge is MTCNN, a face detector not used in training. Each figure "
        "stands beside that of other real images. Do not believe one figure alone: one perfect "
        "face drawn a thousand times has a face_rate of 1 and a diversity of 0.",
        renamed={"reference": "data"},
    )
    parser.add_argument("--model", type=str, required=True, help=f"generator to judge: {A_GENERATOR}")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("report.json"),
        help="file for the figures; a page (.html) and nearest.png beside it",
    )
    add_terms(parser)
    return parser


def work(args: Namespace) -> None:
    from dinogen.errors import UsageError
    from dinogen.evaluate import evaluate_model

    if args.output.suffix != ".json":
        raise UsageError(f"--output {args.output}: must end in .json; the page gets the same name with .html")
    report = evaluate_model(args.model, make_terms(args), args.output, args.device)
    page = args.output.with_suffix(".html")
    remark = f"with nearest.png and {page.name} beside it"
    say_done(args.output, to_open(page), remark=remark, verdict=" ".join(report["verdict"]))


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
