"""What one sample is: three members of a tar under one key, and a fourth one where a CLIP looked too.

KEY.jpg or KEY.png        the crop, the bytes of the crop file unchanged
KEY.json                  where it comes from and what may be done with it: a `SampleRecord`
KEY.pyramid.safetensors   fp16, the tensors of `StagedSpec.stored_shapes()`
KEY.clip.safetensors      fp16, `embedding` `[D]` of length one: CLIP's, of the crop, or of its mirror image
"""

import hashlib
import json
import math
import re
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from dinogen.errors import DinogenError

CropSize = Literal[256, 512, 1024]  # pixels along one side of a crop; the same for all crops of a data set
CROP_SIZE: CropSize = 256  # where nothing else is said
CROP_SIZES: tuple[int, ...] = get_args(CropSize)
IMAGE_SUFFIXES = ("jpg", "png")  # of crops
PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp", ".heic", ".heif", ".avif"})
RECORD_SUFFIX = "json"
PYRAMID_SUFFIX = "pyramid.safetensors"
EMBEDDING_SUFFIX = "clip.safetensors"

# No dot, because WebDataset ends a key at its first dot; no slash, so that no key can ever leave a folder.
KEY_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")
DEFAULT_SPLIT = "train"
NOT_STATED = "not stated"


def stated(term: Any) -> str:
    """A licence or a consent for people, whatever it was given as."""
    return NOT_STATED if term is None else " ".join(str(term).split())


@dataclass(frozen=True)
class SampleRecord:
    """Where a crop comes from and what may be done with it: the content of KEY.json.

    Args:
        source: file name of the source picture.
        path: its path below the folder of photos, with `/`, where it lies in a folder of its own there.
        source_sha256: sha256 of the source's bytes, in hex.
        box: of the face, in pixels of the upright source: left, top, right, bottom.
        landmarks: five points (x, y) in pixels of the upright source, image-left eye first.
        score: the detector's, 0 to 1.
        captions: what the picture shows, in one way or several; none is empty.
        licence: of the source, as it was given.
        consent: of the person, as it was given.
        split: `train`, `val` or another name; a loader reads one split.
        address: where the source was fetched from, if it is known.
        mirrored: the pyramid is of the crop's mirror image, and a loader mirrors the crop when it decodes it. Box and
            landmarks stay those of the source.
    """

    source: str
    source_sha256: str
    box: list[float] | None = None
    landmarks: list[list[float]] | None = None
    score: float | None = None
    captions: tuple[str, ...] = ()
    licence: Any = None
    consent: Any = None
    split: str = DEFAULT_SPLIT
    address: str | None = None
    mirrored: bool = False
    path: str | None = None

    def to_bytes(self) -> bytes:
        """KEY.json, the same bytes for the same record.

        Only what was fetched has an address, only what lay in a folder has a path, and only what is mirrored says so.
        `caption` is the first one; where there are several, `captions` are all.
        """
        values = dict(vars(self)) | {"caption": self.captions[0] if self.captions else None}
        if len(self.captions) < 2:
            del values["captions"]
        for name in ("address", "mirrored", "path"):
            if not values[name]:
                del values[name]
        text = json.dumps(values, ensure_ascii=False, sort_keys=True, allow_nan=False)
        return text.encode("utf-8", "backslashreplace")  # half characters, as JSON spells them

    @classmethod
    def from_bytes(cls, payload: bytes) -> "SampleRecord":
        """Read KEY.json, or a crop's own JSON, whose further keys are left out. NaN and infinities count as null.

        Raises:
            DinogenError: not a JSON object, no source, or captions or a split that are not texts.
        """
        try:
            values = read_stated(payload)
        except (ValueError, RecursionError) as error:
            raise DinogenError(f"is not JSON ({error})") from error
        if not isinstance(values, dict):
            raise DinogenError("is not a JSON object")
        known: dict[str, Any] = {
            field.name: values[field.name] for field in fields(cls) if values.get(field.name) is not None
        }
        for name in ("source", "source_sha256"):
            if name not in known:
                raise DinogenError(f"has no '{name}'")
        for name in ("source", "source_sha256", "split", "address", "path"):
            if name in known and not isinstance(known[name], str):
                raise DinogenError(f"'{name}' is not a text")
        known["captions"] = _captions_in(values)
        return cls(**known)

    def draw_caption(self, seed: int, epoch: int, key: str) -> str | None:
        """One of the captions, None where there are none: a pure function of the three, each as likely as the others.

        Args:
            seed: of the run.
            epoch: how often every sample has been handed out before.
            key: of the sample.
        """
        if not self.captions:
            return None
        digest = hashlib.blake2b(f"{seed} {epoch} {key}".encode(), digest_size=8).digest()
        return self.captions[int.from_bytes(digest, "little") % len(self.captions)]


def read_stated(payload: bytes) -> Any:
    """JSON of other tools, which write NaN and infinities where they know nothing: these count as null.

    Raises:
        ValueError, RecursionError: it is not JSON, or too deep.
    """
    return json.loads(payload, parse_constant=lambda constant: None, parse_float=_finite)


def _finite(text: str) -> float | None:
    """A number of JSON; None for 1e999, which only looks like one."""
    number = float(text)
    return number if math.isfinite(number) else None


def _captions_in(values: dict[str, Any]) -> tuple[str, ...]:
    """The captions of a record, in `captions`, or the one of older records, in `caption`."""
    captions, caption = values.get("captions"), values.get("caption")
    if captions is None:
        captions = [] if caption is None else [caption]
    if not isinstance(captions, list) or not all(isinstance(text, str) for text in captions):
        raise DinogenError("'caption' is not a text, or 'captions' not a list of texts")
    return tuple(filter(None, captions))
