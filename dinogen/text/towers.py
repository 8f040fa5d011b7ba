"""Text towers of the `transformers` library: CLIP, SigLIP, SigLIP 2 and sentence encoders."""

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, CLIPTextModelWithProjection, Siglip2TextModel, SiglipTextModel
from transformers.utils import logging as transformers_logging

from dinogen.errors import first_line
from dinogen.teachers.base import hash_weights
from dinogen.text.base import STEP, Tower

UNUSED = "pooler."  # a layer of BERT-like models that not all files have, and that nothing here looks at


class TransformersTower(Tower):
    """Around a model of the library and its tokenizer.

    Args:
        model: its text part.
        tokenizer: of the same folder.
        limit: tokens that it can read.
        width, token_width: see `TextEncoder`.
    """

    library_class: ClassVar[Any]  # of the library
    how: ClassVar[str]  # it pads and pools: part of the fingerprint, so change the text with the way

    def __init__(self, model: Any, tokenizer: Any, limit: int, width: int, token_width: int):
        super().__init__(limit)
        self.model = model.requires_grad_(False).eval()
        self.tokenizer = tokenizer
        self.width, self.token_width = width, token_width
        # Parameters only: versions of the library differ in which buffers they count as weights.
        weights = (tensor for name, tensor in model.named_parameters() if not name.startswith(UNUSED))
        self.fingerprint = hashlib.sha256(f"{hash_weights(weights)} {limit} {self.how}".encode()).hexdigest()[:16]

    @classmethod
    def load(cls, source: str) -> Self:
        """Open a saved one. Only safetensors are read, never a pickle.

        Args:
            source: a folder or a hub id.

        Raises:
            OSError, ValueError: it could not be read, or lacks weights or a token for padding.
            ImportError: its tokenizer needs a package that is not here.
        """
        with without_warnings():  # of the weights for images, which are left out
            model, report = cls.library_class.from_pretrained(
                source, use_safetensors=True, dtype=torch.float32, output_loading_info=True
            )
        # The library would fill them with chance and carry on.
        if missing := sorted(name for name in report["missing_keys"] if not name.startswith(UNUSED)):
            raise ValueError(f"its file has no weights for {', '.join(missing[:3])}")
        tokenizer = open_tokenizer(source)
        if tokenizer.pad_token_id is None:
            raise ValueError("its tokenizer has no token for padding")
        return cls.around(model, tokenizer)

    @classmethod
    @abstractmethod
    def around(cls, model: Any, tokenizer: Any) -> Self:
        """The tower of a model that was just opened."""

    def ids(self, texts: Sequence[str], cut: bool) -> list[list[int]]:
        limit: dict[str, Any] = {"truncation": True, "max_length": self.limit} if cut else {"truncation": False}
        return self.tokenizer(list(texts), padding=False, verbose=False, **limit)["input_ids"]

    def padded_length(self, count: int) -> int:
        return min(-(-count // STEP) * STEP, self.limit)

    def padded(self, ids: list[list[int]], length: int) -> tuple[Tensor, Tensor]:
        """Ids `[n, length]`, padded on the right, and which of them are the captions', bool of the same shape."""
        counts = torch.tensor([len(its) for its in ids])
        filled = [its + [self.tokenizer.pad_token_id] * (length - len(its)) for its in ids]
        return torch.tensor(filled, device=self.device), (torch.arange(length) < counts[:, None]).to(self.device)


class Clip(TransformersTower):
    """CLIP (arXiv 2103.00020): the projected token at the end of the text.

    The library looks for that token by the config's `eos_token_id`, which is wrong in most published configs. Here it
    is the last one before the padding.
    """

    library_class = CLIPTextModelWithProjection
    how = "end of text, projected"

    @classmethod
    def around(cls, model: Any, tokenizer: Any) -> Self:
        config = model.config
        return cls(model, tokenizer, config.max_position_embeddings, config.projection_dim, config.hidden_size)

    def look(self, ids: list[list[int]], length: int) -> tuple[Tensor, Tensor]:
        filled, mask = self.padded(ids, length)
        tokens = self.model.text_model(input_ids=filled, attention_mask=mask.long()).last_hidden_state
        ends = tokens[torch.arange(len(ids), device=self.device), mask.sum(dim=1) - 1]
        return self.model.text_projection(ends), tokens


class Siglip(TransformersTower):
    """SigLIP (arXiv 2303.15343): the head at the last position.

    It was trained on captions padded to its full length, without a mask: padded to less, it sees another position.
    """

    library_class = SiglipTextModel
    how = "padded to the full length, last position, head"

    @classmethod
    def around(cls, model: Any, tokenizer: Any) -> Self:
        config = model.config
        return cls(model, tokenizer, config.max_position_embeddings, config.projection_size, config.hidden_size)

    def ids(self, texts: Sequence[str], cut: bool) -> list[list[int]]:
        return super().ids([text.lower() for text in texts], cut)  # as trained; SigLIP 2's tokenizers leave it out

    def padded_length(self, count: int) -> int:
        return self.limit

    def look(self, ids: list[list[int]], length: int) -> tuple[Tensor, Tensor]:
        output = self.model(input_ids=self.padded(ids, length)[0])
        return output.pooler_output, output.last_hidden_state


class Siglip2(Siglip):
    """SigLIP 2 (arXiv 2502.14786), the kind for pictures of any shape. Its others are saved as SigLIP."""

    library_class = Siglip2TextModel


class Sentences(TransformersTower):
    """A BERT-like sentence encoder (arXiv 1908.10084): the mean over a caption's tokens."""

    library_class = AutoModel
    how = "mean over tokens"

    @classmethod
    def around(cls, model: Any, tokenizer: Any) -> Self:
        width, positions = model.config.hidden_size, model.config.max_position_embeddings
        if model.config.model_type in COUNT_FROM_PADDING:
            positions -= model.config.pad_token_id + 1
        return cls(model, tokenizer, min(tokenizer.model_max_length, positions), width, width)

    def look(self, ids: list[list[int]], length: int) -> tuple[Tensor, Tensor]:
        filled, mask = self.padded(ids, length)
        tokens = self.model(input_ids=filled, attention_mask=mask.long()).last_hidden_state
        kept = mask.unsqueeze(2).to(tokens.dtype)
        return (tokens * kept).sum(dim=1) / kept.sum(dim=1), tokens


COUNT_FROM_PADDING = ("mpnet", "roberta", "xlm-roberta")  # a caption's first position is the padding's id + 1


def open_tokenizer(source: str) -> Any:
    """The tokenizer of a folder or a hub id.

    Raises:
        OSError, ValueError: it could not be read.
        ImportError: it needs a package that is not here.
    """
    try:
        # A snapshot's file may name any encoder: code that comes with one is refused, not asked about.
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, ImportError):
        raise
    except Exception as error:  # the library for tokenizers knows no other kind
        raise ValueError(f"its tokenizer: {first_line(error)}") from error


@contextmanager
def without_warnings() -> Iterator[None]:
    """The library logs errors only."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
