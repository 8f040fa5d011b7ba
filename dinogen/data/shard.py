"""Random access to the samples of one tar."""

import os
import struct
import tarfile
from pathlib import Path

import numpy as np

from dinogen.data.schema import EMBEDDING_SUFFIX, IMAGE_SUFFIXES, KEY_PATTERN, PYRAMID_SUFFIX, RECORD_SUFFIX
from dinogen.errors import DinogenError

BLOCK = tarfile.BLOCKSIZE  # 512 bytes: a tar is headers and padded contents, all in blocks
PART_OF_SUFFIX = {
    **dict.fromkeys(IMAGE_SUFFIXES, "image"),
    RECORD_SUFFIX: "record",
    PYRAMID_SUFFIX: "pyramid",
    EMBEDDING_SUFFIX: "embedding",
}
PARTS = ("image", "record", "pyramid", "embedding")  # the last one in all samples of a data set, or in none
NOTHING = ("", 0, 0)
HEADER = struct.Struct("100s 24x 12s 12x 8s c 188x 155s 12x")  # name, size, checksum, type, prefix; the rest is skipped


class Shard:
    """The samples of one shard, found by reading all headers once and then read in any order.

    Stricter than `tarfile`, which takes a damaged header for the end of the file: every header up to the end
    mark must make sense, and complete samples are all that may be there.

    Args:
        path: the tar, a local file.

    Raises:
        DinogenError: damaged, cut short, or with members that do not belong in a shard; names the shard.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            self._file = open(path, "rb", buffering=0)
        except OSError as error:
            raise DinogenError(f"{path}: cannot be read ({error.strerror}); pack again or restore the file") from error
        self.keys: list[str] = []
        self._image_suffixes: list[str] = []
        # Thousands of shards may be open in turn: offsets and lengths are kept in an array [sample, part, 2].
        self._spans = np.zeros((0, len(PARTS), 2), dtype=np.int64)
        try:
            self._index()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self.keys)

    def image_name(self, row: int) -> str:
        """File name of a sample's crop, `KEY.jpg` or `KEY.png`."""
        return f"{self.keys[row]}.{self._image_suffixes[row]}"

    def size(self, row: int, part: str) -> int:
        """Length in bytes of one of a sample's `PARTS`, 0 where it is not there."""
        return int(self._spans[row, PARTS.index(part), 1])

    def read(self, row: int, part: str) -> bytes:
        """The bytes of one of a sample's `PARTS`."""
        payload = bytearray(self.size(row, part))
        self.read_into(row, part, memoryview(payload))
        return bytes(payload)

    def read_into(self, row: int, part: str, target: memoryview, skip: int = 0) -> None:
        """Fill `target` with the part's bytes from number `skip` on."""
        offset, filled = int(self._spans[row, PARTS.index(part), 0]) + skip, 0
        while filled < len(target):
            count = os.preadv(self._file.fileno(), [target[filled:]], offset + filled)
            if not count:
                raise DinogenError(f"{self.path}: became shorter while it was read")
            filled += count

    def _index(self) -> None:
        samples = self._scan()
        for key, spans in samples.items():
            missing = set(PARTS) - {"embedding"} - set(spans)
            if missing:
                raise DinogenError(f"{self.path}: sample {key} has no {' and no '.join(sorted(missing))}; pack again")
        told = [key for key, spans in samples.items() if "embedding" in spans]
        if told and len(told) < len(samples):
            raise DinogenError(f"{self.path}: sample {told[0]} has an embedding and others have none; pack again")
        self.keys = list(samples)
        self._image_suffixes = [spans["image"][0] for spans in samples.values()]
        spans = [[spans.get(part, NOTHING)[1:] for part in PARTS] for spans in samples.values()]
        self._spans = np.array(spans, dtype=np.int64).reshape(-1, len(PARTS), 2)

    def _scan(self) -> dict[str, dict[str, tuple[str, int, int]]]:
        """Suffix, offset and length of every member, by key and part."""
        samples: dict[str, dict[str, tuple[str, int, int]]] = {}
        descriptor, end, offset = self._file.fileno(), os.fstat(self._file.fileno()).st_size, 0
        while True:
            header = os.pread(descriptor, BLOCK, offset)
            if header.count(0) == BLOCK:
                return samples
            try:
                name, size, plain_file = parse_header(header)
            except ValueError as error:
                raise DinogenError(f"{self.path}: damaged at byte {offset} ({error}); pack again") from error
            key, _, suffix = name.partition(".")
            if not plain_file or suffix not in PART_OF_SUFFIX or not KEY_PATTERN.fullmatch(key):
                raise DinogenError(f"{self.path}: member {name!r} does not belong in a shard; do not trust it")
            part = PART_OF_SUFFIX[suffix]
            if part in samples.setdefault(key, {}):
                raise DinogenError(f"{self.path}: sample {key} has its {part} twice; do not trust this file")
            samples[key][part] = (suffix, offset + BLOCK, size)
            offset += BLOCK + -(-size // BLOCK) * BLOCK
            if offset > end:
                raise DinogenError(f"{self.path}: cut short in {name}; pack again")


def parse_header(header: bytes) -> tuple[str, int, bool]:
    """Name, size in bytes and whether it is a plain file of a tar's member: POSIX.1-1988 (ustar).

    `tarfile` does the same for all sixteen fields, in six times the time; opening a shard is little else.

    Raises:
        ValueError: it says what is damaged.
    """
    if len(header) < BLOCK:
        raise ValueError("the end is missing")
    name, size, checksum, kind, prefix = HEADER.unpack(header)
    if octal(checksum) != sum(header) - sum(checksum) + len(checksum) * ord(" "):
        raise ValueError("bad checksum")
    length = octal(size)
    plain_file = kind in (tarfile.REGTYPE, tarfile.AREGTYPE) and not prefix.strip(b"\0") and length >= 0
    return name.rstrip(b"\0").decode(), length, plain_file


def octal(field: bytes) -> int:
    return int(field.strip(b"\0 ") or b"0", base=8)
