"""`dinogen pack`: look at crops with the teacher and pack both into shards."""

import os
import sys
from pathlib import Path

from jsonargparse import Namespace

from launch.command import CommandParser, run_command, say_done

DESCRIPTION = """\
Show every crop to a frozen DINOv2 and pack crop, pyramid of patch embeddings and record into WebDataset shards.
A shard is a plain tar; manifest.json lists all shards with their sha256 and says which teacher looked. The same
crops and flags give the same bytes. Run the same command again after an interruption: whole shards are kept.
On several GPUs: accelerate launch -m launch.pack FLAGS; each process writes shards of its own."""


def build_parser() -> CommandParser:
    parser = CommandParser("pack", DESCRIPTION)
    parser.add_argument("--crops", type=str, required=True, help="folder of crops, as written by dinogen crop")
    parser.add_argument("--output", type=str, required=True, help="folder for the shards, made if need be")
    parser.add_argument(
        "--teacher",
        type=str,
        default="tiny",
        help="tiny (random weights, for demos), a hub id such as facebook/dinov2-base, or a saved DINOv2's folder",
    )
    parser.add_argument(
        "--captions",
        type=str,
        default=None,
        metavar="FILE_OR_FOLDER",
        help="a .csv with columns file,caption, or a .jsonl with those keys, 'file' being the source "
        "photo's name; or a folder with a photo.txt for photo.jpg, such as the photos' own",
    )
    parser.add_argument("--batch-size", type=int, default=64, help="crops that the teacher looks at together")
    parser.add_argument(
        "--input-size",
        type=int,
        default=None,
        help="side of the picture that the teacher is shown, in pixels; default 32 for tiny, else 224",
    )
    parser.add_argument(
        "--layers",
        type=int,
        nargs="+",
        default=None,
        help="layers to tap, counted from 1; default all of tiny, four evenly spaced ones of others",
    )
    parser.add_argument(
        "--levels",
        type=int,
        nargs="+",
        default=None,
        help="sides of the maps from coarse to fine; default 1 2 4 … up to the grid or 16",
    )
    parser.add_argument(
        "--fine-layers",
        type=int,
        nargs="+",
        default=None,
        help="layers whose maps above 8×8 are kept, big on disk; default the last one",
    )
    parser.add_argument("--shard-size", type=int, default=1000, help="samples in a shard")
    parser.add_argument(
        "--mirror",
        action="store_true",
        help="pack every crop a second time, mirrored, with a pyramid of its own: twice the faces, and twice the size",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=0,
        help="processes that decode ahead of the teacher; 0 decodes in this one. The shards do not depend on it",
    )
    parser.add_argument(
        "--precision",
        type=str,
        choices=["fp32", "bf16"],
        default="fp32",
        help="in which the teacher computes; bf16 is quicker on a GPU and a little less exact",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the teacher first: a minute or so, and quicker from then on, on a GPU above all",
    )
    return parser


def work(args: Namespace) -> None:
    import torch

    from shards.pack import pack_folder

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    manifest = pack_folder(
        Path(args.crops), Path(args.output), teacher=args.teacher, input_size=args.input_size, layers=args.layers,
        levels=args.levels, fine_layers=args.fine_layers, captions=Path(args.captions) if args.captions else None,
        batch_size=args.batch_size, shard_size=args.shard_size, mirror=args.mirror, workers=args.workers,
        precision=args.precision, compile=args.compile, rank=int(os.environ.get("RANK", 0)),
        world_size=int(os.environ.get("WORLD_SIZE", 1)),
    )  # fmt: skip
    if manifest is None:
        return  # another rank finishes last, and says so
    splits = ", ".join(f"{count} {split}" for split, count in manifest.splits.items())
    say_done(
        f"{args.output}: {len(manifest.shards)} shards ({splits})",
        f"dinogen train --config configs/faces32.yaml --data {args.output} --output runs/faces",
    )


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
