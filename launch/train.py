"""Grow a generator on shards.

Under `accelerate launch -m launch.train …` (or torchrun) it runs on as many processes as that starts.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from dinogen.advice import command_line
from launch.command import CommandParser, run_command, say_done

if TYPE_CHECKING:
    from dinogen.config import RunConfig
    from dinogen.train.trainer import Trainer


def build_parser() -> CommandParser:
    from dinogen.config import RENAMED, RunConfig

    parser = CommandParser(
        "train",
        "Grow a generator on shards until it draws what the teacher sees in them. The same command again resumes.",
        epilog="kimg is a thousand real images, counted over all ranks. It is the only clock: growth, learning rate, "
        "averaging, saving and the end of training follow it. With 200 real images a step, 1 kimg is 5 steps.\n\n"
        "Example: dinogen train --config faces32 --data data/shards --output runs/faces --seed 1",
        renamed=RENAMED,
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="build everything, take a few steps of each stage, say what memory, time and disk the run will take, and "
        "write nothing",
    )
    parser.add_class_arguments(RunConfig)
    return parser


def make_config(parser: CommandParser, args: Namespace) -> "RunConfig":
    """The dataclasses that parsed flags and files describe."""
    from dinogen.config import RunConfig

    values = parser.instantiate(args).as_dict()
    return RunConfig(**{key: values[key] for key in RunConfig.__dataclass_fields__})


def forecast(trainer: "Trainer") -> None:
    """Say what the run will take."""
    from dinogen.train.dry_run import describe, rehearse

    found = rehearse(trainer)
    if trainer.is_main:
        print(describe(trainer, found), flush=True)


def work(args: Namespace) -> None:
    from dinogen.errors import Stopped

    config = make_config(build_parser(), args)

    from dinogen.train.trainer import Trainer  # after the config was checked: it takes seconds to import

    trainer = Trainer(config)
    if args.dry_run:
        forecast(trainer)
        return
    sample = command_line("sample", model=config.output, output=Path(config.output, "samples"))
    if trainer.complete:
        if trainer.is_main:
            remark = f"{trainer.ending}; to train longer, raise --schedule.total_kimg"
            say_done(config.output, sample, did="Already trained", remark=remark)
        return
    snapshot = trainer.train()
    if trainer.signal_received:
        saved = f"saved in {config.output}; run the same command again to resume"
        raise Stopped(f"{trainer.ending}: {saved}", trainer.signal_received)
    if trainer.is_main:
        say_done(snapshot, sample, remark=trainer.ending)


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
