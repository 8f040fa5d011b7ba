"""One portrait: solids in, pixels out."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, minimum_filter

from shards.synth.backdrop import draw_backdrop
from shards.synth.canvas import Canvas, linear
from shards.synth.clothes import neck_solid, paint_clothes, torso_solid
from shards.synth.eyes import paint_eyes
from shards.synth.glasses import paint_glasses
from shards.synth.hair import hair_box, hair_solid, shade_hair
from shards.synth.head import head_solid
from shards.synth.light import Light, bend, light_of, obstruction, shade
from shards.synth.mouth import paint_mouth, paint_nose
from shards.synth.noise import Noise
from shards.synth.person import Person
from shards.synth.skin import BEARD_THICKNESS, beard_region, paint_skin
from shards.synth.solids import FAR, SIZE, Array, Box, Camera, Point, Solid, Surface, mix, rotation, trace, turn, unite

SKIN_SOFTNESS = (0.38, 0.18, 0.12)  # how far red, green and blue light creep under the skin
CLOTH_SOFTNESS = (0.05, 0.05, 0.05)


@dataclass
class Scene:
    """A person set up before the camera. All solids are in view coordinates."""

    person: Person
    camera: Camera
    light: Light
    turned: Array  # from head to view coordinates, `[3, 3]`
    leaning: Array  # from the shoulders' to view coordinates
    head: Solid
    hair: Solid | None
    neck: Solid
    torso: Solid
    noise: Noise

    def body(self, point: Point) -> Array:
        return unite(self.neck(point), self.torso(point), 0.04)

    def everything(self, point: Point) -> Array:
        nearest = np.minimum(self.head(point), self.body(point))
        return nearest if self.hair is None else np.minimum(nearest, self.hair(point))


class Film:
    """The picture so far, linear light `[512, 512, 3]`, and how far away everything in it is."""

    def __init__(self, backdrop: Array):
        self.picture = self.behind = backdrop
        self.depth = np.full((SIZE, SIZE), FAR, dtype=np.float32)
        self.head_cover = np.zeros((SIZE, SIZE), dtype=np.float32)

    def remember_head(self, head: Surface) -> None:
        """Keep what the film shows before the head is laid over it, for `lay` to mend the head's outline."""
        self.behind = self.picture.copy()
        self.head_cover[head.box.window] = head.cover

    def lay(self, surface: Surface, colour: Array, scale: float, hairy: bool = False) -> None:
        """Lay a surface over the picture where nothing drawn before stands in front of it; `colour` is used up.

        A `hairy` one, laid after the head, ends softly on the skin and shows behind the head's outline.
        """
        window = surface.box.window
        picture, depth, head = self.picture[window], self.depth[window], self.head_cover[window]
        _soften_steps(colour, surface)
        nearer = np.clip((surface.point[2] - depth) * scale / 3.0 + 0.5, 0.0, 1.0)
        share = surface.cover * nearer
        if hairy:
            # Along its outline the head fills a part of the pixel only: hair behind it fills the rest.
            outline = (head > 0.0) & (head < 1.0)
            rest = (surface.cover * (1.0 - nearer) * (1.0 - head))[outline]
            picture[outline] += (colour[outline] - self.behind[window][outline]) * rest[:, None]
            share = np.where(head == 1.0, gaussian_filter(share, 0.8), share)
        colour -= picture
        colour *= share[..., None]
        picture += colour
        depth[:] = np.where(share > 0.5, surface.point[2], depth)


def _soften_steps(colour: Array, surface: Surface) -> None:
    """Blend the pixels where a surface passes in front of itself, whose edges `trace` has found at half size only."""
    depth = surface.point[2]
    down, across = np.abs(depth[2:, 1:-1] - depth[:-2, 1:-1]), np.abs(depth[1:-1, 2:] - depth[1:-1, :-2])
    step = np.zeros(depth.shape, dtype=bool)
    step[1:-1, 1:-1] = np.maximum(down, across) > 0.10
    row, column = np.nonzero(step & (surface.cover == 1.0))
    for _ in range(2):
        around = colour[row - 1, column] + colour[row + 1, column] + colour[row, column - 1] + colour[row, column + 1]
        colour[row, column] = 0.3 * colour[row, column] + 0.175 * around


def set_up(person: Person, rng: np.random.Generator) -> Scene:
    """Turn the person's numbers into solids, a camera and a light."""
    turned, leaning = _pose(person), rotation(0.3 * person.yaw, 0.0, person.lean)
    bare, thickness = head_solid(person.shape, turned), BEARD_THICKNESS[person.beard]

    def bearded(point: Point) -> Array:
        return bare(point) - thickness * beard_region(person.shape, person.beard, turn(turned.T, point))

    return Scene(
        person,
        Camera(person.scale, person.centre),
        light_of(person),
        turned,
        leaning,
        head=bearded if thickness else bare,
        hair=hair_solid(person, turned),
        neck=neck_solid(person, turned, leaning),
        torso=torso_solid(person, leaning),
        noise=Noise(rng),
    )


def _pose(person: Person) -> Array:
    return rotation(person.yaw, person.pitch, person.roll)


