"""What can be chosen of crops and shards. The command line has a flag for each field, with its line here as help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dinogen.data.schema import CROP_SIZE, CropSize
from dinogen.errors import UsageError


@dataclass(frozen=True)
class CropOptions:
    """What decides about crops, besides the photos.

    Args:
        size: side of a crop, in pixels; a generator can be trained up to this resolution. The crop shows the same part
            of the photo at any size.
        detector: finds the faces. mtcnn needs no download; retinaface (100 MB) is surer on crowds and turned heads;
            auto takes retinaface where its weights are at hand.
        detector_weights: file with retinaface's weights, instead of a download.
        faces: of a photo with several faces cut the largest, cut all, or skip the photo.
        min_face: smallest face to cut, in pixels of the photo. A larger value also searches faster.
        min_score: how sure the detector must be of a face, 0 to 1.
        min_sharpness: least sharpness of a face. 0 refuses nothing, 1 the badly blurred, 3 the slightly blurred and
            the much enlarged too.
        max_pose: how far a head may be turned, up, down or aside, in degrees.
        max_padding: share of a crop that may lie outside its photo, 0 to 1.
        max_megapixels: largest picture to open, in millions of pixels. It bounds memory.
        duplicates: keep photos that look like an earlier one (resized, recompressed), in its split, or drop them. The
            same bytes twice always give one crop.
        val_fraction: share of photos, 0 to 0.5, whose crops get the split 'val'.
        format: file format of the crops. jpg: quality 95, full colour resolution. png: lossless and larger.

    Raises:
        UsageError: a number out of its range.
    """

    size: CropSize = CROP_SIZE
    detector: Literal["mtcnn", "retinaface", "auto"] = "mtcnn"
    detector_weights: str | None = None
    faces: Literal["largest", "all", "skip"] = "largest"
    min_face: int = 48
    min_score: float = 0.9
    min_sharpness: float = 1.0
    max_pose: float = 60.0
    max_padding: float = 0.4
    max_megapixels: float = 80.0
    duplicates: Literal["keep", "drop"] = "keep"
    val_fraction: float = 0.0
    format: Literal["jpg", "png"] = "jpg"

    def __post_init__(self) -> None:
        require("min_face", self.min_face, 20)
        require("min_score", self.min_score, 0, 1)
        require("min_sharpness", self.min_sharpness, 0)
        require("max_pose", self.max_pose, 0, 90)
        require("max_padding", self.max_padding, 0, 1)
        require("max_megapixels", self.max_megapixels, 0.01, 2000)
        require("val_fraction", self.val_fraction, 0, 0.5)


@dataclass(frozen=True)
class PackOptions:
    """How crops become shards.

    Args:
        teacher: looks at the crops: tiny (random weights, for demos), a hub id such as facebook/dinov2-base, or the
            folder of a saved DINOv2 or DINOv3.
        resolution: highest resolution, in pixels, that a generator shall be trained at: all stages up to it are packed.
        stages: resolutions to pack instead, in pixels, such as 32 64. The teacher looks at the crops at each of them.
        input_size: side of the picture that the teacher is shown, in pixels, at every stage. Default: 8 patches a side
            for small images, 16 for large ones; for DINOv2 112 up to 128 px and 224 above.
        layers: layers of the teacher to store, counted from 1. Default: all of tiny, four evenly spaced ones of others.
        levels: sides of the maps, in cells, from coarse to fine. Default: 1 2 4 … up to the grid or 16.
        fine_layers: layers whose maps above 8×8 are stored too, which is big on disk. Default: the last one.
        captions: what the photos show, in one caption or several. A .csv with columns file,caption and perhaps
            caption_2 and so on. Or a .jsonl with the keys file and caption, a text or a list. 'file' is the photo's
            name or path. Or a folder with a photo.txt for photo.jpg, a caption a line, such as the photos' own.
            Default: the captions of the crops.
        clip: a hub id such as openai/clip-vit-base-patch32, or the folder of a saved CLIP. Its embedding of each crop
            is packed too, 2 kB a sample. Text can then steer a generator though no photo has a caption.
        shard_size: samples in a shard.
        mirror: pack every crop a second time, mirrored, with a pyramid of its own: twice the samples, twice the size.
        batch_size: crops that the teacher looks at together.
        workers: processes that decode ahead of the teacher; 0 decodes in this one. The shards do not depend on it.
        precision: number format in which the teacher computes. bf16 is quicker on a GPU and a little less exact.
        compile: compile the teacher first: it takes about a minute, and the teacher is quicker afterwards, on a GPU
            above all.

    Raises:
        UsageError: a number out of its range.
    """

    teacher: str = "tiny"
    resolution: int = CROP_SIZE
    stages: list[int] | None = None
    input_size: int | None = None
    layers: list[int] | None = None
    levels: list[int] | None = None
    fine_layers: list[int] | None = None
    captions: Path | None = None
    clip: str | None = None
    shard_size: int = 1000
    mirror: bool = False
    batch_size: int = 64
    workers: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False

    def __post_init__(self) -> None:
        require("shard_size", self.shard_size, 1)
        require("batch_size", self.batch_size, 1)
        require("workers", self.workers, 0)


def require(key: str, value: float, least: float, most: float | None = None) -> None:
    """Refuse a number out of its range.

    Raises:
        UsageError: it names the flag.
    """
    if not (least <= value and (most is None or value <= most)):
        limits = f", at least {least}" if most is None else f" from {least} to {most}"
        raise UsageError(f"--{key.replace('_', '-')} {value}: give a number{limits}")
