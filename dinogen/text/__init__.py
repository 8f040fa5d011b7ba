"""Frozen networks that read captions, behind one protocol (`TextEncoder`)."""

from dinogen.errors import DinogenError
from dinogen.pretrained import load_pretrained
from dinogen.text.base import Encoded, TextEncoder, tidied
from dinogen.text.embedded import EMBEDDED, make_embedded
from dinogen.text.table import CaptionTable
from dinogen.text.towers import Clip, Sentences, Siglip, Siglip2, TransformersTower
from dinogen.text.whitening import Whitening

__all__ = [
    "EMBEDDED",
    "FAMILIES",
    "CaptionTable",
    "Encoded",
    "TextEncoder",
    "Whitening",
    "make_text_encoder",
    "text_encoder_of",
    "tidied",
]

# By the `model_type` in a saved model's config.json.
FAMILIES: dict[str, type[TransformersTower]] = {
    "clip": Clip,
    "clip_text_model": Clip,
    "siglip": Siglip,
    "siglip_text_model": Siglip,
    "siglip2": Siglip2,
    "siglip2_text_model": Siglip2,
    "bert": Sentences,
    "distilbert": Sentences,
    "mpnet": Sentences,
    "roberta": Sentences,
    "xlm-roberta": Sentences,
}


def make_text_encoder(name: str, flag: str = "--text.encoder") -> TextEncoder:
    """Load a text encoder, or make the embedded one.

    Args:
        name: `embedded`, a hub id such as `openai/clip-vit-base-patch32`, or a folder with `config.json`, safetensors
            and the tokenizer's files.
        flag: what sets `name`, for messages.

    Raises:
        DinogenError: the hub or the folder does not give a text encoder of a known family.
    """
    if name == EMBEDDED:
        return make_embedded()
    remedy = (
        f"{flag} takes '{EMBEDDED}', a hub id or a saved model's folder: without a network, run "
        f"`hf download ID --local-dir DIR` where there is one, copy DIR here and pass {flag} DIR"
    )
    return load_pretrained("text encoder", name, FAMILIES, remedy)


def text_encoder_of(name: str, fingerprint: str, flag: str = "--text.encoder") -> TextEncoder:
    """The text encoder that a model was trained with.

    Args:
        name: see `make_text_encoder`.
        fingerprint: of the one that the model was trained with.
        flag: what sets `name`, for messages.

    Raises:
        DinogenError: it is not there, or is another one.
    """
    encoder = make_text_encoder(name, flag)
    if encoder.fingerprint != fingerprint:
        raise DinogenError(
            f"text encoder '{name}' ({encoder.fingerprint}) is not the one that the model was trained with "
            f"({fingerprint}); pass {flag} DIR, a folder with a copy of that one"
        )
    return encoder
