"""One photo → its crops, or the cause why there are none. A pure function of the bytes and the options."""

import hashlib
import io
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shards.align import align, carry, crop_transform, padding_share
from shards.decode import Rejected, decode
from shards.detect import find_faces, make_detector
from shards.duplicates import look_of
from shards.face import Face
from shards.options import CropOptions
from shards.quality import head_pose, sharpness
from shards.sources import Source
from shards.stated import SPELLINGS, read_sidecar

ACCEPTED = "accepted"
DUPLICATE = "duplicate"
PROVENANCE = ("source", "path", "source_sha256", *SPELLINGS)  # what a crop's record says that its pixels do not
SAVE_OPTIONS = {
    "jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},  # 4:4:4: lips and eyes keep their colour edges
    "png": {"format": "PNG"},
}


@dataclass(frozen=True)
class Crop:
    """One aligned face: its key, its encoded picture and what stands in `KEY.json`."""

    key: str
    picture: bytes
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What became of one source.

    cause: `accepted`, or one word for why it gave no crop. detail: the same for people.
    stamp: of the source before it was read.
    look: for comparing accepted photos, see `duplicates`.
    measures: of its largest face, as far as it was looked at: score, face_pixels, yaw, pitch, sharpness, padding.
    """

    cause: str
    detail: str = ""
    sha256: str | None = None
    look: str | None = None
    crops: list[Crop] = field(default_factory=list)
    measures: dict[str, float] = field(default_factory=dict)
    stamp: list = field(default_factory=list)


class Cropper:
    """Cuts photos by fixed options; holds the detector.

    Args:
        options: what decides about crops.
        known: sha256 of photos that have crops: others with these bytes are duplicates, and not searched.
    """

    def __init__(self, options: CropOptions, known: Container[str] = ()):
        self.options, self.known = options, known
        weights = options.detector_weights
        self.detector = make_detector(options.detector, Path(weights) if weights else None)

    def __call__(self, source: Source) -> Outcome:
        """Read, decode, detect, choose and cut one source. Never raises for what is wrong with the source itself."""
        stamp, digest = source.stamp(), None
        measures: dict[str, float] = {}
        try:
            payload = source.read()
            digest = hashlib.sha256(payload).hexdigest()
            if digest in self.known:
                provenance_of(source, digest)
                return Outcome(DUPLICATE, "", digest, stamp=stamp)
            image = decode(payload, int(self.options.max_megapixels * 1e6))
            faces = self.choose(image, measures)
            crops = self.cut_all(image, faces, provenance_of(source, digest), measures)
            return Outcome(ACCEPTED, "", digest, look_of(image), crops, measures, stamp)
        except Rejected as rejected:
            return Outcome(rejected.cause, rejected.detail, digest, measures=measures, stamp=stamp)

    def choose(self, image: Image.Image, measures: dict[str, float]) -> list[Face]:
        """The faces to cut, the largest first, by `faces`, `min_face` and `min_score`."""
        options = self.options
        if min(image.size) < options.min_face:
            raise Rejected("too-small", f"{image.width}×{image.height} pixels, less than a face of {options.min_face}")
        found = find_faces(self.detector, image, options.min_face, options.min_score, options.faces == "largest")
        if not found:
            raise Rejected("no-face", "the detector found nothing")
        surest = max(found, key=lambda face: face.score)
        sure = [face for face in found if face.score >= options.min_score]
        largest = sure[0] if sure else surest
        measures.update(score=round(largest.score, 6), face_pixels=round(largest.side, 1))
        if not sure:
            raise Rejected("no-face", f"the surest candidate scores {surest.score:.2f}, less than {options.min_score}")
        large = [face for face in sure if face.side >= options.min_face]
        if not large:
            raise Rejected("face-too-small", f"{largest.side:.0f} pixels, less than {options.min_face}")
        if options.faces == "skip" and len(large) > 1:
            raise Rejected("several-faces", f"{len(large)} faces")
        return large if options.faces == "all" else large[:1]

    def cut_all(
        self, image: Image.Image, faces: list[Face], provenance: dict[str, Any], measures: dict[str, float]
    ) -> list[Crop]:
        """Cut the faces that pass; if none does, it is the largest one's cause that counts."""
        crops, rejections = [], []
        for index, face in enumerate(faces):
            try:
                crops.append(self.cut(image, face, index, provenance, measures if index == 0 else {}))
            except Rejected as rejected:
                rejections.append(rejected)
        if not crops:
            raise rejections[0]
        return crops

    def cut(
        self, image: Image.Image, face: Face, index: int, provenance: dict[str, Any], measures: dict[str, float]
    ) -> Crop:
        """Align one face, judge and describe it."""
        size = self.options.size
        landmarks = np.round(face.landmarks, 3)  # rounded first, so that the transform follows from what is recorded
        try:
            transform = crop_transform(landmarks, size)
        except ValueError as error:
            raise Rejected("no-face", str(error)) from error
        yaw, pitch = head_pose(carry(landmarks, transform))
        padding = padding_share(transform, image.size, size)
        measures.update(yaw=round(yaw, 1), pitch=round(pitch, 1), padding=round(padding, 4))
        check("extreme-pose", max(abs(yaw), abs(pitch)) <= self.options.max_pose, f"{yaw:.0f}°, {pitch:.0f}°")
        check("too-much-padding", padding <= self.options.max_padding, f"{padding:.0%} lies outside the photo")
        crop = align(image, transform, size)
        sharp = sharpness(crop)
        measures.update(sharpness=round(sharp, 2))
        check("blurred", sharp >= self.options.min_sharpness, f"sharpness {sharp:.1f}")
        metadata = {
            **provenance,
            "box": np.round(face.box, 3).tolist(),
            "score": round(face.score, 6),
            "landmarks": landmarks.tolist(),
            "transform": transform.tolist(),
            "crop_size": size,
            "size": list(image.size),
            "yaw": round(yaw, 1),
            "pitch": round(pitch, 1),
            "padding": round(padding, 4),
            "sharpness": round(sharp, 2),
        }
        key = f"{provenance['source_sha256'][:16]}-{index}"
        return Crop(key, encode(crop, self.options.format), metadata)


