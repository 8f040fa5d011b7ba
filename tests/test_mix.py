"""dinogen mix: coarse styles of some faces with fine styles of others."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dinogen import Generator
from dinogen.images import enlarge
from helpers.worded import save_worded
from launch.mix import main

PROMPTS = ["a woman with red hair", "a bald man"]


@pytest.fixture(scope="module")
def generator(tmp_path_factory) -> Generator:
    """With words, of blocks 4, 8 and 16."""
    snapshot = tmp_path_factory.mktemp("worded") / "faces"
    save_worded(snapshot, "embedded")
    return Generator.from_pretrained(snapshot, device="cpu")


def mixed(generator: Generator, tmp_path: Path, *flags: str) -> np.ndarray:
    """The table, `[rows, columns, 128, 128, 3]`, without the labels below."""
    out = tmp_path / "table.png"
    assert main(["--model", str(generator.model), "--output", str(out), *flags]) == 0
    page = np.pad(np.array(Image.open(out)), ((0, 2), (0, 2), (0, 0)), constant_values=255)
    rows, columns = page.shape[0] // 148, page.shape[1] // 130
    return page.reshape(rows, 148, columns, 130, 3).transpose(0, 2, 1, 3, 4)[:, :, :128, :128]


def apart(shown: np.ndarray, images: torch.Tensor) -> int:
    """Grey levels between faces of the table `[n, 128, 128, 3]` and images `[n, 3, 16, 16]` where they differ most."""
    return int(np.abs(shown.astype(int) - enlarge(images, 8).permute(0, 2, 3, 1).numpy()).max())


@pytest.mark.parametrize("prompts", [[], PROMPTS], ids=["no words", "words"])
@pytest.mark.parametrize(("flags", "crossover"), [([], 1), (["--up-to", "8"], 2)], ids=["half", "up to 8"])
def test_rows_give_coarse_styles_and_columns_fine_ones(generator, tmp_path, prompts, flags, crossover):
    numbers = [12, 3, 40, 3]
    texts = ["--prompt", *prompts, "--guidance", "2"] if prompts else []
    table = mixed(generator, tmp_path, "--coarse", "12", "3", "--fine", "40", "3", "--seed", "7", *flags, *texts)
    assert table.shape[:2] == (3, 3) and (table[0, 0] == 255).all()
    given = [{"prompt": prompt, "guidance": 2.0} for prompt in prompts * 2] or [{}] * 4
    w = torch.cat([generator.style(seed=7, first=number, **its) for number, its in zip(numbers, given)])
    faces = torch.cat([generator.draw(style[None], **its, output="pt") for style, its in zip(w, given)])
    assert apart(np.array([*table[1:, 0], *table[0, 1:]]), faces) <= 2
    blocks = torch.cat([w[1].expand(crossover, -1), w[2].expand(3 - crossover, -1)])
    mixed_face = generator.draw(blocks[None], **given[1], output="pt")
    assert apart(table[2:, 1], mixed_face) <= 2
    assert min(apart(others, mixed_face) for others in (table[2:, 0], table[2:, 2], table[1:2, 1])) > 2


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--up-to", "16"], "coarse styles up to 16: this model can be mixed at 4, 8"),
        (["--output", "table.jpg"], "--output table.jpg: must end in .png"),
        (["--coarse", "-1"], "--coarse -1: give a whole number, at least 0"),
        (["--guidance", "2"], "give --prompt too"),
        (["--prompt", "a", "--guidance", "9"], "learned guidance from 1 to 2.5"),
    ],
)
def test_what_cannot_be_mixed_is_refused_before_anything_is_written(
    generator, tmp_path, monkeypatch, capsys, flags, said
):
    monkeypatch.chdir(tmp_path)
    assert main(["--model", str(generator.model), *flags]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())
