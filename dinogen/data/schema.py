"""What one sample is: three members of a tar under one key.

KEY.jpg or KEY.png        the crop, the bytes of the crop file unchanged
KEY.json                  where it comes from and what may be done with it: a `SampleRecord`
KEY.pyramid.safetensors   fp16, the tensors of `PyramidSpec.stored_shapes()`
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from dinogen.errors import DinogenError
from dinogen.pyramid import PyramidSpec

CROP_SIZE = 256  # pixels along one side of a crop
IMAGE_SUFFIXES = ("jpg", "png")
RECORD_SUFFIX = "json"
PYRAMID_SUFFIX = "pyramid.safetensors"

# No dot, because WebDataset ends a key at its first dot; no slash, so that no key can ever leave a folder.
KEY_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")
DEFAULT_SPLIT = "train"


@dataclass(frozen=True)
class SampleRecord:
    """Where a crop comes from and what may be done with it: the content of KEY.json.

    Args:
        source: file name of the source picture.
        source_sha256: sha256 of the source's bytes, in hex.
        box: of the face, in pixels of the upright source: left, top, right, bottom.
        landmarks: five points (x, y) in pixels of the upright source, image-left eye first.
        score: the detector's, 0 to 1.
        caption: what the picture shows, or None.
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
    caption: str | None = None
    licence: Any = None
    consent: Any = None
    split: str = DEFAULT_SPLIT
    address: str | None = None
    mirrored: bool = False

    def to_bytes(self) -> bytes:
        """KEY.json, the same bytes for the same record; only what was fetched has an address, only what is mirrored
        says so."""
        values = dict(vars(self))
        for name in ("address", "mirrored"):
            if not values[name]:
                del values[name]
        return json.dumps(values, ensure_ascii=False, sort_keys=True, allow_nan=False).encode()

    @classmethod
    def from_bytes(cls, payload: bytes) -> "SampleRecord":
        """Read KEY.json, or a crop's own JSON, whose further keys are left out.

        Raises:
            DinogenError: not a JSON object, no source, or a caption or split that is no text.
        """
        try:
            values = json.loads(payload)
        except ValueError as error:
            raise DinogenError(f"is not JSON ({error})") from error
        if not isinstance(values, dict):
            raise DinogenError("is not a JSON object")
        known = {field.name: values[field.name] for field in fields(cls) if values.get(field.name) is not None}
        for name in ("source", "source_sha256"):
            if name not in known:
                raise DinogenError(f"has no '{name}'")
        for name in ("source", "source_sha256", "caption", "split", "address"):
            if name in known and not isinstance(known[name], str):
                raise DinogenError(f"'{name}' is not a text")
        return cls(**known)


class PyramidLayout:
    """Where each tensor lies in the bytes of a KEY.pyramid.safetensors: the same for all samples of a spec."""

    def __init__(self, spec: PyramidSpec):
        self.shapes = spec.stored_shapes()
        empty = save({name: torch.zeros(shape, dtype=torch.float16) for name, shape in self.shapes.items()})
        # A safetensors file: 8 bytes with the header's length, the header (JSON), the data.
        header_end = 8 + int.from_bytes(empty[:8], "little")
        entries = json.loads(empty[8:header_end])
        self.header = empty[:header_end]
        self.size = len(empty)
        self._spans = {
            name: tuple(header_end + offset for offset in entries[name]["data_offsets"]) for name in self.shapes
        }

    def join(self, pyramids: Mapping[str, Tensor]) -> Tensor:
        """The files' bytes from the tensors of a batch, the inverse of `split`.

        Args:
            pyramids: fp16 tensors `[N, *shape]` of `stored_shapes()`, on the CPU.

        Returns:
            uint8 `[N, size]`, a file in each row.
        """
        rows = torch.empty(len(pyramids["cls"]), self.size, dtype=torch.uint8)
        rows[:, : len(self.header)] = torch.frombuffer(bytearray(self.header), dtype=torch.uint8)
        for name, (start, stop) in self._spans.items():
            rows[:, start:stop] = pyramids[name].flatten(1).contiguous().view(torch.uint8)
        return rows

    def normalise(self, payload: bytes) -> bytes:
        """Check a file and return it in exactly this layout.

        Another version of safetensors may order the same tensors differently; everything else is refused.

        Raises:
            DinogenError: no safetensors, or not the tensors, shapes and type of the spec.
        """
        if len(payload) == self.size and payload.startswith(self.header):
            return payload
        try:
            tensors = load(payload)
        except (SafetensorError, ValueError, KeyError) as error:
            raise DinogenError(f"is not a safetensors file ({error})") from error
        if set(tensors) != set(self.shapes):
            raise DinogenError(f"holds {', '.join(sorted(tensors))} instead of {', '.join(sorted(self.shapes))}")
        for name, tensor in tensors.items():
            if tuple(tensor.shape) != self.shapes[name] or tensor.dtype != torch.float16:
                found = f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
                raise DinogenError(f"'{name}' is {found} instead of float16 {list(self.shapes[name])}")
        return self.join({name: tensor[None] for name, tensor in tensors.items()}).numpy().tobytes()

    def split(self, rows: Tensor) -> dict[str, Tensor]:
        """Tensors of a batch from the files' bytes.

        Args:
            rows: uint8 `[N, size]`, a file of this layout in each row.

        Returns:
            fp16 tensors `[N, *shape]` of `stored_shapes()`.
        """
        return {
            name: rows[:, start:stop].contiguous().view(torch.float16).unflatten(1, self.shapes[name])
            for name, (start, stop) in self._spans.items()
        }
