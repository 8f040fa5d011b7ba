"""`dinogen pack`: look at crops with the teacher and pack both into shards."""

import os
import sys
from pathlib import Path

from jsonargparse import Namespace

from dinogen.advice import command_line, counted
from dinogen.errors import UsageError
from launch.command import CommandParser, run_command, say_done
from launch.options import add_options, options_of
from shards.options import PackOptions

DESCRIPTION = """\
Show every crop to a frozen teacher and pack crop, pyramid of patch embeddings and record into WebDataset shards.
A shard is a plain tar; manifest.json lists all shards with their sha256 and says which teacher looked. The same
crops and flags give the same bytes. Run the same command again after an interruption: whole shards are kept.
On several GPUs: accelerate launch -m launch.pack FLAGS; each process writes shards of its own."""

RENAMED = {"crops": "input"}


def build_parser() -> CommandParser:
    example = "Example: dinogen pack --input data/crops --output data/shards"
    parser = CommandParser("pack", DESCRIPTION, example, RENAMED)
    parser.add_argument("--input", type=str, required=True, help="folder of crops, as written by dinogen crop")
    parser.add_argument("--output", type=str, required=True, help="folder for the shards; made if it is not there")
    add_options(parser, PackOptions)
    return parser


def work(args: Namespace) -> None:
    options = options_of(args, PackOptions)
    rank, world_size = number_of("RANK", 0), number_of("WORLD_SIZE", 1)
    if rank >= world_size:
        raise UsageError(f"RANK={rank}: must be below WORLD_SIZE, which is {world_size}")
    import torch

    from shards.pack import pack_folder

    if torch.cuda.is_available():
        torch.cuda.set_device(number_of("LOCAL_RANK", 0))
    manifest = pack_folder(Path(args.input), Path(args.output), options, rank, world_size)
    if manifest is None:
        return  # another rank finishes last, and says so
    splits = ", ".join(f"{count} {split}" for split, count in manifest.splits.items())
    say_done(
        args.output,
        command_line("train", config="faces32", data=args.output, output="runs/faces"),
        remark=f"{counted(len(manifest.shards), 'shard')} ({splits})",
        shards=len(manifest.shards),
        samples=manifest.samples,
    )


def number_of(variable: str, least: int) -> int:
    """What the launcher says in a variable, `least` without one.

    Raises:
        UsageError: not a whole number, or below `least`.
    """
    value = os.environ.get(variable) or str(least)
    if not value.isdecimal() or int(value) < least:
        raise UsageError(f"{variable}={value}: give a whole number, {least} at least, as launchers do, or unset it")
    return int(value)


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
