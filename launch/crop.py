"""`dinogen crop`: find faces in photos and cut aligned 256×256 crops."""

import sys

from jsonargparse import Namespace

from dinogen.errors import UsageError
from launch.command import CommandParser, run_command, say_done

DESCRIPTION = """\
Find faces in photos and cut aligned 256×256 crops, turned and scaled like FFHQ's.
Each crop is KEY.jpg with KEY.json beside it (source, box, landmarks, transform, split). EXIF rotation is applied, and
all metadata, GPS positions too, is left behind. report.html and report.csv show what became of every photo; look at
the page before you go on. Run the same command again after an interruption, or after adding photos: only what is new
or changed is done. A photo.json beside photo.jpg may state its "licence" and "consent"; both are carried along."""

# key, least, largest: others are refused before any work
RANGES = (
    ("min_face", 20, None),
    ("min_score", 0, 1),
    ("min_sharpness", 0, None),
    ("max_pose", 0, 90),
    ("max_padding", 0, 1),
    ("max_megapixels", 0.01, 2000),
    ("val_fraction", 0, 0.5),
    ("workers", 0, None),
)


def build_parser() -> CommandParser:
    parser = CommandParser("crop", DESCRIPTION)
    add = parser.add_argument
    add(
        "--input",
        type=str,
        required=True,
        help="folder of photos, searched recursively (.zip and .tar in it, too); a .zip or .tar, WebDataset shards "
        "too; a .txt list of paths and addresses; an address: s3://, gs://, hf://, https://; or a Hugging Face data "
        "set: datasets://OWNER/NAME?split=train",
    )
    add("--output", type=str, required=True, help="folder for the crops and the report, made if need be")
    add(
        "--detector",
        type=str,
        choices=["mtcnn", "retinaface", "auto"],
        default="mtcnn",
        help="what finds the faces; mtcnn needs no download, retinaface (100 MB) is surer on crowds and turned "
        "heads, auto takes retinaface where its weights are at hand",
    )
    add("--detector-weights", type=str, default=None, help="file with retinaface's weights, instead of a download")
    add(
        "--faces",
        type=str,
        choices=["largest", "all", "skip"],
        default="largest",
        help="of a photo with several faces cut the largest, cut all, or skip the photo",
    )
    add(
        "--min-face",
        type=int,
        default=48,
        help="smallest face to cut, in pixels of the photo; a larger value also searches faster",
    )
    add("--min-score", type=float, default=0.9, help="how sure the detector must be of a face, 0 to 1")
    add(
        "--min-sharpness",
        type=float,
        default=1.0,
        help="1 refuses only the badly blurred, 3 the slightly blurred and much enlarged, 0 nothing",
    )
    add("--max-pose", type=float, default=60.0, help="how far a head may be turned, up, down or aside, in degrees")
    add("--max-padding", type=float, default=0.4, help="how much of a crop may lie outside its photo, 0 to 1")
    add("--max-megapixels", type=float, default=80.0, help="larger pictures are refused unopened: it bounds memory")
    add(
        "--duplicates",
        type=str,
        choices=["keep", "drop"],
        default="keep",
        help="photos that look like an earlier one (resized, recompressed): keep them, in its split, or drop them. "
        "The same bytes twice always give one crop",
    )
    add("--val-fraction", type=float, default=0.0, help="share of photos, 0 to 0.5, whose crops get the split 'val'")
    add(
        "--format",
        type=str,
        choices=["jpg", "png"],
        default="jpg",
        help="jpg (quality 95, full colour resolution) or png (lossless, several times as large)",
    )
    add(
        "--workers",
        type=int,
        default=None,
        help="processes to share the work; default: one a core. The crops do not depend on it",
    )
    return parser


def work(args: Namespace) -> None:
    options = {key: value for key, value in vars(args).items() if key not in ("config", "debug")}
    check(options)
    from shards.crop import crop_folder

    summary = crop_folder(options.pop("input"), options.pop("output"), **options)
    say_done(
        f"{args.output}: {summary}; see {args.output}/report.html",
        f"dinogen pack --crops {args.output} --output SHARDS",
    )


def check(options: dict) -> None:
    """Refuse impossible numbers before any work."""
    for key, least, most in RANGES:
        value = options[key]
        if value is not None and not (least <= value and (most is None or value <= most)):
            limits = f"at least {least}" if most is None else f"from {least} to {most}"
            raise UsageError(f"--{key.replace('_', '-')} {value}: give {limits}")


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
