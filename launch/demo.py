"""Everything once, in a few minutes: portraits, crops, shards, training, samples, a walk between faces, a verdict."""

import math
import shlex
import sys
from pathlib import Path

from jsonargparse import Namespace

from dinogen.progress import note
from launch.command import CommandParser, run_command, say_done
from launch.options import Seed

CONFIGS = Path(__file__).parent.parent / "configs"
PORTRAITS = 400
RESOLUTION = 32  # of the preset
GRID = (8, 8)
STRIP_ROWS, STRIP_FRAMES = 4, 8
JUDGED = 200
FEWEST = 12  # faces to compare with


def build_parser() -> CommandParser:
    parser = CommandParser(
        "demo",
        "Turn portraits of nobody, or your own photos, into a face generator on a CPU in a few minutes. The teacher "
        "needs no download. Run it again to train for longer.",
        epilog="Example: dinogen demo --input data/photos --minutes 20 --output runs/holiday",
    )
    parser.add_argument("--output", type=str, default="runs/demo", help="folder for everything that is made")
    parser.add_argument(
        "--minutes", type=float, default=3.5, help="training time in minutes; the rest takes one or two"
    )
    parser.add_argument("--input", type=str, help="folder of photos; without it portraits of nobody are drawn")
    parser.add_argument("--seed", type=Seed, default=0, help="start of all random numbers")
    return parser


def work(args: Namespace) -> None:
    from dinogen.errors import UsageError

    output = Path(args.output)
    if not 0 < args.minutes < math.inf:
        raise UsageError(f"--minutes {args.minutes} must be above zero")
    shards = prepare_data(output, Path(args.input) if args.input else None, args.seed)
    train(output, shards, args.minutes, args.seed)
    made = show(output, shards, args.seed)
    say_done(output, shlex.join(["tensorboard", "--logdir", str(output / "tensorboard")]), remark=made)


def prepare_data(output: Path, photos: Path | None, seed: int) -> Path:
    """Photos to shards; what is already there is not done again."""
    from shards.crop import crop_folder
    from shards.options import PackOptions
    from shards.pack import pack_folder

    if photos is None:
        from shards.synth import synth_folder

        photos = output / "photos"
        say(1, f"Drawing {PORTRAITS} portraits of nobody")
        synth_folder(photos, PORTRAITS, seed, studio=True)
    say(2, f"Finding faces in {photos}")
    crop_folder(photos, output / "crops")
    say(3, "Showing the crops to the teacher")
    captions = photos / "captions.csv"
    options = PackOptions(resolution=RESOLUTION, captions=captions if captions.is_file() else None)
    pack_folder(output / "crops", output / "shards", options)
    return output / "shards"


def train(output: Path, shards: Path, minutes: float, seed: int) -> None:
    from dinogen.errors import Stopped
    from dinogen.train.trainer import Trainer
    from launch.train import build_parser as build_train_parser
    from launch.train import make_config

    say(4, f"Training for {minutes:g} minutes")
    parser = build_train_parser()
    arguments = ["--config", str(CONFIGS / "demo.yaml"), "--data", str(shards), "--output", str(output)]
    config = make_config(parser, parser.parse_args([*arguments, f"--seed={seed}", f"--machine.max_minutes={minutes}"]))
    trainer = Trainer(config)
    trainer.train()
    if trainer.signal_received:
        message = f"asked to stop: saved in {output}; run the same command again to resume"
        raise Stopped(message, trainer.signal_received)


def show(output: Path, shards: Path, seed: int) -> str:
    """Pictures and a verdict from the newest snapshot; says what there is now."""
    from dinogen.evaluate import Terms, evaluate_model
    from dinogen.images import image_grid, save_png, viewing_scale
    from dinogen.opening import load_generator
    from dinogen.sample import interpolation_strip, sample_images

    say(5, "Drawing")
    generator = load_generator(output)
    scale = viewing_scale(generator.trained_resolution)
    save_png(image_grid(sample_images(generator, GRID[0] * GRID[1], seed), GRID[1], scale), output / "grid.png")
    strip = interpolation_strip(generator, STRIP_ROWS, STRIP_FRAMES, seed)
    save_png(image_grid(strip, STRIP_FRAMES, scale), output / "interpolation.png")
    say(6, "Judging")
    if samples_in(shards) < FEWEST:
        note(f"Not judged: {samples_in(shards)} faces are too few to compare with; give {FEWEST} photos or more.")
        return "grid.png, interpolation.png, a snapshot and TensorBoard logs"
    evaluate_model(output, Terms(shards, JUDGED, seed), output / "report.json")
    return "grid.png, interpolation.png, report.html, a snapshot and TensorBoard logs"


def samples_in(shards: Path) -> int:
    """Number of samples that a generator is trained on and compared with."""
    from dinogen.data.manifest import read_manifest

    return sum(shard.samples for shard in read_manifest(shards).shards_of())


def say(step: int, what: str) -> None:
    note(f"[{step}/6] {what}.")


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
