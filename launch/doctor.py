"""`dinogen doctor`: is this machine fit to train, and what to fix."""

import sys
import textwrap
from pathlib import Path

from jsonargparse import Namespace

from dinogen.errors import DinogenError
from launch.command import CommandParser, run_command, say_done

DESCRIPTION = """\
Look at versions, GPUs, memory, communication between processes, a run's folder and shards, and say what to fix. Each
line begins with ok, warn (works, but badly) or fix (stops a run); ends with exit code 1 if anything is to be fixed."""


def build_parser() -> CommandParser:
    parser = CommandParser("doctor", DESCRIPTION, renamed={"preset": "gone: the shards say which teacher they need"})
    add = parser.add_argument
    add("--output", type=str, default="runs", help="test the folder for runs: 64 MB are written and removed")
    add("--data", type=str, default=None, help="examine these shards, a folder or an address: are all there?")
    add(
        "--teacher",
        type=str,
        default=None,
        help="folder with a copy of the shards' teacher; default: where pack found it",
    )
    return parser


def work(args: Namespace) -> None:
    from dinogen import doctor  # after the flags were checked: it takes seconds to import

    subjects = {
        "Versions": doctor.examine_versions(),
        "Devices": doctor.examine_devices(),
        "Communication": doctor.examine_collectives(),
        "Run folder": doctor.examine_folder(Path(args.output)),
    }
    if args.data:
        subjects["Data"] = doctor.examine_data(args.data, args.teacher)
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
