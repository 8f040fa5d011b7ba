"""CONTRIBUTING's recipes, followed to the letter in a copy of the packages: the code stands in CONTRIBUTING alone."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from helpers.crop_folder import make_crops
from helpers.training import SMALL

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```python\n# (?P<file>\S+\.py)(?P<where>, [^\n]+)?\n(?P<code>.*?)^```", re.M | re.S)
ABOVE, INSIDE = ", above RunConfig", ", in RunConfig"


def put(file: Path, where: str | None, code: str) -> None:
    """What a person does with one block: a new file, lines at the end of one, or a place that the block names."""
    text = file.read_text() if file.exists() else ""
    if where is None:
        text += code
    elif where == ABOVE:
        text = text.replace("@dataclass\nclass RunConfig", f"{code}\n\n@dataclass\nclass RunConfig")
    else:
        assert where == INSIDE, where
        last = "    heads: HeadsConfig | None = None\n"
        text = text.replace(last, f"{last}    {code}")
    assert code.strip() in text
    file.write_text(text)


def make_teacher_folder(folder: Path) -> Path:
    """A saved model of the recipe's kind, with random weights."""
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "patches"}')
    torch.manual_seed(0)
    save_file(
        {"embed.weight": torch.randn(16, 3, 8, 8) / 14, "embed.bias": torch.zeros(16)}, folder / "model.safetensors"
    )
    return folder


def test_a_term_and_a_teacher_take_no_more_than_the_recipes_say(tmp_path):
    project, run = tmp_path / "project", tmp_path / "run"
    for package in ("configs", "dinogen", "launch", "shards"):
        shutil.copytree(ROOT / package, project / package, ignore=shutil.ignore_patterns("__pycache__"))
    blocks = list(BLOCK.finditer((ROOT / "CONTRIBUTING.md").read_text()))
    assert len(blocks) == 6
    for block in blocks:
        put(project / block["file"], block["where"], block["code"])

    make_crops(tmp_path / "crops", 24)
    teacher = ["--teacher", str(make_teacher_folder(tmp_path / "teacher")), "--input-size", "32"]
    data = str(tmp_path / "shards")
    train = ["--data", data, "--output", str(run), *SMALL, "--schedule.start_resolution=32"]
    train += ["--schedule.total_kimg=0.064", "--colour.weight=0.1", "--colour.from_kimg=0.032"]
    pack = ["--input", str(tmp_path / "crops"), "--output", data, *teacher]
    script = (
        "from launch import pack, train\n"
        f"assert pack.main({pack}) == 0\n"
        f"assert train.main({[*train, '--dry-run']}) == 0\n"
        f"assert train.main({train}) == 0\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=project, env=os.environ | {"PYTHONPATH": str(project)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "colour" in done.stdout  # the dry run's table
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    gaps = [line["cur_nimg"] for line in lines if "colour/gap" in line]
    assert gaps == [64]  # the clock at which it is logged: 32 has none of it yet
