"""The embedded text encoder: words and parts of words, hashed. Nothing is downloaded and nothing is understood."""

import hashlib
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from dinogen.text.base import Row, TextEncoder

EMBEDDED = "embedded"
WIDTH = 512  # with 256, features that have nothing to do with each other disturbed what captions lead one to expect
PARTS = (3, 4, 5)  # letters in a part of a word
WORD = re.compile(r"\w+")
ARTICLES = {"a", "an", "the"}  # left out, for "without a beard" to have the pair "without beard"
HOW = f"words, pairs and parts of {PARTS} letters, no articles, signs of blake2b, {WIDTH} numbers, version 2"


class Embedded(TextEncoder):
    """The sum of a random vector of signs for each word, each pair of neighbours and each part of a word.

    That is a random projection (Achlioptas 2003) of their counts. Texts with the same words are near each other; other
    words of the same meaning are far away. Articles do not count. It has no tokens.
    """

    width, token_width = WIDTH, 0
    fingerprint = hashlib.sha256(HOW.encode()).hexdigest()[:16]

    def rows(self, texts: Sequence[str]) -> list[Row]:
        nothing = torch.empty(0, 0, device=self.device)
        return [(torch.from_numpy(vector_of(text)).to(self.device), nothing) for text in texts]


def make_embedded() -> Embedded:
    """The embedded encoder, the same on every machine."""
    print(
        "Text encoder 'embedded': it compares words by their letters and knows no meanings; for demos and tests.",
        file=sys.stderr,
    )
    return Embedded()


def vector_of(text: str) -> np.ndarray:
    """float32 `[512]` of length one."""
    total = np.zeros(WIDTH)
    for feature, weight in sorted(features_of(text).items()):
        digest = hashlib.blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=WIDTH // 8).digest()
        signs = np.unpackbits(np.frombuffer(digest, np.uint8)).astype(np.float64) * 2 - 1
        total += weight * signs
    return (total / np.sqrt((total * total).sum())).astype(np.float32)


def features_of(text: str) -> dict[str, float]:
    """What a text is made of, and how much each counts: a word and a pair one, all parts of a word together one."""
    features: defaultdict[str, float] = defaultdict(float)
    words = WORD.findall(text.casefold())
    words = [word for word in words if word not in ARTICLES] or words or [text]
    for word in words:
        features[f"word {word}"] += 1
        parts = list(parts_of(f"<{word}>"))
        for part in parts:
            features[f"part {part}"] += 1 / len(parts)
    for pair in zip(words, words[1:]):
        features[f"pair {' '.join(pair)}"] += 1
    return features


def parts_of(word: str) -> Iterator[str]:
    for length in PARTS:
        for start in range(len(word) - length + 1):
            yield word[start : start + length]