def check(cause: str, passed: bool, detail: str) -> None:
    """Reject the face for `cause` unless it passed."""
    if not passed:
        raise Rejected(cause, detail)


def encode(image: Image.Image, suffix: str) -> bytes:
    """Encode a crop; nothing but pixels is written."""
    stream = io.BytesIO()
    image.save(stream, **SAVE_OPTIONS[suffix])
    return stream.getvalue()


def provenance_of(source: Source, sha256: str) -> dict[str, Any]:
    """What the records of a photo's crops say of where they come from: the `PROVENANCE` keys.

    Raises:
        Rejected: `bad-sidecar`, or the sidecar cannot be opened.
    """
    name = source.name.encode("utf-8", "backslashreplace").decode()  # file systems allow names that are no Unicode
    file_name = name.rsplit("/", 1)[-1]
    return {
        "source": file_name,
        **({"path": name} if name != file_name else {}),
        "source_sha256": sha256,
        **read_sidecar(source.sidecar(), source.address),
    }


@dataclass(frozen=True)
class Reading:
    """What a photo and its sidecar held at some time: bytes with this sha256, this provenance, or neither.

    refused: the cause and detail where one of them cannot be used.
    """

    stamp: list
    sha256: str | None = None
    provenance: dict[str, Any] | None = None
    refused: Rejected | None = None


def read_again(source: Source) -> Reading:
    """Look which photo a source is, without looking for faces."""
    stamp, digest = source.stamp(), None  # first the stamp: what is changed while it is read must be read again
    try:
        digest = hashlib.sha256(source.read()).hexdigest()
        return Reading(stamp, digest, provenance_of(source, digest))
    except Rejected as rejected:
        return Reading(stamp, digest, refused=rejected)
