"""The same portrait in other words: paraphrases, so that prompts need not repeat one template."""

import random
from collections.abc import Callable, Sequence

from shards.synth.person import Person

NAMES = {"man": ("man", "guy", "gentleman"), "woman": ("woman", "lady"), "boy": ("boy",), "girl": ("girl",)}
AGES = {"young": ("young",), "middle-aged": ("middle-aged",), "old": ("old", "elderly", "older")}
SKINS = {
    "pale": ("pale", "fair", "light"),
    "light": ("light", "fair"),
    "olive": ("olive",),
    "tan": ("tanned", "tan"),
    "brown": ("brown", "dark"),
    "dark": ("dark", "very dark"),
}
HAIR_COLOURS = {
    "black": ("black", "dark"),
    "dark brown": ("dark brown", "dark"),
    "red": ("red", "ginger"),
    "blond": ("blond", "blonde", "light", "fair"),
    "grey": ("grey", "gray"),
    "white": ("white", "light"),
}
HAIR_STYLES = {
    "short": ("short", "short-cut"),
    "side-parted": ("side-parted", "short"),
    "curly": ("curly",),
    "long straight": ("long straight", "long", "straight"),
    "long wavy": ("long wavy", "long", "wavy"),
    "shoulder-length": ("shoulder-length",),
}
BEARDS = {
    "none": ("no beard",),
    "stubble": ("stubble", "a stubbly chin"),
    "moustache": ("a moustache", "a mustache"),
    "goatee": ("a goatee", "a small beard on the chin"),
    "full beard": ("a beard", "a full beard"),
}
SHAVES = {"none": ("clean-shaven", "beardless"), "stubble": ("unshaven",), "full beard": ("bearded",)}
MOODS = {
    "smiling": ("smiling", "with a smile"),
    "laughing": ("laughing", "with an open laugh"),
    "serious": ("looking serious", "with a serious look"),
    "calm": ("looking calm", "with a calm face"),
}
OPENINGS = ("", "", "a portrait of ", "a picture of ", "the face of ")

Choose = Callable[[Sequence[str]], str]


def paraphrases_of(file: str, person: Person) -> list[str]:
    """Four true captions of a portrait, two that say much and two that say little.

    Which ones depends on the file's name and the traits alone.
    """
    traits = " ".join(value for value in vars(person).values() if isinstance(value, str))
    chance = random.Random(f"{file} {traits}")

    def choose(options: Sequence[str]) -> str:
        # `choice` may take other numbers in a later Python; `random` is frozen.
        return options[int(chance.random() * len(options))]

    return [write(person, choose) for write in (_with_everything, _in_clauses, _in_adjectives, _one_thing)]


def _with_everything(person: Person, choose: Choose) -> str:
    """As "a portrait of an old man with dark skin, grey hair, spectacles and a beard, smiling"."""
    things = [_skin(person, choose), _hair(person, choose), _glasses(person, choose)]
    things += [choose(BEARDS[person.beard])] if person.person == "man" else []
    who = with_article(f"{_age(person, choose)}{choose(NAMES[person.person])}")
    return f"{choose(OPENINGS)}{who} with {listed(_shuffled(things, choose))}, {choose(MOODS[person.mouth])}"


def _in_clauses(person: Person, choose: Choose) -> str:
    """As "this lady has blond hair and pale skin and is not wearing glasses"."""
    has = listed(_shuffled([_hair(person, choose), _skin(person, choose)], choose))
    wears = choose(("wears", "is wearing")) if person.glasses != "none" else choose(("does not wear", "is not wearing"))
    shave = [f"is {choose(SHAVES[person.beard])}"] if person.person == "man" and person.beard in SHAVES else []
    clauses = [f"has {has}", *shave, f"{wears} {_spectacles(person, choose)}"]
    return f"{choose(('this', 'the'))} {choose(NAMES[person.person])} {' and '.join(clauses)}"


def _in_adjectives(person: Person, choose: Choose) -> str:
    """As "a young clean-shaven dark-skinned man"."""
    skin = f"{choose(SKINS[person.skin])}-skinned"
    hair = "bald" if person.hair == "bald" else f"{choose(_colours(person))}-haired"
    words = [choose((skin, hair))]
    if person.person == "man" and person.beard in SHAVES:
        words.append(choose(SHAVES[person.beard]))
    if person.glasses != "none":
        words.append("bespectacled")
    words = _shuffled(words, choose)
    return f"{choose(OPENINGS)}{with_article(_age(person, choose) + ' '.join([*words, choose(NAMES[person.person])]))}"


def _one_thing(person: Person, choose: Choose) -> str:
    """As "a person without glasses"."""
    neutral = "child" if person.age == "child" else "person"
    who = with_article(choose((neutral, choose(NAMES[person.person]))))
    glasses = "without" if person.glasses == "none" else choose(("with", "wearing", "in"))
    options = [
        f"{glasses} {_spectacles(person, choose)}",
        f"with {_skin(person, choose)}",
        f"with {_hair(person, choose)}",
    ]
    if person.person == "man":
        options.append("without a beard" if person.beard == "none" else f"with {choose(BEARDS[person.beard])}")
    return f"{choose(OPENINGS)}{who} {choose(options)}"


def _age(person: Person, choose: Choose) -> str:
    return f"{choose(AGES[person.age])} " if person.age in AGES else ""


def _skin(person: Person, choose: Choose) -> str:
    return f"{choose(SKINS[person.skin])} skin"


def _colours(person: Person) -> Sequence[str]:
    return HAIR_COLOURS.get(person.hair_colour, (person.hair_colour,))


def _hair(person: Person, choose: Choose) -> str:
    if person.hair == "bald":
        return choose(("no hair", "a bald head"))
    style = choose(("", *HAIR_STYLES.get(person.hair, ())))
    return f"{style} {choose(_colours(person))} hair".strip()


def _spectacles(person: Person, choose: Choose) -> str:
    word = choose(("glasses", "spectacles"))
    return word if person.glasses == "none" else f"{choose(('', '', f'{person.glasses} '))}{word}"


def _glasses(person: Person, choose: Choose) -> str:
    return f"{'no ' if person.glasses == 'none' else ''}{_spectacles(person, choose)}"


def _shuffled(things: Sequence[str], choose: Choose) -> list[str]:
    left, found = list(things), []
    while left:
        found.append(choose(left))
        left.remove(found[-1])
    return found


def with_article(words: str) -> str:
    """The words behind `a` or `an`."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def listed(things: Sequence[str]) -> str:
    """One, two and three things."""
    return things[0] if len(things) == 1 else ", ".join(things[:-1]) + " and " + things[-1]
