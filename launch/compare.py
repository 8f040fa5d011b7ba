"""`dinogen compare`: several generators on the same terms."""

import sys
from pathlib import Path

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveInt

from launch.command import CommandParser, run_command, say_done


def build_parser() -> CommandParser:
    parser = CommandParser(
        "compare",
        "Judge several generators like dinogen evaluate, on the same terms: one table, and one page with the pictures.",
        "Figures of different resolutions stand side by side but do not compare: each is judged at its own.",
    )
    parser.add_argument(
        "models", type=str, nargs="+", help="runs (their newest snapshots), snapshots, or hub ids such as owner/name"
    )
    parser.add_argument(
        "--reference", type=Path, required=True, help="real images: the shards of training, or a folder of face crops"
    )
    parser.add_argument("--count", type=PositiveInt, default=300, help="samples of each; distances grow with fewer")
    parser.add_argument("--output", type=Path, default=Path("comparison"), help="folder: compare.html and compare.json")
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="of the samples; as in dinogen sample")
    parser.add_argument(
        "--truncation-psi", type=NonNegativeFloat, default=1.0, help="below 1: safer, more alike; 0: the average face"
    )
    parser.add_argument("--device", type=str, default="auto", help="auto takes a GPU where there is one; or cpu, cuda")
    return parser


def work(args: Namespace) -> None:
    from dinogen.evaluate import compare_models
    from dinogen.evaluate.model import Terms

    terms = Terms(args.reference, args.count, args.seed, args.truncation_psi)
    compare_models(args.models, terms, args.output, args.device)
    say_done(f"{args.output / 'compare.json'} and compare.html", f"open {args.output / 'compare.html'} in a browser")


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
