"""`dinogen bench`: how fast this machine trains, with teachers of every size and weights that need no download."""

import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt

from launch.command import CommandParser, run_command, say_done
from launch.flags import find_config

if TYPE_CHECKING:
    from dinogen.bench import Result
    from dinogen.config import RunConfig

TEACHERS = ["small", "base", "large", "giant"]


def build_parser() -> CommandParser:
    parser = CommandParser(
        "bench",
        "Measure training steps on this machine's first GPU, or its CPU, for every combination of teacher, resolution "
        "and precision. Says images a second, memory, and which share of the device's arithmetic is used.",
        epilog="Example: dinogen bench --output runs/bench --teachers small base --resolutions 64 256",
    )
    add = parser.add_argument
    add(
        "--output", type=Path, required=True, help="folder for what it needs, and for benchmarks.md and benchmarks.json"
    )
    add(
        "--teachers",
        type=str,
        nargs="+",
        default=["small"],
        help="teachers to measure: small, base, large, giant (random weights), tiny, or the folder of a saved one",
    )
    add(
        "--resolutions", type=PositiveInt, nargs="+", default=[64, 256], help="sides of the generated images, in pixels"
    )
    add(
        "--precisions",
        type=str,
        nargs="+",
        choices=["bf16", "fp16", "no"],
        default=["bf16"],
        help="number formats to measure; no is fp32",
    )
    add(
        "--also",
        type=str,
        default="",
        metavar="FLAGS",
        help="measure everything a second time with these flags of dinogen train",
    )
    add("--batch-size", type=PositiveInt, default=64, help="number of generated images a step")
    add("--real-batch-size", type=PositiveInt, default=256, help="number of real images a step")
    add("--steps", type=PositiveInt, default=500, help="number of steps to measure, after a few to warm up")
    add("--preset", type=Path, default=Path("faces256"), help="preset or file with the run's other keys")
    add(
        "--crops",
        type=Path,
        default=None,
        help="folder of crops, at least as many as a batch; default: drawn portraits",
    )
    return parser  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    teacher: str
    resolution: int
    precision: str
    flags: str


def work(args: Namespace) -> None:
    from dinogen.folder_lock import FolderLock

    find_config(str(args.preset))  # a wrong name shows before the work begins
    with FolderLock(args.output, "is measuring"):
        measure_all(args, args.output)
    say_done(args.output, remark="benchmarks.md and benchmarks.json")


def measure_all(args: Namespace, output: Path) -> None:
    """Measure every case, and write the table after each."""
    from dinogen.files import write_bytes, write_json

    crops = args.crops or draw_crops(output, args.real_batch_size)
    results: dict[Case, Result | str] = {}
    cases = list(all_cases(args))
    for number, case in enumerate(cases, 1):
        print(f"[{number}/{len(cases)}] {describe(case)}", flush=True)
        results[case] = measure_apart(config_of(case, args, crops), args.steps)
        if isinstance(results[case], str):
            print(f"    {results[case]}", flush=True)
        write_bytes(output / "benchmarks.md", page(results, args).encode())
        write_json(
            output / "benchmarks.json",
            [asdict(case) | (asdict(found) if not isinstance(found, str) else {"failed": found})
             for case, found in results.items()],
        )  # fmt: skip
    print(page(results, args))


def all_cases(args: Namespace) -> Iterator[Case]:
    for flags in ["", args.also] if args.also else [""]:
        for teacher in args.teachers:
            for resolution in args.resolutions:
                for precision in args.precisions:
                    yield Case(teacher, resolution, precision, flags)


def describe(case: Case) -> str:
    return f"{Path(case.teacher).name}, {case.resolution} px, {case.precision} {case.flags}".rstrip()


def draw_crops(output: Path, count: int) -> Path:
    """Crops of portraits of nobody; those that are there already are not made again."""
    from shards.crop import crop_folder
    from shards.synth import synth_folder

    synth_folder(output / "photos", count + count // 10 + 4, seed=0, studio=True)  # not in each a face is found
    crop_folder(output / "photos", output / "crops")
    return output / "crops"


def config_of(case: Case, args: Namespace, crops: Path) -> "RunConfig":
    """The run that is measured; its teacher and its shards are made where they are not there yet."""
    from dinogen.teachers.dinov2 import save_random_dinov2
    from launch import train
    from shards.options import PackOptions
    from shards.pack import pack_folder

    name = case.teacher
    if name in TEACHERS:
        name = str(save_random_dinov2(name, args.output / f"teacher-{name}"))
    parser = train.build_parser()
    shards = args.output / f"shards-{Path(name).name}"
    arguments = [
        "--config", str(args.preset), "--data", str(shards), "--output", str(args.output / "run"),
        f"--precision={case.precision}", f"--schedule.start_resolution={case.resolution}",
        f"--generator.img_resolution={case.resolution}",
        f"--batches.generated={args.batch_size}", f"--batches.real={args.real_batch_size}",
        "--batches.generated_at={}", *case.flags.split(),
    ]  # fmt: skip
    pack_folder(crops, shards, PackOptions(name, stages=sorted(set(args.resolutions))))
    return train.make_config(parser, parser.parse_args(arguments))


def measure_apart(config: "RunConfig", steps: int) -> "Result | str":
    """Measure in a process of its own, whose end frees all memory; why not, where that failed."""
    from dinogen.bench import measure
    from dinogen.errors import first_line

    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(measure, config, steps).result()
        except BrokenProcessPool:
            return "the process died, of too little memory perhaps"
        except Exception as error:  # out of the device's memory, no such precision: a line in the table
            return first_line(error)[:100]


def page(results: dict[Case, "Result | str"], args: Namespace) -> str:
    """The results as a Markdown table."""
    import torch

    found = [result for result in results.values() if not isinstance(result, str)]
    lines = [
        f"{found[0].device if found else 'no device'}, torch {torch.__version__}; {args.batch_size} generated and "
        f"{args.real_batch_size} real images a step, {args.steps} steps each.",
        "",
        "| teacher | px | precision | flags | real img/s | generated img/s | memory GiB | loss | TFLOP/s | share |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for case, result in results.items():
        cells = [Path(case.teacher).name, str(case.resolution), case.precision, case.flags]
        if isinstance(result, str):
            cells += [result, "", "", "", "", ""]
        else:
            # What is compiled hides operations from the counter: the same step without these flags does not.
            plain = results.get(replace(case, flags=""))
            flop = plain.step_flop if plain and not isinstance(plain, str) else result.step_flop
            flops = flop / result.step_seconds
            cells += [
                f"{result.real_images_per_second:.1f}", f"{result.generated_images_per_second:.1f}",
                f"{result.peak_bytes / 2**30:.2f}", f"{result.objective_share:.0%}", f"{flops / 1e12:.3g}",
                f"{flops / result.device_flops:.0%}",
            ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
