"""`dinogen push`: put a trained generator on a hub of models."""

import sys

from jsonargparse import Namespace

from dinogen.advice import command_line
from launch.command import CommandParser, run_command, say_done


def build_parser() -> CommandParser:
    parser = CommandParser(
        "push",
        "Put a trained generator and its model card on the Hugging Face Hub. Whoever you allow can then draw with "
        "--model OWNER/NAME.",
        "HF_TOKEN or hf auth login says who you are, HF_ENDPOINT names another hub. Look at the card first: it is "
        "README.md in the snapshot, and yours to edit.\n\n"
        "Example: dinogen push --model runs/faces --repo anna/faces --licence cc-by-4.0 --contact faces@example.org",
    )
    add = parser.add_argument
    add("--model", type=str, required=True, help="a run's folder (its newest snapshot is taken) or a snapshot's")
    add("--repo", type=str, required=True, help="where it goes, as OWNER/NAME; made if it is not there")
    add("--licence", type=str, default=None, help="of the model, by the hub's name, such as cc-by-4.0")
    add("--contact", type=str, default=None, help="whom to ask for the removal of a person")
    add("--private", action="store_true", help="a repository that is made is seen by its owner alone")
    return parser


def work(args: Namespace) -> None:
    from dinogen.model_card import Publication
    from dinogen.publish import push

    address = push(args.model, Publication(args.repo, args.licence, args.contact), args.private)
    say_done(address, command_line("sample", model=args.repo), address=address)


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
