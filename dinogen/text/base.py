"""What every text encoder is: frozen, and it makes a vector of a caption, and perhaps one of each of its words."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

STEP = 16  # tokens: captions are padded up to a multiple of it
TOGETHER = 16  # captions that are looked at together, the last ones made up with empty ones


@dataclass(frozen=True)
class Encoded:
    """Captions as an encoder sees them, float32.

    Args:
        pooled: `[N, D]`, of length one; all zero for the null caption.
        tokens: `[N, T, D']`, zero where the mask is False. T is the longest caption's; an encoder without tokens
            gives `[N, 0, 0]`.
        mask: bool `[N, T]`: which tokens are the caption's. None of the null caption's are.
    """

    pooled: Tensor
    tokens: Tensor
    mask: Tensor

    @property
    def is_null(self) -> Tensor:
        """bool `[N]`: which of them are the null caption."""
        return ~self.pooled.any(dim=1)


# One caption: its vector `[D]` and its tokens `[t, D']`.
Row = tuple[Tensor, Tensor]


class TextEncoder(nn.Module, ABC):
    """Frozen, float32 and always in eval mode.

    Attributes:
        width: D, the length of a caption's vector.
        token_width: D', the length of a token's; 0 where there are none.
        fingerprint: 16 hex digits: of its weights, and of how it pads and pools.
    """

    width: int
    token_width: int
    fingerprint: str

    def __init__(self) -> None:
        super().__init__()
        self.place: Tensor
        self.register_buffer("place", torch.empty(0), persistent=False)  # moves with it: says on which device it is

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.place.device

    def train(self, mode: bool = True) -> "TextEncoder":
        """Stay in eval mode whatever is asked."""
        return super().train(False)

    def forward(self, captions: Sequence[str]) -> Encoded:
        """Look at captions. White space counts as one space; an empty text is the null caption.

        A caption's numbers do not depend on the other captions.
        """
        texts = [tidied(caption) for caption in captions]
        known = dict.fromkeys(filter(None, texts))
        return self.together(texts, dict(zip(known, self.rows(list(known)))))

    def together(self, texts: Sequence[str], rows: dict[str, Row]) -> Encoded:
        """Captions in the order of `texts`, from the rows of those that are not empty."""
        longest = max((len(rows[text][1]) for text in texts if text), default=0)
        pooled = torch.zeros(len(texts), self.width, device=self.device)
        tokens = torch.zeros(len(texts), longest, self.token_width, device=self.device)
        mask = torch.zeros(len(texts), longest, dtype=torch.bool, device=self.device)
        for i, text in enumerate(texts):
            if text:
                pooled[i], its = rows[text]
                tokens[i, : len(its)], mask[i, : len(its)] = its, True
        return Encoded(pooled, tokens, mask)

    @abstractmethod
    def rows(self, texts: Sequence[str]) -> list[Row]:
        """Look at different captions that are tidy and not empty."""


def tidied(caption: str) -> str:
    """A caption without line breaks and double spaces."""
    return " ".join(caption.split())


class Tower(TextEncoder):
    """A network that reads a caption as tokens.

    Args:
        limit: tokens that it can read, special ones included; longer captions are cut, which is said once.
    """

    def __init__(self, limit: int):
        super().__init__()
        self.limit = limit
        self._has_cut = False

    @abstractmethod
    def ids(self, texts: Sequence[str], cut: bool) -> list[list[int]]:
        """Token ids of captions, special ones included, without padding; at most `limit` where they are to be cut."""

    @abstractmethod
    def padded_length(self, count: int) -> int:
        """To how many tokens a caption of `count` tokens is padded."""

    @abstractmethod
    def look(self, ids: list[list[int]], length: int) -> tuple[Tensor, Tensor]:
        """Pad and look: vectors `[n, D]` and tokens `[n, length, D']`, those of captions first."""

    @torch.no_grad()
    def rows(self, texts: Sequence[str]) -> list[Row]:
        if not texts:
            return []  # which the library's tokenizers cannot take
        found = self.ids(texts, cut=True)
        self._say_what_is_cut([text for text, ids in zip(texts, found) if len(ids) >= self.limit])
        # Sums are not the same to the last bit in batches of other shapes. So a caption is always seen in the same
        # shape: padded by its own length, among as many others.
        by_length: dict[int, list[int]] = {}
        for i, ids in enumerate(found):
            by_length.setdefault(self.padded_length(len(ids)), []).append(i)
        rows: list[Row] = [(self.place, self.place)] * len(texts)
        filler = self.ids([""], cut=True)[0]
        for length, members in by_length.items():
            for first in range(0, len(members), TOGETHER):
                some = members[first : first + TOGETHER]
                batch = [found[i] for i in some] + [filler] * (TOGETHER - len(some))
                with torch.autocast(self.device.type, enabled=False):
                    pooled, tokens = self.look(batch, length)
                pooled = nn.functional.normalize(pooled.float(), dim=1)
                for i, vector, its in zip(some, pooled, tokens.float()):
                    # Copies: a view would keep the whole batch in memory for as long as it lives.
                    rows[i] = vector.clone(), its[: len(found[i])].clone()
        return rows

    def _say_what_is_cut(self, texts: Sequence[str]) -> None:
        if self._has_cut or not texts:
            return
        for text, ids in zip(texts, self.ids(texts, cut=False)):
            if len(ids) > self.limit:
                self._has_cut = True
                start = text if len(text) <= 60 else text[:59] + "…"
                message = f"A caption of {len(ids)} tokens is cut at {self.limit}, as are all longer ones: '{start}'"
                return print(message, file=sys.stderr)
