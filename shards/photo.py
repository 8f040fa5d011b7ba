"""One photo → its crops, or the cause why there are none. A pure function of the bytes and the options."""

import hashlib
import io
import json
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

ACCEPTED = "accepted"
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
    look: for comparing accepted photos, see `duplicates`.
    measures: of its largest face, as far as it was looked at: score, face_pixels, yaw, pitch, sharpness, padding.
    """

    cause: str
    detail: str = ""
    sha256: str | None = None
    look: str | None = None
    crops: list[Crop] = field(default_factory=list)
    measures: dict[str, float] = field(default_factory=dict)


class Cropper:
    """Cuts photos by fixed options; holds the detector."""

    def __init__(self, options: CropOptions):
        self.options = options
        weights = options.detector_weights
        self.detector = make_detector(options.detector, Path(weights) if weights else None)

    def __call__(self, source: Source) -> Outcome:
        """Read, decode, detect, choose and cut one source. Never raises for what is wrong with the source itself."""
        digest = None
        measures: dict[str, float] = {}
        try:
            payload = source.read()
            digest = hashlib.sha256(payload).hexdigest()
            image = decode(payload, int(self.options.max_megapixels * 1e6))
            faces = self.choose(image, measures)
            provenance = {"source": source.file_name, "source_sha256": digest, **read_sidecar(source)}
            crops = self.cut_all(image, faces, provenance, measures)
            return Outcome(ACCEPTED, "", digest, look_of(image), crops, measures)
        except Rejected as rejected:
            return Outcome(rejected.cause, rejected.detail, digest, measures=measures)

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


def read_sidecar(source: Source) -> dict[str, Any]:
    """What is known of a photo's origin: `licence` and `consent`, null where nothing is said, `address`, and
    `caption` or `captions`, a text or several.

    They are read from the `.json` of the same name beside it; an address that it was just fetched from wins.
    """
    payload = source.sidecar()
    try:
        stated = {} if payload is None else json.loads(payload)
    except ValueError as error:
        raise Rejected("bad-sidecar", f"the .json beside it: {error}") from error
    if not isinstance(stated, dict):
        raise Rejected("bad-sidecar", "the .json beside it is not an object with the keys licence and consent")
    further = {"address": source.address or stated.get("address"), "caption": stated.get("caption")}
    found = {key: stated.get(key) for key in ("licence", "consent")} | {
        key: value for key, value in further.items() if isinstance(value, str)
    }
    captions = stated.get("captions", stated.get("caption"))
    if isinstance(captions, list):
        found["captions"] = [text for text in captions if isinstance(text, str)]
    return found
