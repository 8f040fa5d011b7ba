"""Finding photos that look the same, among millions, and keeping them in one split.

A photo's look is its 64-bit pHash and a thumbnail of 8×8 RGB pixels, as hexadecimal digits. The hash finds
candidates quickly; alone it would also match portraits of different people before the same wall. The thumbnails
decide: two portraits of different people correlated by up to 0.990 (504 portraits, all pairs); the same photo
recompressed, halved, blurred or cut by 1% by at least 0.996, brightened by a fifth by at least 0.986.
"""

from collections.abc import Iterator

import imagehash
import numpy as np
from PIL import Image

NEAR = 6  # bits of 64 in which candidates may differ
ALIKE = 0.993  # the least correlation of thumbnails that look the same
BANDS = NEAR + 1  # two hashes that differ in at most NEAR bits agree in at least one of NEAR + 1 bands
TAIL = 20_000  # hashes that are compared one by one before they are sorted into bands

HASH_BYTES, THUMB_SIDE = 8, 8
LOOK_BYTES = HASH_BYTES + 3 * THUMB_SIDE**2
SPLITS = ("train", "val")


def look_of(image: Image.Image) -> str:
    """The look of a whole RGB photo, 400 hexadecimal digits."""
    thumbnail = image.resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BOX)
    return str(imagehash.phash(image)) + np.asarray(thumbnail).tobytes().hex()


class LookIndex:
    """Looks that can be asked for the similar ones, in much less time than comparing with each."""

    def __init__(self) -> None:
        self.looks = np.zeros((0, LOOK_BYTES), np.uint8)
        self.count = 0
        self.sorted_count = 0
        self.bands: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, look: str) -> int:
        """Store a look; its number is returned."""
        if self.count == len(self.looks):
            self.looks = np.concatenate([self.looks, np.zeros((max(1024, self.count), LOOK_BYTES), np.uint8)])
        self.looks[self.count] = as_bytes(look)
        self.count += 1
        if self.count - self.sorted_count > max(TAIL, self.sorted_count // 2):
            self._sort()
        return self.count - 1

    def near(self, look: str) -> list[int]:
        """The numbers of the stored looks that are the same photo's, in the order they were added."""
        query = as_bytes(look)
        candidates = np.arange(self.sorted_count, self.count)
        if self.bands:
            candidates = np.unique(np.concatenate([*self._look_up(query), candidates]))
        distances = np.bitwise_count(self.looks[candidates, :HASH_BYTES] ^ query[:HASH_BYTES]).sum(axis=1)
        candidates = candidates[distances <= NEAR]
        likeness = correlations(self.looks[candidates, HASH_BYTES:], query[HASH_BYTES:])
        return candidates[likeness >= ALIKE].tolist()

    def _sort(self) -> None:
        self.sorted_count = self.count
        self.bands = []
        for keys in band_keys(self.looks[: self.count, :HASH_BYTES]):
            order = np.argsort(keys, kind="stable").astype(np.uint32)
            self.bands.append((keys[order], order))

    def _look_up(self, query: np.ndarray) -> Iterator[np.ndarray]:
        for (keys, order), (key,) in zip(self.bands, band_keys(query[None, :HASH_BYTES]), strict=True):
            yield order[np.searchsorted(keys, key, "left") : np.searchsorted(keys, key, "right")]


def as_bytes(look: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(look), np.uint8)


def band_keys(hashes: np.ndarray) -> Iterator[np.ndarray]:
    """Cut hashes `[n, 8]` into `BANDS` bands of 9 or 10 bits; each gives an integer key `[n]`."""
    bits = np.unpackbits(hashes, axis=1)
    for band in np.array_split(np.arange(8 * HASH_BYTES), BANDS):
        yield bits[:, band] @ (1 << np.arange(len(band), dtype=np.uint16))


def correlations(thumbnails: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each thumbnail `[n, 192]` with another one `[192]`: `[n]`, -1 to 1."""
    rows, column = centred(thumbnails), centred(other)
    return rows @ column / np.maximum(np.linalg.norm(rows, axis=1) * np.linalg.norm(column), 1e-9)


def centred(pixels: np.ndarray) -> np.ndarray:
    return pixels - pixels.mean(axis=-1, keepdims=True)


def split_of(sha256: str, val_fraction: float) -> str:
    """The split that a photo falls into by itself, `train` or `val`: decided by its bytes, not by its order."""
    return SPLITS[int(sha256[-8:], 16) < val_fraction * 2**32]
