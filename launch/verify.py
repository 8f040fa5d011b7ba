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

    findings = verify_folder(args.data)
    for problem in findings.problems:
        print(problem)
    if findings.problems:
        number = counted(len(findings.problems), "problem")
        raise DinogenError(f"{args.data}: {number}; restore these shards or pack again")
    manifest = open_folder(args.data).manifest()
    samples = counted(manifest.samples, "sample")
    captioned = f"{findings.captioned:,} of them with captions" if findings.captioned else "none with captions"
    say_done(
        args.data,
        command_line("inspect", data=args.data, output="inspect.png"),
        did="Verified",
        remark=f"{samples} in {counted(len(manifest.shards), 'shard')}, all whole; {captioned}",
        samples=manifest.samples,
        captioned=findings.captioned,
        shards=len(manifest.shards),
    )


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
