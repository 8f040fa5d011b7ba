"""What is seen in a portrait, in words and in numbers: the rows of captions.csv."""

import csv
import io
from dataclasses import asdict
from pathlib import Path
from typing import get_type_hints

from dinogen.files import write_bytes
from shards.synth.draw import find_pupils
from shards.synth.person import Person
from shards.synth.phrases import listed, paraphrases_of, with_article

TRAITS = tuple(name for name, kind in get_type_hints(Person).items() if kind is str)
NUMBERS = ("yaw", "pitch", "roll")
PUPILS = ("pupil_left_x", "pupil_left_y", "pupil_right_x", "pupil_right_y")
CAPTIONS = ("caption", *(f"caption_{number}" for number in range(2, 6)))  # the first a full sentence, then paraphrases
COLUMNS: tuple[str, ...] = ("file", *CAPTIONS, *TRAITS, *NUMBERS, *PUPILS)

HAIR = {
    "bald": "a bald head",
    "buzz cut": "a {} buzz cut",
    "quiff": "a {} quiff",
    "afro": "a {} afro",
    "bob": "a {} bob",
    "bun": "{} hair in a bun",
    "pigtails": "{} pigtails",
    "side-parted": "side-parted {} hair",
}
BEARDS = {"none": "", "stubble": "stubble", "moustache": "a moustache", "goatee": "a goatee", "full beard": "a beard"}
MOODS = {"smiling": "smiling", "laughing": "laughing", "serious": "looking serious", "calm": "looking calm"}
PLACES = {
    "plain": "in front of a {} background",
    "lights": "in front of blurred lights",
    "leaves": "in front of green leaves",
    "sky": "in front of a blue sky",
    "room": "in a room with a window",
}


def caption_of(person: Person) -> str:
    """One sentence without a full stop, such as "a man with short black hair, a beard and glasses, smiling, …"."""
    who = person.person if person.age in ("child", "middle-aged") else f"{person.age} {person.person}"
    parts = [HAIR.get(person.hair, f"{person.hair} {{}} hair").format(person.hair_colour)]
    parts += ["a fringe"] if person.fringe == "yes" else []
    parts += ["freckles"] if person.freckles else []
    parts += [BEARDS[person.beard]] if person.beard != "none" else []
    parts += [f"{person.glasses} glasses"] if person.glasses != "none" else []
    stripes = "striped " if person.pattern == "striped" else ""
    dress = f"in {with_article(f'{stripes}{person.clothes_colour} {person.clothes}')}"
    place = PLACES[person.background].format(person.background_colour)
    return f"{with_article(who)} with {listed(parts)}, {MOODS[person.mouth]}, {dress}, {place}"


def row_of(file: str, person: Person) -> dict[str, str]:
    """The row of captions.csv for one portrait. Pupils are in pixels of the picture, the image's left eye first."""
    traits = asdict(person)
    captions = dict(zip(CAPTIONS, [caption_of(person), *paraphrases_of(file, person)]))
    row = {"file": file} | captions | {name: traits[name] for name in TRAITS}
    row |= {name: f"{traits[name]:.1f}" for name in NUMBERS}
    pupils = [value for pupil in find_pupils(person) for value in pupil]
    return row | {name: f"{value:.2f}" for name, value in zip(PUPILS, pupils)}


def write_captions(path: Path, rows: list[dict[str, str]]) -> None:
    """Write `rows` as CSV (UTF-8, a header first), whole or not at all."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())
