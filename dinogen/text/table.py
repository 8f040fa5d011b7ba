"""Captions that were looked at before need not be looked at again."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from dinogen.text.base import Encoded, TextEncoder, tidied

TOKEN_BYTES = 2**30


class CaptionTable:
    """What an encoder makes of captions, kept by caption.

    Vectors are all kept. Tokens are kept until they fill `token_bytes`; then those that were not used for longest are
    given up, and made again when they are needed: the same numbers, as they do not depend on other captions.

    Args:
        encoder: what looks.
        token_bytes: memory for tokens, on the encoder's device.
    """

    def __init__(self, encoder: TextEncoder, token_bytes: int = TOKEN_BYTES):
        self.encoder = encoder
        self.token_bytes = token_bytes
        self._vectors: dict[str, Tensor] = {}
        self._tokens: OrderedDict[str, Tensor] = OrderedDict()
        self._held = 0

    def __len__(self) -> int:
        """Captions whose vectors are kept."""
        return len(self._vectors)

    def __call__(self, captions: Sequence[str | None]) -> Encoded:
        """Captions as the encoder sees them; None is the null caption."""
        texts = [tidied(caption or "") for caption in captions]
        wanted = dict.fromkeys(filter(None, texts))
        fresh = self._look([text for text in wanted if text not in self._tokens])
        tokens = {text: fresh[text] if text in fresh else self._tokens[text] for text in wanted}
        for text in wanted:
            self._keep(text, tokens[text])
        return self.encoder.together(texts, {text: (self._vectors[text], tokens[text]) for text in wanted})

    def pooled(self, captions: Sequence[str | None]) -> Tensor:
        """Vectors alone, `[N, D]`; zero for the null caption."""
        texts = [tidied(caption or "") for caption in captions]
        self._look([text for text in dict.fromkeys(filter(None, texts)) if text not in self._vectors])
        rows = torch.zeros(len(texts), self.encoder.width, device=self.encoder.device)
        for row, text in zip(rows, texts):
            if text:
                row.copy_(self._vectors[text])
        return rows

    def vectors_of(self, captions: Iterable[str]) -> tuple[list[str], Tensor]:
        """Different captions, tidy, and their vectors on the CPU, `[n, D]`, as `learn` takes them."""
        texts = list(filter(None, dict.fromkeys(map(tidied, captions))))
        return texts, self.pooled(texts).cpu()

    def learn(self, texts: Sequence[str], vectors: Tensor) -> None:
        """Keep what another table's `vectors_of` found with the same encoder."""
        self._vectors |= dict(zip(texts, vectors.to(self.encoder.device)))

    def _look(self, texts: list[str]) -> dict[str, Tensor]:
        """Look at captions and keep their vectors; their tokens."""
        rows = dict(zip(texts, self.encoder.rows(texts)))
        self._vectors |= {text: vector for text, (vector, _) in rows.items()}
        return {text: tokens for text, (_, tokens) in rows.items()}

    def _keep(self, text: str, tokens: Tensor) -> None:
        if text not in self._tokens:
            self._tokens[text] = tokens
            self._held += tokens.nbytes
        self._tokens.move_to_end(text)
        while self._held > self.token_bytes and len(self._tokens) > 1:
            self._held -= self._tokens.popitem(last=False)[1].nbytes
