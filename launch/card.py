"""`dinogen card`: a dataset card for shards."""

import sys
from contextlib import nullcontext
from pathlib import Path

from jsonargparse import Namespace

from launch.command import CommandParser, run_command, say_done

DESCRIPTION = """\
Write a dataset card: counts, sources, licences, consent, the teacher, and how somebody gets out of it. It is Markdown
with metadata as hubs read it. Run again, it counts anew and leaves what you have added. dinogen remove does the same
with the card in the folder."""


def build_parser() -> CommandParser:
    parser = CommandParser("card", DESCRIPTION)
    parser.add_argument("--data", type=Path, required=True, help="folder of shards, as written by dinogen pack")
    parser.add_argument(
        "--output", type=Path | None, default=None, help="file for the card, a .md. Default: README.md in --data"
    )
    parser.add_argument(
        "--contact", type=str | None, default=None, help="address to ask for removal. Default: the one in the card"
    )
    return parser


def work(args: Namespace) -> None:
    from dinogen.data.manifest import read_manifest
    from dinogen.folder_lock import FolderLock
    from shards.card import CARD_NAME, write_card

    output = args.output or args.data / CARD_NAME
    read_manifest(args.data)  # before anything is written there
    inside = output.resolve().parent == args.data.resolve()
    with FolderLock(args.data, "is writing the card") if inside else nullcontext():
        write_card(args.data, output, args.contact)
    say_done(output, remark="add what only you know, who is in the pictures and why you may use them")


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
