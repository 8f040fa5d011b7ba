"""`dinogen verify`: is every shard whole, and every sample in it sensible."""

import sys

from jsonargparse import Namespace

from dinogen.advice import command_line, counted
from dinogen.errors import DinogenError
from launch.command import CommandParser, run_command, say_done

DESCRIPTION = """\
Read every byte of a folder of shards: sha256 and sample count against the manifest, every record, every crop decoded,
every pyramid's shapes and numbers. Prints a line for everything that is wrong; the exit code is then 1."""


def build_parser() -> CommandParser:
    parser = CommandParser("verify", DESCRIPTION)
    parser.add_argument(
        "--data",
        type=str,
        required=True,
        help="folder of shards, as written by dinogen pack, or its address (s3://, gs://, hf://, https://). From an "
        "address every shard is fetched anew and none is kept",
    )
    return parser


def work(args: Namespace) -> None:
    from dinogen.data.folder import open_folder
    from shards.verify import verify_folder

    problems = verify_folder(args.data)
    for problem in problems:
        print(problem)
    if problems:
        raise DinogenError(f"{args.data}: {counted(len(problems), 'problem')}; restore these shards or pack again")
    manifest = open_folder(args.data).manifest()
    say_done(
        args.data,
        command_line("inspect", data=args.data, output="inspect.png"),
        did="Verified",
        remark=f"{counted(manifest.samples, 'sample')} in {counted(len(manifest.shards), 'shard')}, all whole",
        samples=manifest.samples,
        shards=len(manifest.shards),
    )


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
