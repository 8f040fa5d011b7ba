"""`dinogen card`: a dataset card for shards."""

import sys
from pathlib import Path

from jsonargparse import Namespace

from launch.command import CommandParser, run_command, say_done

DESCRIPTION = """\
Write a dataset card in Markdown: counts, sources, licences, consent, the teacher, and how somebody gets out of it."""


def build_parser() -> CommandParser:
    parser = CommandParser("card", DESCRIPTION)
    parser.add_argument("--data", type=str, required=True, help="folder of shards, as written by dinogen pack")
    parser.add_argument("--output", type=str, default=None, help="the card to write; default: CARD.md in --data")
    parser.add_argument("--contact", type=str, default=None, help="whom to ask for removal: an address, for the card")
    return parser


def work(args: Namespace) -> None:
    from dinogen.files import write_bytes
    from shards.card import dataset_card

    output = Path(args.output) if args.output else Path(args.data) / "CARD.md"
    write_bytes(output, dataset_card(Path(args.data), args.contact).encode())
    say_done(output, "read it, and add what only you know: who is in the pictures, and why you may use them")


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
