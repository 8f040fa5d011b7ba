"""dinogen as a library: `from dinogen import Generator`."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dinogen
from dinogen import Generator, UsageError
from dinogen.networks import Generator as GeneratorNetwork
from dinogen.reader import load_reader
from dinogen.sample import interpolation_strip, sample_images, word_strip
from helpers.worded import NARROW, save_worded

ROOT = Path(__file__).parent.parent
PROMPTS = ["a woman with red hair", "a bald man"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Generator:
    """Without words."""
    run = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    network = GeneratorNetwork(**NARROW)
    network.update_w_avg()
    network.save_pretrained(run / "snapshots" / "kimg000001.000", config=NARROW)
    return Generator.from_pretrained(run, device="cpu")


@pytest.fixture(scope="module")
def worded(tmp_path_factory) -> Generator:
    snapshot = tmp_path_factory.mktemp("worded") / "faces"
    save_worded(snapshot, "embedded")
    return Generator.from_pretrained(str(snapshot), device="cpu")


def apart(some: torch.Tensor, others: torch.Tensor) -> int:
    """Grey levels between images where they differ most."""
    return int((some.int() - others.int()).abs().max())


def test_importing_dinogen_opens_nothing_until_a_name_is_asked_for():
    source = (
        "import sys, dinogen; heavy = {'torch', 'transformers', 'numpy', 'PIL', 'dinogen.library'};"
        "assert set(dinogen.__all__) <= set(dir(dinogen)); assert not heavy & sys.modules.keys();"
        "from dinogen import UsageError; assert not heavy & sys.modules.keys();"
        "from dinogen import Generator; assert heavy <= sys.modules.keys() and Generator.sample"
    )
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_stable_name_is_there_and_no_other():
    for name in dinogen.__all__:
        assert getattr(dinogen, name)
    with pytest.raises(AttributeError, match="module 'dinogen' has no attribute 'Generater'"):
        _ = dinogen.Generater


def test_samples_are_those_of_the_command(plain):
    expected = sample_images(plain.network, 3, 7, 0.8)
    assert torch.equal(plain.sample(3, seed=7, truncation_psi=0.8, output="pt"), expected)
    images = plain.sample(3, seed=7, truncation_psi=0.8)
    assert [type(image) for image in images] == [Image.Image] * 3 and images[0].size == (16, 16)
    assert (np.array(images[2]) == expected[2].permute(1, 2, 0).numpy()).all()
    assert apart(plain.sample(1, seed=7, truncation_psi=0.8, batch_size=1, output="pt"), expected[:1]) <= 1


@pytest.mark.parametrize("prompt", [None, PROMPTS[0], PROMPTS], ids=["none", "one", "in turn"])
def test_styles_are_those_of_the_samples(plain, worded, prompt):
    generator = plain if prompt is None else worded
    given = {} if prompt is None else {"prompt": prompt, "guidance": 2.0}
    samples = generator.sample(20, seed=3, output="pt", **given)
    assert apart(generator.draw(generator.style(20, seed=3, **given), output="pt", **given), samples) <= 1
    torch.testing.assert_close(generator.style(2, 3, first=4, **given), generator.style(6, 3, **given)[4:])
    blocks = generator.style(20, seed=3, **given)[:, None].repeat(1, 3, 1)
    assert apart(generator.draw(blocks, output="pt", **given), samples) <= 1


def test_prompts_steer_and_are_taken_in_turn(worded):
    expected = sample_images(worded.network, 4, 0, words=load_reader(worded.model).in_turn(PROMPTS, 2.5))
    assert torch.equal(worded.sample(4, prompt=PROMPTS, guidance=2.5, output="pt"), expected)
    assert apart(worded.sample(4, prompt=PROMPTS[0], guidance=2.5, output="pt")[:1], expected[:1]) <= 1
    assert torch.equal(worded.sample(4, prompt="", output="pt"), worded.sample(4, output="pt"))


def test_a_walk_goes_from_face_to_face(plain):
    walk = plain.interpolate(0, 1, frames=20, seed=5, output="pt")
    assert apart(walk, interpolation_strip(plain.network, 1, 20, 5)) <= 1
    w = plain.style(2, seed=5)
    assert apart(plain.interpolate(0, w[1], 20, seed=5, output="pt"), walk) <= 1
    assert apart(plain.interpolate(w[0].expand(3, -1), w[1], 20, output="pt"), walk) <= 1


def test_a_walk_goes_from_words_to_words(worded):
    start, end = (worded.reader([prompt], 2.0) for prompt in PROMPTS)
    expected = word_strip(worded.network, start, end, 1, 5, seed=3)
    assert torch.equal(worded.interpolate(*PROMPTS, frames=5, seed=3, guidance=2.0, output="pt"), expected)
    kept = worded.interpolate(0, 1, frames=5, seed=3, prompt=PROMPTS[0], output="pt")
    assert apart(kept[[0, -1]], worded.sample(2, seed=3, prompt=PROMPTS[0], output="pt")) <= 1


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (lambda plain, worded: plain.sample(1, prompt="a man"), "without words"),
        (lambda plain, worded: plain.sample(1, guidance=2.0), "guidance 2 exaggerates words, and there are none"),
        (lambda plain, worded: worded.sample(1, prompt="a man", guidance=3.0), "learned guidance from 1 to 2.5"),
        (lambda plain, worded: worded.interpolate("a man", 3), "give two of a kind"),
        (lambda plain, worded: worded.interpolate("a man", "a woman", prompt="old"), "takes no prompt"),
        (lambda plain, worded: Generator.from_pretrained("no/such/folder"), "no such folder"),
        (lambda plain, worded: Generator.from_pretrained(plain.model, device="abc"), "cannot be used"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_line(plain, worded, draw, said):
    with pytest.raises(UsageError, match=said) as caught:
        draw(plain, worded)
    assert "\n" not in str(caught.value)


def test_the_readme_s_lines_run(worded, tmp_path, monkeypatch):
    (block,) = re.findall(r"^```python\n(from dinogen import .*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "faces").symlink_to(worded.model)
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    assert Image.open("face.png").size == (16, 16)
