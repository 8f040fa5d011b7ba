"""What the page shows, as plain values: read from an address or from its controls, and written as an address."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from urllib.parse import urlencode

TABS = ("faces", "walk", "mix", "teacher", "photo", "training")
MOST_SEED = 2**32 - 1
MOST_NUMBER = 999_999  # of a face
MOST_FACES = 32
MOST_PSI = 1.5
MOST_LETTERS = 500  # of a prompt
FEWEST_FRAMES, MOST_FRAMES = 3, 12
MOST_ROWS, MOST_COLUMNS = 6, 8
RENAMED = {"start": "from", "end": "to"}  # words that Python keeps for itself, or that say too little alone


@dataclass(frozen=True)
class Settings:
    """All that decides what is seen.

    Args:
        tab: which tab is open.
        seed: of the samples.
        psi: variety, from 0 to 1.5; 1 keeps all that was learned.
        prompt: words that steer; none where empty.
        guidance: how far words are exaggerated, 1 or more.
        count: faces shown, from 1 to 32.
        face: number of the face that was picked.
        start: number of the face with which a walk begins.
        end: number of the face with which a walk ends.
        frames: faces of a walk's strip.
        coarse: numbers of the faces whose coarse styles are mixed.
        fine: numbers of the faces whose fine styles are mixed.
        upto: resolution of the last block with a coarse style; 0 takes half of the blocks.
    """

    tab: str = "faces"
    seed: int = 0
    psi: float = 1.0
    prompt: str = ""
    guidance: float = 1.0
    count: int = 8
    face: int = 0
    start: int = 0
    end: int = 1
    frames: int = 8
    coarse: tuple[int, ...] = (0, 1, 2)
    fine: tuple[int, ...] = (3, 4, 5, 6)
    upto: int = 0

    def query(self) -> str:
        """The address's part from the question mark on: the seed, and whatever else is not as usual."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        usual = Settings()
        told = {
            RENAMED.get(name, name): as_text(value)
            for name, value in values.items()
            if name == "seed" or value != getattr(usual, name)
        }
        return f"?{urlencode(told)}"


@dataclass(frozen=True)
class Limits:
    """What a model can do.

    Args:
        tabs: that there are.
        words: whether prompts steer it.
        guidance: the most that it has learned.
        mixes: resolutions up to which styles can be mixed; none where it has one block only.
    """

    tabs: tuple[str, ...] = TABS
    words: bool = False
    guidance: float = 1.0
    mixes: tuple[int, ...] = ()


def read_settings(given: Mapping[str, object], limits: Limits) -> tuple[Settings, list[str]]:
    """Settings from an address or from controls. What cannot be taken stays as usual, and is told.

    Args:
        given: by the names of `Settings`, or by those in an address. Names of others are passed over.
        limits: of the model.

    Returns:
        The settings, and a sentence for each value that could not be taken.
    """
    settings, complaints = Settings(), []
    readers = readers_for(limits)
    for name, read in readers.items():
        key = RENAMED.get(name, name)
        value = given.get(key, given.get(name))
        if key not in given and name not in given:
            continue
        try:
            settings = replace(settings, **{name: read(value)})
        except ValueError as error:
            shown = " ".join(str("" if value is None else value).split())[:40]
            complaints.append(f"{key}={shown}: give {error}; {as_text(getattr(settings, name)) or 'nothing'} is taken.")
    if settings.guidance > 1 and not settings.prompt:
        settings = replace(settings, guidance=1.0)  # it exaggerates words, and there are none
    return settings, complaints


def readers_for(limits: Limits) -> dict[str, Callable[[object], object]]:
    """What reads each setting; a ValueError says what to give."""
    number_of_face = whole(0, MOST_NUMBER)
    readers: dict[str, Callable[[object], object]] = {
        "tab": one_of(limits.tabs),
        "seed": whole(0, MOST_SEED),
        "psi": number(0, MOST_PSI),
        "count": whole(1, MOST_FACES),
        "face": number_of_face,
        "start": number_of_face,
        "end": number_of_face,
        "frames": whole(FEWEST_FRAMES, MOST_FRAMES),
        "coarse": several(MOST_ROWS),
        "fine": several(MOST_COLUMNS),
        "upto": one_of((0, *limits.mixes)),
    }
    if limits.words:
        readers |= {"prompt": words, "guidance": number(1, limits.guidance)}
    return readers


def whole(low: int, high: int) -> Callable[[object], int]:
    """Reads whole numbers, also those that are written as 3.0."""

    def read(value: object) -> int:
        if not (re.fullmatch(r"[0-9]{1,12}(\.0)?", str(value)) and low <= int(float(str(value))) <= high):
            raise ValueError(f"a whole number from {low} to {high}")
        return int(float(str(value)))

    return read


def number(low: float, high: float) -> Callable[[object], float]:
    """Reads numbers; two decimal places are kept."""

    def read(value: object) -> float:
        try:
            found = round(float(str(value)), 2)
        except (ValueError, OverflowError):
            found = math.nan
        if not low <= found <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return found

    return read


def several(most: int) -> Callable[[object], tuple[int, ...]]:
    """Reads numbers of faces, parted by commas or spaces."""

    def read(value: object) -> tuple[int, ...]:
        parts = re.split(r"[\s,]+", str(value).strip(" ,"))
        if not (1 <= len(parts) <= most and all(re.fullmatch(r"[0-9]{1,6}", part) for part in parts)):
            raise ValueError(f"1 to {most} numbers of faces, such as 0, 1, 2")
        return tuple(int(part) for part in parts)

    return read


def one_of(choices: tuple) -> Callable[[object], object]:
    """Reads one of some values."""

    def read(value: object) -> object:
        found = {str(choice): choice for choice in choices}
        if str(value) not in found:
            raise ValueError(f"one of {', '.join(found)}")
        return found[str(value)]

    return read


def words(value: object) -> str:
    """Reads a prompt, with one space for each white space."""
    text = " ".join(str("" if value is None else value).split())
    if len(text) > MOST_LETTERS:
        raise ValueError(f"at most {MOST_LETTERS} letters")
    if not text.isprintable():
        raise ValueError("letters that can be printed")
    return text


def as_text(value: object) -> str:
    """A setting as it stands in an address or a text field."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
