"""`dinogen doctor`: is this machine fit to train, and what to fix."""

import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from dinogen.errors import DinogenError
from launch.command import CommandParser, run_command

if TYPE_CHECKING:
    from dinogen.config import TeacherConfig

DESCRIPTION = """\
Look at versions, GPUs, memory, communication between processes, a run's folder and shards, and say what to fix. Each
line begins with ok, warn (works, but badly) or fix (stops a run); ends with exit code 1 if anything is to be fixed."""


def build_parser() -> CommandParser:
    parser = CommandParser("doctor", DESCRIPTION)
    parser.add_argument("--output", type=str, default="runs", help="folder for runs: 64 MB are written and removed")
    parser.add_argument("--data", type=str, default=None, help="folder or address of shards: are all there?")
    parser.add_argument(
        "--preset",
        type=str,
        default=None,
        help="config of a run, such as configs/faces256.yaml: were the shards packed with its teacher? Needs --data",
    )
    return parser


def read_teacher(preset: str, data: str) -> "TeacherConfig":
    """The teacher's part of a training config."""
    from launch import train

    parser = train.build_parser()
    args = parser.parse_args(["--config", preset, "--data", data, "--output", "unused"])
    return train.make_config(parser, args).teacher


def work(args: Namespace) -> None:
    from dinogen.errors import UsageError

    if args.preset and not args.data:
        raise UsageError("--preset is compared with shards: give --data too")
    teacher = read_teacher(args.preset, args.data) if args.preset else None

    from dinogen import doctor  # after the flags were checked: it takes seconds to import

    subjects = {
        "Versions": doctor.examine_versions(),
        "Devices": doctor.examine_devices(),
        "Communication": doctor.examine_collectives(),
        "Run folder": doctor.examine_folder(Path(args.output)),
    }
    if args.data:
        subjects["Data"] = doctor.examine_data(args.data, teacher)
    to_fix = 0
    for subject, findings in subjects.items():
        print(subject, flush=True)
        for finding in findings:
            print(textwrap.indent(str(finding), "  "), flush=True)
            to_fix += finding.verdict == "fix"
    if to_fix:
        raise DinogenError(f"{to_fix} to fix, see the lines that begin with fix")
    print("This machine is fit to train. Next: dinogen train --help")


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
