"""Finding photos that look the same, among millions, and keeping them in one split."""

from collections.abc import Iterator

import imagehash
import numpy as np
from PIL import Image

HASH_SIDE = 16  # 256 bits: at 64, portraits of different people before the same wall already collide
NEAR = 12  # bits of 256. Portraits of different people: 26 or more; recompressed, resized or brightened: up to 12
BANDS = NEAR + 1  # two hashes that differ in at most NEAR bits agree in at least one of NEAR + 1 bands
TAIL = 20_000  # hashes that are compared one by one before they are sorted into bands
SPLITS = ("train", "val")


def perceptual_hash(image: Image.Image) -> str:
    """The 256-bit pHash of a whole photo (low frequencies of its cosine transform), 64 hexadecimal digits."""
    return str(imagehash.phash(image, hash_size=HASH_SIDE))


class NearIndex:
    """Hashes that can be asked for their near ones: exact, and sublinear in the number stored."""

    def __init__(self) -> None:
        self.hashes = np.zeros((0, 32), np.uint8)
        self.count = 0
        self.sorted_count = 0
        self.bands: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, digest: str) -> int:
        """Store a hash; its number is returned."""
        if self.count == len(self.hashes):
            self.hashes = np.concatenate([self.hashes, np.zeros((max(1024, self.count), 32), np.uint8)])
        self.hashes[self.count] = as_bytes(digest)
        self.count += 1
        if self.count - self.sorted_count > max(TAIL, self.sorted_count // 2):
            self._sort()
        return self.count - 1

    def near(self, digest: str) -> list[int]:
        """The numbers of stored hashes within `NEAR` bits, in the order they were added."""
        query = as_bytes(digest)
        candidates = np.arange(self.sorted_count, self.count)
        if self.bands:
            candidates = np.unique(np.concatenate([*self._look_up(query), candidates]))
        distances = np.bitwise_count(self.hashes[candidates] ^ query).sum(axis=1)
        return candidates[distances <= NEAR].tolist()

    def digest(self, number: int) -> str:
        """The hash of that number."""
        return self.hashes[number].tobytes().hex()

    def _sort(self) -> None:
        self.sorted_count = self.count
        self.bands = []
        for keys in band_keys(self.hashes[: self.count]):
            order = np.argsort(keys, kind="stable").astype(np.uint32)
            self.bands.append((keys[order], order))

    def _look_up(self, query: np.ndarray) -> Iterator[np.ndarray]:
        for (keys, order), (key,) in zip(self.bands, band_keys(query[None]), strict=True):
            yield order[np.searchsorted(keys, key, "left") : np.searchsorted(keys, key, "right")]


def as_bytes(digest: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(digest), np.uint8)


def band_keys(hashes: np.ndarray) -> Iterator[np.ndarray]:
    """Cut hashes `[n, 32]` into `BANDS` bands of 19 or 20 bits; each gives an integer key `[n]`, uint32."""
    bits = np.unpackbits(hashes, axis=1)
    for band in np.array_split(np.arange(8 * hashes.shape[1]), BANDS):
        yield bits[:, band] @ (1 << np.arange(len(band), dtype=np.uint32))


def split_of(sha256: str, val_fraction: float) -> str:
    """The split that a photo falls into by itself, `train` or `val`: decided by its bytes, not by its order."""
    return SPLITS[int(sha256[-8:], 16) < val_fraction * 2**32]
