"""Who is drawn: the traits of one person, drawn by lot, and the numbers that follow from them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from shards.synth.head import Face

Colour = tuple[float, float, float]  # sRGB, 0…255

SKINS: dict[str, Colour] = {
    "pale": (250, 214, 194), "light": (240, 194, 162), "olive": (224, 180, 138), "tan": (196, 144, 102),
    "brown": (148, 98, 66), "dark": (98, 63, 45),
}  # fmt: skip
HAIR_COLOURS: dict[str, Colour] = {
    "black": (30, 25, 28), "dark brown": (62, 40, 30), "brown": (108, 70, 44), "red": (168, 72, 32),
    "blond": (222, 180, 110), "grey": (150, 148, 148), "white": (226, 222, 216), "pink": (232, 118, 158),
    "blue": (62, 104, 178),
}  # fmt: skip
EYE_COLOURS: dict[str, Colour] = {
    "dark brown": (72, 42, 26), "brown": (118, 70, 36), "hazel": (140, 108, 56), "green": (92, 132, 84),
    "blue": (82, 136, 190), "grey": (126, 142, 150),
}  # fmt: skip
CLOTHES_COLOURS: dict[str, Colour] = {
    "white": (236, 234, 228), "black": (40, 40, 44), "grey": (128, 132, 138), "navy": (38, 52, 92),
    "red": (190, 48, 46), "green": (52, 122, 82), "yellow": (232, 186, 62), "blue": (60, 116, 192),
    "teal": (36, 134, 140), "purple": (112, 74, 150), "orange": (226, 118, 48), "pink": (228, 138, 160),
}  # fmt: skip
BACKGROUND_COLOURS: dict[str, Colour] = {
    "green": (104, 150, 92), "blue": (92, 140, 196), "teal": (70, 150, 150), "orange": (230, 150, 84),
    "pink": (232, 164, 172), "purple": (140, 112, 176), "yellow": (236, 204, 112), "grey": (150, 154, 160),
    "beige": (214, 198, 172), "red": (178, 80, 74), "navy": (52, 66, 104), "white": (228, 228, 226),
}  # fmt: skip
STUDIO_WALLS = ("beige", "white", "grey", "white")
MAN_HAIR = {
    "bald": 9, "buzz cut": 10, "short": 24, "side-parted": 18, "quiff": 14, "curly": 12, "afro": 5,
    "shoulder-length": 6, "bun": 2,
}  # fmt: skip
WOMAN_HAIR = {
    "long straight": 24, "long wavy": 22, "bob": 15, "bun": 12, "curly": 9, "afro": 7, "short": 5,
    "shoulder-length": 6, "side-parted": 3,
}  # fmt: skip
BOY_HAIR = {"short": 40, "side-parted": 20, "curly": 20, "afro": 6, "buzz cut": 10}
GIRL_HAIR = {"pigtails": 28, "long straight": 24, "bob": 18, "long wavy": 14, "bun": 10, "curly": 8, "afro": 6}
HAIRS_OF = {"man": MAN_HAIR, "woman": WOMAN_HAIR, "boy": BOY_HAIR, "girl": GIRL_HAIR}
MAY_HAVE_FRINGE = ("long straight", "long wavy", "bob", "shoulder-length", "bun", "pigtails")


@dataclass(frozen=True)
class Person:
    """One portrait's sitter and setting.

    The first block are traits in words, one column of captions.csv each. The rest are the numbers that the drawing
    takes: colours in sRGB, angles in degrees, lengths in units of half a head.
    """

    person: str
    age: str
    face: str
    skin: str
    hair: str
    hair_colour: str
    fringe: str
    eyes: str
    brows: str
    nose: str
    mouth: str
    beard: str
    glasses: str
    clothes: str
    clothes_colour: str
    pattern: str
    light: str
    background: str
    background_colour: str

    shape: Face
    skin_rgb: Colour
    hair_rgb: Colour
    eye_rgb: Colour
    brow_rgb: Colour
    lip_rgb: Colour
    clothes_rgb: Colour
    background_rgb: Colour

    yaw: float
    pitch: float
    roll: float
    scale: float  # pixels in one unit
    centre: tuple[float, float]  # the head's, in pixels
    lean: float  # of the shoulders against the upright, degrees

    gaze: tuple[float, float]  # of the pupils, units
    eye_open: float
    squint: float  # 0…1, cheeks pushing the lower lids up
    lashes: float  # 0…1
    lid_tint: Colour  # factor on the skin around the eyes, make-up included
    brow_height: float
    brow_arch: float
    brow_tilt: float
    brow_thickness: float
    smile: float  # -0.3…1, lift of the mouth's corners
    laugh: float  # 0…1, how far the lips are apart
    lip_strength: float
    lip_gloss: float
    wear: float  # 0…1, lines of age
    blush: float
    freckles: float
    lot: float  # 0…2π, where locks and hairline begin to wave
    light_side: float  # -1 from the image's left … 1 from its right

    @property
    def masculine(self) -> bool:
        return self.person in ("man", "boy")


def draw_lot(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    names = list(weights)
    shares = np.array([weights[name] for name in names], dtype=float)
    return names[int(rng.choice(len(names), p=shares / shares.sum()))]


def in_studio(person: Person) -> Person:
    """The same person before a plain light wall, in soft light, nearly facing the camera, made up for the stage.

    Stage make-up is what makes eyes, brows and lips carry to the last row, or here into a picture of 32 pixels.
    """
    wall = STUDIO_WALLS[int(person.lot * 100) % len(STUDIO_WALLS)]
    face = person.shape
    return replace(
        person,
        background="plain",
        background_colour=wall,
        background_rgb=BACKGROUND_COLOURS[wall],
        light="soft",
        light_side=0.3 * person.light_side,
        yaw=0.35 * person.yaw,
        pitch=0.35 * person.pitch,
        shape=replace(face, eye_size=1.2 * face.eye_size, mouth_width=1.1 * face.mouth_width, lips=1.3 * face.lips),
        brow_rgb=_dimmed(person.brow_rgb, 0.5),
        brow_thickness=1.5 * person.brow_thickness,
        eye_rgb=_dimmed(person.eye_rgb, 0.5),
        lid_tint=(0.45, 0.36, 0.38),
        lashes=1.0,
        squint=0.3 * person.squint,
        lip_rgb=_dimmed(person.lip_rgb, 0.75),
        lip_strength=0.95,
    )


def _dimmed(colour: Colour, factor: float) -> Colour:
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)


def sample_person(rng: np.random.Generator) -> Person:
    """Draw one person; everything follows from `rng`."""
    person = draw_lot(rng, {"man": 44, "woman": 44, "boy": 6, "girl": 6})
    age = "child" if person in ("boy", "girl") else draw_lot(rng, {"young": 50, "middle-aged": 30, "old": 20})
    traits: dict = {"person": person, "age": age}
    traits |= _sample_skin(rng, age)
    traits |= _sample_hair(rng, person, age, traits["skin"])
    traits |= _sample_face(rng, person, age)
    traits |= _sample_eyes(rng, person, traits)
    traits |= _sample_brows(rng, person, traits)
    traits |= _sample_mouth(rng, person, traits)
    traits |= _sample_setting(rng, person, age)
    traits |= _sample_pose(rng)
    return Person(**traits)


def _shaken(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    """A colour near the named one: lighter or darker first, a little off its hue second."""
    light = rng.uniform(1.0 - spread, 1.0 + spread)
    hues = (rng.uniform(1.0 - 0.3 * spread, 1.0 + 0.3 * spread) for _ in colour)
    red, green, blue = (float(min(part * light * hue, 255.0)) for part, hue in zip(colour, hues))
    return red, green, blue


def _sample_skin(rng: np.random.Generator, age: str) -> dict:
    skin = draw_lot(rng, {"pale": 14, "light": 24, "olive": 17, "tan": 17, "brown": 16, "dark": 12})
    freckled = {"pale": 0.30, "light": 0.15}.get(skin, 0.02)
    wear = {"child": 0.0, "young": 0.05, "middle-aged": 0.4, "old": 0.9}[age] * rng.uniform(0.8, 1.1)
    return {
        "skin": skin,
        "skin_rgb": _shaken(rng, SKINS[skin], 0.05),
        "wear": float(wear),
        "blush": rng.uniform(0.2, 0.6) + (0.25 if age == "child" else 0.0),
        "freckles": rng.uniform(0.5, 1.0) if rng.random() < freckled * (2.0 if age == "child" else 1.0) else 0.0,
    }


def _sample_hair(rng: np.random.Generator, person: str, age: str, skin: str) -> dict:
    # More red hair and full beards than streets have: words learn slowly what few portraits show.
    fair = {"black": 10, "dark brown": 18, "brown": 20, "red": 26, "blond": 26}
    dark = {"black": 60, "dark brown": 30, "brown": 8, "blond": 1}
    weights = dict(
        {"pale": fair, "light": fair, "olive": {"black": 35, "dark brown": 35, "brown": 22, "blond": 8}}.get(skin, dark)
    )
    weights |= {"middle-aged": {"grey": 22, "white": 3}, "old": {"grey": 90, "white": 90}}.get(age, {})
    if person != "boy" and age == "young":
        weights |= {"pink": 3, "blue": 3}
    hair = draw_lot(rng, HAIRS_OF[person])
    colour = draw_lot(rng, weights)
    fringe = hair in MAY_HAVE_FRINGE and person != "man" and rng.random() < 0.45
    beards = {"none": 40, "stubble": 12, "full beard": 32, "moustache": 8, "goatee": 8}
    beard = draw_lot(rng, beards) if person == "man" else "none"
    return {
        "hair": hair,
        "hair_colour": colour,
        "hair_rgb": _shaken(rng, HAIR_COLOURS[colour], 0.12),
        "lot": rng.uniform(0.0, 6.28),
        "fringe": "yes" if fringe else "no",
        "beard": beard,
    }


def _sample_face(rng: np.random.Generator, person: str, age: str) -> dict:
    face = draw_lot(rng, {"round": 22, "oval": 32, "long": 18, "square": 16 if person == "man" else 6, "heart": 14})
    jaw, length, square = {
        "round": (1.06, -0.03, 0.0),
        "oval": (0.99, 0.01, 0.1),
        "long": (0.95, 0.07, 0.2),
        "square": (1.05, 0.02, 0.8),
        "heart": (0.93, 0.0, 0.0),
    }[face]
    nose = draw_lot(rng, {"small": 26, "straight": 34, "broad": 22, "long": 18})
    nose_length, nose_width = {
        "small": (0.90, 0.92),
        "straight": (1.0, 1.0),
        "broad": (1.0, 1.26),
        "long": (1.13, 1.0),
    }[nose]
    man, child = person == "man", age == "child"
    if child:
        length, square, nose_length, nose_width = length - 0.10, 0.0, 0.86 * nose_length, 0.94 * nose_width
    shape = Face(
        jaw=jaw * (1.03 if man else 0.98) * rng.uniform(0.97, 1.03),
        length=length + rng.uniform(-0.02, 0.02) + (0.015 if man else -0.015),
        square=square + (0.25 if man else 0.0),
        chin=rng.uniform(0.9, 1.1) * (1.10 if man else 0.92) * (0.85 if child else 1.0),
        cheeks=rng.uniform(0.88, 1.12) * (1.12 if child or face == "round" else 0.92 if face == "long" else 1.0),
        ridge=rng.uniform(0.5, 1.0) if man else 0.0,
        eye_gap=rng.uniform(0.315, 0.345),
        eye_size=rng.uniform(0.92, 1.04) * (1.07 if not man else 0.97) * (1.14 if child else 1.0),
        eye_tilt=rng.uniform(-0.10, 0.14),
        nose_length=nose_length * rng.uniform(0.97, 1.03),
        nose_width=nose_width * rng.uniform(0.95, 1.05) * (1.06 if man else 0.94),
        nose_tip=rng.uniform(-0.8, 1.0) if not child else 0.9,
        lips=rng.uniform(0.75, 1.25) * (0.86 if man else 1.08) * (0.8 if age == "old" else 1.0),
        mouth_width=rng.uniform(0.92, 1.08) * (0.88 if child else 1.0),
        ears=rng.uniform(0.85, 1.12) * (1.12 if age == "old" else 1.0),
        neck=rng.uniform(0.96, 1.08) * (1.12 if man else 0.86) * (0.80 if child else 1.0),
    )
    return {"face": face, "nose": nose, "shape": shape}


def _sample_eyes(rng: np.random.Generator, person: str, traits: dict) -> dict:
    fair_hair = traits["hair_colour"] in ("blond", "red", "grey", "white", "brown")
    if traits["skin"] in ("pale", "light") and fair_hair:
        weights = {"blue": 34, "green": 20, "grey": 14, "hazel": 14, "brown": 18}
    else:
        weights = {"dark brown": 50, "brown": 34, "hazel": 10, "green": 4, "blue": 2}
    eyes = draw_lot(rng, weights)
    made_up = person == "woman" and rng.random() < 0.4
    make_up = (rng.uniform(0.62, 0.85), rng.uniform(0.50, 0.70), rng.uniform(0.55, 0.85))
    long_lashes = person in ("woman", "girl")
    glasses = draw_lot(rng, {"none": 72, "round": 9, "square": 12, "thin": 7})
    return {
        "eyes": eyes,
        "eye_rgb": _shaken(rng, EYE_COLOURS[eyes], 0.12),
        "glasses": glasses,
        "lid_tint": make_up if made_up else (0.86, 0.74, 0.70),
        "eye_open": rng.uniform(0.90, 1.10),
        "lashes": rng.uniform(*((0.55, 1.0) if long_lashes else (0.0, 0.3))),
        "gaze": (rng.uniform(-0.022, 0.022), rng.uniform(-0.008, 0.010)),
    }


def _sample_brows(rng: np.random.Generator, person: str, traits: dict) -> dict:
    brows = draw_lot(rng, {"thin": 20, "thick": 28, "arched": 26, "straight": 26})
    man = person == "man"
    thickness = {"thin": 0.025, "thick": 0.046, "arched": 0.034, "straight": 0.037}[brows] * (1.22 if man else 0.95)
    arch = {"thin": 0.034, "thick": 0.030, "arched": 0.062, "straight": 0.008}[brows]
    darker = 0.55 if traits["hair_colour"] in ("blond", "grey", "red", "pink", "blue") else 0.80
    base = HAIR_COLOURS["dark brown"] if traits["hair_colour"] in ("pink", "blue") else traits["hair_rgb"]
    return {
        "brows": brows,
        "brow_rgb": tuple(part * darker for part in base),
        "brow_thickness": thickness,
        "brow_arch": arch,
        "brow_tilt": rng.uniform(-0.03, 0.02),
        "brow_height": rng.uniform(0.175, 0.215) + {"man": -0.012, "woman": 0.0}.get(person, 0.015),
    }


def _sample_mouth(rng: np.random.Generator, person: str, traits: dict) -> dict:
    mouth = draw_lot(rng, {"smiling": 40, "laughing": 24, "serious": 20, "calm": 16})
    smile = rng.uniform(
        *{"smiling": (0.6, 1.0), "laughing": (0.7, 1.0), "serious": (-0.22, 0.0), "calm": (0.1, 0.3)}[mouth]
    )
    laugh = rng.uniform(0.55, 1.0) if mouth == "laughing" else 0.0
    skin = traits["skin_rgb"]
    painted = person == "woman" and rng.random() < 0.5
    natural = (skin[0] * 0.84, skin[1] * 0.58, skin[2] * 0.58)
    lipstick = [(196, 44, 62), (212, 92, 104), (160, 48, 74), (204, 104, 88)][int(rng.integers(4))]
    return {
        "mouth": mouth,
        "smile": smile,
        "laugh": laugh,
        "squint": max(smile, 0.0) * (0.5 + 0.5 * laugh),
        "lip_rgb": lipstick if painted else natural,
        "lip_gloss": rng.uniform(0.5, 1.0) if painted else 0.15,
        "lip_strength": 0.88 if painted else 0.55 if person == "man" else 0.70,
    }


def _sample_setting(rng: np.random.Generator, person: str, age: str) -> dict:
    wardrobe = {
        "man": {"t-shirt": 28, "shirt": 22, "jumper": 18, "hoodie": 14, "suit": 18},
        "woman": {"t-shirt": 22, "shirt": 14, "jumper": 20, "hoodie": 8, "turtleneck": 14, "top": 22},
    }
    clothes = draw_lot(rng, wardrobe.get(person, {"t-shirt": 50, "hoodie": 25, "jumper": 25}))
    colours = dict.fromkeys(CLOTHES_COLOURS, 1.0)
    if clothes == "suit":
        colours = {"navy": 3, "black": 3, "grey": 3}
    clothes_colour = draw_lot(rng, colours)
    striped = clothes == "t-shirt" and rng.random() < 0.35
    background = draw_lot(rng, {"plain": 36, "lights": 22, "leaves": 16, "sky": 14, "room": 12})
    own_colours = {
        "leaves": {"green": 1},
        "sky": {"blue": 1},
        "lights": {"navy": 3, "purple": 2, "orange": 2, "teal": 2, "grey": 1, "red": 1},
        "room": {"beige": 3, "grey": 2, "teal": 2, "orange": 1, "white": 2},
    }
    background_colour = draw_lot(rng, own_colours.get(background, dict.fromkeys(BACKGROUND_COLOURS, 1.0)))
    light = draw_lot(rng, {"soft": 34, "left": 20, "right": 20, "warm": 16, "cool": 10})
    side = {"left": -1.0, "right": 1.0}.get(light, rng.uniform(-0.5, 0.5))
    return {
        "clothes": clothes,
        "pattern": "striped" if striped else "plain",
        "clothes_colour": clothes_colour,
        "clothes_rgb": _shaken(rng, CLOTHES_COLOURS[clothes_colour], 0.10),
        "background": background,
        "background_colour": background_colour,
        "background_rgb": _shaken(rng, BACKGROUND_COLOURS[background_colour], 0.12),
        "light": light,
        "light_side": side,
    }


def _sample_pose(rng: np.random.Generator) -> dict:
    return {
        "yaw": float(np.clip(rng.normal(0.0, 10.0), -22.0, 22.0)),
        "pitch": float(np.clip(rng.normal(0.0, 4.0), -9.0, 8.0)),
        "roll": float(np.clip(rng.normal(0.0, 5.5), -15.0, 15.0)),
        "lean": rng.uniform(-4.0, 4.0),
        "scale": rng.uniform(112.0, 140.0),
        "centre": (rng.uniform(222.0, 290.0), rng.uniform(218.0, 256.0)),
    }
