"""`dinogen evaluate`: judge a generator by what had no part in its training."""

import sys
from pathlib import Path

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveInt

from launch.command import CommandParser, run_command, say_done


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
    parser.add_argument("--reference", type=Path, required=True, help="real images: shards, or a folder of face crops")
    parser.add_argument("--count", type=PositiveInt, default=300, help="samples to draw; distances grow with fewer")
    parser.add_argument(
        "--output", type=Path, default=Path("report.json"), help="the figures; report.html, nearest.png beside it"
    )
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="of the samples; as in dinogen sample")
    parser.add_argument(
        "--truncation-psi", type=NonNegativeFloat, default=1.0, help="below 1: safer, more alike; 0: the average face"
    )
    parser.add_argument("--device", type=str, default="auto", help="auto takes a GPU where there is one; or cpu, cuda")
    return parser


def work(args: Namespace) -> None:
    from dinogen.errors import UsageError
    from dinogen.evaluate import evaluate_model

    if args.output.suffix != ".json":
        raise UsageError(f"--output {args.output}: must end in .json; the page gets the same name with .html")
    evaluate_model(args.model, args.reference, args.count, args.output, args.seed, args.truncation_psi, args.device)
    page = args.output.with_suffix(".html")
    say_done(f"{args.output}, nearest.png and {page.name}", f"open {page} in a browser")


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
