"""The snapshot inside the package: small, complete, of nobody, and what commands draw with unless told otherwise."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml

from dinogen import Generator
from dinogen.opening import BUNDLED_FOLDER, folder_of
from launch.drawing import BUNDLED
from launch.sample import main

ROOT = Path(__file__).parent.parent
MOST_BYTES = 10_000_000


@pytest.fixture(scope="module")
def bundled() -> Generator:
    return Generator.from_pretrained(device="cpu")


def test_it_is_small_and_says_what_it_is():
    assert sum(path.stat().st_size for path in BUNDLED_FOLDER.iterdir()) < MOST_BYTES
    card = (BUNDLED_FOLDER / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["license"] == "apache-2.0"
    assert "dinogen synth" in card, "people who do not exist"
    words = json.loads((BUNDLED_FOLDER / "words.json").read_text())
    assert words["encoder"] == "embedded" and words["guidance"] > 1


def test_it_draws_different_faces_at_128_pixels_without_a_word_or_with_some(bundled):
    assert bundled.resolution >= 128 and bundled.takes_words
    faces = bundled.sample(16, output="pt").float()
    assert faces.std(dim=0).mean() > 25, "grey levels between faces"
    assert 90 < faces.mean() < 190


@pytest.mark.parametrize(
    ("brighter", "darker"),
    [("a person with pale skin", "a person with dark skin"), ("a woman with blond hair", "a woman with black hair")],
)
def test_prompts_steer_it(bundled, brighter, darker):
    """Skin in the middle of the face, hair above it."""
    rows = slice(56, 80) if "skin" in brighter else slice(16, 30)
    light, dark = (
        bundled.sample(16, prompt=prompt, output="pt").float()[:, :, rows, 48:80].mean(dim=(1, 2, 3))
        for prompt in (brighter, darker)
    )
    assert (light > dark).float().mean() > 0.8 and (light - dark).mean() > 20


def test_glasses_come_when_they_are_asked_for(bundled):
    """Their bridge crosses the nose, between the eyes."""
    with_bridge, without = (
        bundled.sample(16, prompt=prompt, output="pt").float()[:, :, 54:62, 60:68].diff(dim=2).abs().mean(dim=(1, 2, 3))
        for prompt in ("a person with glasses", "a person without glasses")
    )
    assert (with_bridge > without).float().mean() > 0.8 and (with_bridge - without).mean() > 8


def test_beards_come_when_they_are_asked_for_and_not_when_they_are_denied(bundled):
    """The chin is darker with one."""
    chins = [
        bundled.sample(16, prompt=prompt, output="pt").float()[:, :, 92:108, 48:80].mean(dim=(1, 2, 3))
        for prompt in ("a man with a beard", "a man with no beard", "a woman with red hair")
    ]
    for bare in chins[1:]:
        assert (bare > chins[0]).float().mean() > 0.7 and (bare - chins[0]).mean() > 10


def test_commands_draw_with_it_unless_told_otherwise(bundled, tmp_path, capsys):
    assert main(["--count", "2", "--prompt", "a man with glasses and a red beard", "--output", str(tmp_path)]) == 0
    assert "--model bundled" not in capsys.readouterr().err
    drawn = sorted(tmp_path.glob("seed*.png"))
    assert len(drawn) == 2
    from PIL import Image

    with Image.open(drawn[0]) as image:
        assert image.size == (128, 128)


def test_a_folder_of_its_name_is_another_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(BUNDLED).mkdir()
    assert folder_of(BUNDLED) == BUNDLED_FOLDER and folder_of(f"./{BUNDLED}") == Path(BUNDLED)


def test_the_command_that_makes_it_names_a_preset_and_flags_that_there_are(bundled):
    script = (ROOT / "launch" / "bundled.sh").read_text()
    preset = re.search(r"--config (\w+)", script)
    assert preset and (ROOT / "configs" / f"{preset[1]}.yaml").is_file()
    settings = yaml.safe_load((ROOT / "configs" / f"{preset[1]}.yaml").read_text())
    for key in ("img_resolution", "z_dim", "w_dim", "channel_base", "channel_max"):
        made = json.loads((BUNDLED_FOLDER / "config.json").read_text())
        assert made[key] == settings["generator"][key]
    assert torch.isfinite(bundled.network.w_avg).all()
