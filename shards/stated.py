"""What is stated of a photo, in the `.json` beside it or in a row of a table: under which terms, and what it shows."""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from dinogen.data.schema import read_stated
from shards.decode import Rejected
from shards.remote import public_address

# What is stated, and the names that tools give to it; the first of them with a value counts.
SPELLINGS = {
    "licence": ("licence", "license"),
    "consent": ("consent",),
    "address": ("address", "source_url", "url"),
    "caption": ("caption", "text"),
    "captions": ("captions",),
}
MOST_BYTES = 1 << 24  # of a sidecar
MOST_CHARACTERS = 10_000  # of one value


def read_sidecar(payload: bytes | None, address: str | None = None) -> dict[str, Any]:
    """What a sidecar says: `licence` and `consent`, null where nothing is said, `address`, and `caption` or
    `captions`, a text or several.

    Args:
        payload: the file, any of whose `SPELLINGS` count; None where there is none.
        address: that the photo was just fetched from, which wins.

    Raises:
        Rejected: `bad-sidecar`.
    """
    values = {} if payload is None else parse(payload)
    stated = {name: stated_in(values, name) for name in SPELLINGS}
    found: dict[str, Any] = {name: flat(stated[name]) for name in ("licence", "consent")}
    if address is None and isinstance(stated["address"], str):
        address = public(stated["address"])
    if address is not None:
        found["address"] = address
    if isinstance(stated["caption"], str):
        found["caption"] = stated["caption"]
    captions = stated["caption"] if stated["captions"] is None else stated["captions"]
    if isinstance(captions, list):
        found["captions"] = [text for text in captions if isinstance(text, str)]
    for name, value in found.items():
        if len(json.dumps(value, ensure_ascii=False)) > MOST_CHARACTERS:
            raise Rejected("bad-sidecar", f"the .json beside it: '{name}' has more than {MOST_CHARACTERS:,} characters")
    return found


def parse(payload: bytes) -> dict[str, Any]:
    """The object in a sidecar, with null for what other tools write where they know nothing: NaN and infinities.

    Raises:
        Rejected: `bad-sidecar`.
    """
    if len(payload) > MOST_BYTES:
        raise Rejected(
            "bad-sidecar", f"the .json beside it has {len(payload):,} bytes; at most {MOST_BYTES:,} are read"
        )
    try:
        values = read_stated(payload)
        # Half characters, which JSON can spell and no file can hold.
        values = json.loads(json.dumps(values, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise Rejected("bad-sidecar", f"the .json beside it: {error}") from error
    if not isinstance(values, dict):
        raise Rejected("bad-sidecar", "the .json beside it is not an object with the keys licence and consent")
    return values


def stated_in(values: Mapping[Any, Any], name: str) -> Any:
    """The value of `name` by any of its spellings, in capitals or not; None where nothing is said."""
    said = {str(key).strip().lower(): value for key, value in reversed(list(values.items())) if not says_nothing(value)}
    return next((said[spelling] for spelling in SPELLINGS[name] if spelling in said), None)


def says_nothing(value: Any) -> bool:
    """Whether a value is empty, or a number that tools write where there is none."""
    return value is None or value in ("", [], {}) or (isinstance(value, float) and not math.isfinite(value))


def flat(value: Any) -> Any:
    """A value as records keep it: what is nested as one text."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def public(address: str) -> str:
    """An address without its secrets, and anything else as it is."""
    with suppress(ValueError):
        return public_address(address) if "://" in address else address
    return address
