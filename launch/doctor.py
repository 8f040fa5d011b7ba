"""`dinogen doctor`: is this machine fit to train, and what to fix."""

import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from dinogen.errors import DinogenError
from launch.command import CommandParser, run_command, say_done

if TYPE_CHECKING:
    from dinogen.config import TeacherConfig

DESCRIPTION = """\
Look at versions, GPUs, memory, communication between processes, a run's folder and shards, and say what to fix. Each
line begins with ok, warn (works, but badly) or fix (stops a run); ends with exit code 1 if anything is to be fixed."""


def build_parser() -> CommandParser:
    parser = CommandParser("doctor", DESCRIPTION)
    add = parser.add_argument
    add("--output", type=str, default="runs", help="test the folder for runs: 64 MB are written and removed")
    add("--data", type=str, default=None, help="examine these shards, a folder or an address: are all there?")
    add(
        "--preset",
        type=str,
        default=None,
        help="compare the shards' teacher with a run's: a preset's name, such as faces256, or a file. Needs --data",
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
    say_done("this machine", "dinogen train --help", did="Examined", remark="it is fit to train")


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