def find_pupils(person: Person) -> tuple[tuple[float, float], tuple[float, float]]:
    """The pupils' middles (x, y) in pixels of the portrait, the image's left one first."""
    face, turned = person.shape, _pose(person)
    head, camera = head_solid(face, turned), Camera(person.scale, person.centre)
    x = np.array([-face.eye_gap, face.eye_gap], dtype=np.float32) + np.float32(person.gaze[0])
    # The eyes are painted along lines that rise outwards by the tilt.
    y = np.float32(person.gaze[1]) + face.eye_tilt * np.array([-person.gaze[0], person.gaze[0]], dtype=np.float32)
    z = np.full_like(x, 1.1)
    for _ in range(12):
        z = z - head(turn(turned, (x, y, z)))
    column, row = camera.pixel(*turn(turned, (x, y, z))[:2])
    return (float(column[0]), float(row[0])), (float(column[1]), float(row[1]))


def draw_person(person: Person, rng: np.random.Generator) -> Array:
    """The portrait as `[512, 512, 3]` bytes, sRGB. `rng` decides only what no caption names: noise and background."""
    scene = set_up(person, rng)
    film = Film(draw_backdrop(person, rng))
    _draw_body(scene, film)
    _draw_head(scene, film)
    if person.glasses != "none":
        paint_glasses(person, scene.camera, scene.turned, film.picture, film.depth)
    if scene.hair is not None:
        _draw_hair(scene, scene.hair, film)
    return develop(film.picture, rng)


def _draw_body(scene: Scene, film: Film) -> None:
    person, camera = scene.person, scene.camera
    box = Box.around(camera, 0.0, -2.0, 1.9, 1.4)
    surface = trace(scene.body, camera, box, 0.45, np.full(box.shape, -1.2, dtype=np.float32))
    cloth = paint_clothes(person, surface.point, scene.leaning, 1.0 / camera.scale)
    neck = np.clip(0.5 + (scene.torso(surface.point) - scene.neck(surface.point)) * camera.scale, 0.0, 1.0)
    skin = np.maximum(cloth.skin, neck)
    colour = mix(cloth.colour, linear(person.skin_rgb), skin[..., None])
    normal = bend(surface.normal, cloth.height * (1.0 - skin), camera.scale)
    shadow, openness = obstruction(scene.everything, scene.light, surface)
    softness = [mix(bare, worn, skin) for bare, worn in zip(CLOTH_SOFTNESS, SKIN_SOFTNESS)]
    film.lay(surface, shade(scene.light, normal, colour, shadow, openness, 0.03, softness), camera.scale)


def _draw_head(scene: Scene, film: Film) -> None:
    person, face, camera = scene.person, scene.person.shape, scene.camera
    box = Box.around(camera, 0.0, -0.03, 1.08, 1.22)
    surface = trace(scene.head, camera, box, 1.2, np.full(box.shape, -0.9, dtype=np.float32))
    skin = Canvas.blank(camera, scene.turned, surface, linear(person.skin_rgb))
    paint_skin(skin, face, person, scene.noise)
    paint_nose(skin, face)
    paint_mouth(skin, face, person)
    paint_eyes(skin, face, person, scene.noise)
    shadow, openness = obstruction(scene.everything, scene.light, surface)
    normal = bend(surface.normal, skin.height, camera.scale)
    film.remember_head(surface)
    colour = shade(scene.light, normal, skin.colour, shadow, openness, skin.gloss, SKIN_SOFTNESS)
    film.lay(surface, colour, camera.scale)


def _draw_hair(scene: Scene, hair: Solid, film: Film) -> None:
    box = hair_box(scene.person, scene.camera)
    head = film.head_cover[box.window]
    # Rays end at the skin: hair has an edge there, not a far wall seen through the face. Where the head fills a
    # pixel only in part they continue, to the hair behind it.
    outline = (minimum_filter(head, 5) < 1.0) & (head > 0.0)
    farthest = np.where(outline, -1.3, np.maximum(film.depth[box.window] - 0.02, -1.3))
    surface = trace(hair, scene.camera, box, 1.4, farthest)
    shadow, openness = obstruction(scene.everything, scene.light, surface)
    colour = shade_hair(scene.person, surface, scene.turned, scene.light, shadow, openness, scene.noise)
    film.lay(surface, colour, scene.camera.scale, hairy=True)


def develop(picture: Array, rng: np.random.Generator) -> Array:
    """Linear light to sRGB bytes: a gentle film curve, and a grain that hides the banding of smooth backgrounds."""
    light = np.linspace(0.0, 2.0, 4096) ** 2  # even steps of the root, so that dark tones are as smooth as bright ones
    film = 1.22 * light * (1.0 + light / 6.0) / (1.0 + 0.55 * light)
    table = (np.minimum(film, 1.0) ** (1.0 / 2.2) * 252.0 + 1.5).astype(np.float32)
    tone = table[np.minimum(np.sqrt(np.maximum(picture, 0.0)) * 2047.5, 4095.0).astype(np.uint16)]
    grain = rng.random((SIZE, SIZE, 1), dtype=np.float32)
    return (tone + 3.0 * (grain - 0.5)).astype(np.uint8)
