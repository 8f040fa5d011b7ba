"""dinogen project: the face of a generator that is nearest to a photo."""

import json
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from PIL import Image

from dinogen import Generator, UsageError
from dinogen.images import said_of, to_float, to_pil
from dinogen.networks import Generator as GeneratorNetwork
from dinogen.project import Likeness, nearest_sample
from dinogen.styles import read_style
from dinogen.teachers import make_teacher
from helpers.drawn_face import draw_face
from helpers.worded import NARROW
from launch import interpolate, project, sample
from launch.project import open_crop
from shards.crop import crop_folder

TARGETS = (70, 71)  # samples that are none of the candidates


@pytest.fixture(scope="module")
def generator(tmp_path_factory) -> Generator:
    """Of a run with the tiny teacher; its faces differ much, although it has learned nothing."""
    run = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    network = GeneratorNetwork(**NARROW)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith("mapping") or ".style." in name or ".start." in name:
                parameter.mul_(2.5)
    network.update_w_avg()
    network.save_pretrained(run / "snapshots" / "kimg000001.000", config=NARROW)
    (run / "config.yaml").write_text("data: shards\n")
    (run / "teacher.json").write_text(json.dumps(make_teacher("tiny", (16,)).specs.to_dict()))
    return Generator.from_pretrained(run, device="cpu")


@pytest.fixture(scope="module")
def projected(generator, tmp_path_factory) -> list[Path]:
    """What came of two of its own faces, by the command."""
    folders = []
    for number in TARGETS:
        folder = tmp_path_factory.mktemp("projected")
        target(generator, number).save(folder / "target.png")
        flags = ["--image", str(folder / "target.png"), "--aligned", "--steps", "200", "--output", str(folder / "out")]
        assert project.main(["--model", str(generator.model), *flags]) == 0
        folders.append(folder / "out")
    return folders


def target(generator: Generator, number: int) -> Image.Image:
    return generator.draw(generator.style(first=number))[0]


def psnr(some: Image.Image, other: Image.Image) -> float:
    off = np.asarray(some, dtype=float) - np.asarray(other, dtype=float)
    return float(10 * np.log10(255**2 / np.square(off).mean()))


def test_a_generated_face_is_recovered(generator, projected):
    for number, folder in zip(TARGETS, projected):
        face = target(generator, number)
        (found,) = generator.draw(read_style(folder / "w.safetensors", generator.network)[None])
        picture = to_float(torch.from_numpy(np.array(face)).permute(2, 0, 1))
        w, _ = nearest_sample(generator.network, Likeness(picture, None), seed=0)
        assert psnr(generator.draw(w[None])[0], face) < 22, "no sample is so near that there is nothing to do"
        assert psnr(found, face) >= 25


def test_it_shows_both_and_the_way(projected):
    assert sorted(path.name for path in projected[0].iterdir()) == ["pair.png", "w.safetensors", "way.mp4"]
    assert Image.open(projected[0] / "pair.png").width == 3 * 128 + 2 * 2
    film = imageio.imread(projected[0] / "way.mp4")
    assert film.shape[0] > 60 and film.shape[1:] == (256, 256, 3)


def test_projected_faces_are_drawn_and_walked_between(generator, projected, tmp_path):
    styles = [str(folder / "w.safetensors") for folder in projected]
    model = ["--model", str(generator.model)]
    assert sample.main([*model, "--style", *styles, "--output", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["grid.png", "style0000.png", "style0001.png"]
    w = torch.stack([read_style(Path(style), generator.network) for style in styles])
    drawn = [np.array(Image.open(tmp_path / "out" / f"style{number:04d}.png")) for number in range(2)]
    assert (np.array(drawn) == np.array([np.array(image) for image in generator.draw(w)])).all()
    assert styles[1] in (said_of(tmp_path / "out" / "style0001.png") or "")
    ways = [*model, "--from", styles[0], "--to", styles[1]]
    assert interpolate.main([*ways, "--frames", "5", "--output", str(tmp_path / "walk.png")]) == 0
    assert Image.open(tmp_path / "walk.png").size == (5 * 128 + 4 * 2, 128)
    assert interpolate.main([*ways, "--frames", "8", "--output", str(tmp_path / "walk.mp4")]) == 0
    assert imageio.imread(tmp_path / "walk.mp4").shape == (8, 256, 256, 3)


def test_likeness_is_zero_for_the_picture_and_grows_with_noise():
    picture = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    teacher = make_teacher("tiny", (16,))
    for look in (None, teacher):
        near = Likeness(picture, look)
        noisy = picture + 0.3 * torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(1))
        same, little, much = near(torch.stack([picture, 0.9 * picture + 0.1 * noisy, noisy])).tolist()
        assert same < 1e-6 < little < much


def test_a_photo_is_cropped_as_data_are(tmp_path):
    (tmp_path / "photos").mkdir()
    draw_face((400, 500), centre=(210, 240), height=170).save(tmp_path / "photos" / "me.png")
    crop_folder(tmp_path / "photos", tmp_path / "crops", workers=0)
    (crop,) = (tmp_path / "crops").glob("*.jpg")
    expected = np.array(Image.open(crop).reduce(8)).astype(int)
    found = open_crop(tmp_path / "photos" / "me.png", 32, aligned=False).permute(1, 2, 0).numpy()
    assert found.shape == (32, 32, 3) and np.abs(found - expected).mean() < 1


@pytest.mark.parametrize(
    ("picture", "aligned", "said"),
    [
        (None, False, "unreadable"),
        (b"no picture", False, "not-an-image"),
        (b"no picture", True, "not-an-image"),
        (Image.new("RGB", (300, 300)), False, "no-face, .*; take another photo, or --aligned for a crop"),
        (Image.new("RGB", (30, 20)), True, "30×20 pixels; a crop is square"),
    ],
)
def test_a_picture_that_cannot_be_projected_is_one_line(tmp_path, picture, aligned, said):
    path = tmp_path / "photo.png"
    if isinstance(picture, bytes):
        path.write_bytes(picture)
    elif picture is not None:
        picture.save(path)
    with pytest.raises(UsageError, match=f"photo.png: .*{said}") as caught:
        open_crop(path, 16, aligned)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("verb", "flags", "said"),
    [
        (sample, ["--style", "none.safetensors"], "none.safetensors: missing"),
        (sample, ["--style", "a.safetensors", "--count", "3"], "--style draws the faces of its files alone"),
        (interpolate, ["--from", "a.safetensors", "--to", "a man"], "two files of styles or two texts"),
        (interpolate, ["--from", "a.safetensors", "--to", "b.safetensors", "--faces", "3"], "--faces 3: "),
        (project, ["--image", "photo.png", "--teacher", "no/teacher"], "no/teacher"),
    ],
)
def test_what_cannot_be_done_with_styles_is_one_line(generator, tmp_path, monkeypatch, capsys, verb, flags, said):
    monkeypatch.chdir(tmp_path)
    to_pil(torch.zeros(3, 16, 16, dtype=torch.uint8)).save(tmp_path / "photo.png")
    aligned = ["--aligned"] if verb is project else []
    assert verb.main(["--model", str(generator.model), *flags, *aligned]) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]
