"""The documents' commands: each can be parsed, and the README's lead from photos to faces."""

import importlib
import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from launch.cli import VERBS
from shards.synth import synth_folder

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LIMITED = {"train": "--machine.max_minutes=0.5", "sample": "--count=16", "evaluate": "--count=24"}


def blocks(page: Path) -> list[str]:
    """The blocks of shell commands on a page, each command on one line."""
    return [
        block.replace("\\\n", " ")
        for block in re.findall(r"^ *```bash\n(.*?)^ *```", page.read_text(), re.DOTALL | re.M)
    ]


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """Verbs and flags of all commands on a page, started by whatever launcher."""
    found = []
    for line in "\n".join(blocks(page)).splitlines():
        words = shlex.split(line, comments=True)
        for index, word in enumerate(words):
            verb = words[index + 1] if word == "dinogen" and index + 1 < len(words) else word.removeprefix("launch.")
            if (word == "dinogen" or words[index - 1] == "-m") and verb in VERBS:
                found.append((verb, words[index + 1 + (word == "dinogen") :]))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_only_flags_that_exist(page):
    for verb, flags in commands(page):
        flags = flags[: next((i for i, word in enumerate(flags) if word in ("|", "&&", ";", ">")), None)]
        if "--help" not in flags:
            importlib.import_module(f"launch.{verb}").build_parser().parse_args(flags)


def test_commands_are_found():
    assert {"crop", "pack", "train", "sample", "evaluate"} <= {verb for verb, _ in commands(ROOT / "README.md")}
    assert sum(len(commands(page)) for page in PAGES) > 20


@pytest.mark.slow
def test_the_readme_leads_from_photos_to_faces(tmp_path):
    """Word by word, in another folder, but for limits of time and number that come last."""
    synth_folder(tmp_path / "data/photos", 40, seed=0, studio=True)
    block = next(block for block in blocks(ROOT / "README.md") if "dinogen crop" in block)
    program = tmp_path / "bin/dinogen"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m launch.cli "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    env = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    for line in block.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] != ["dinogen"]:
            assert words == ["source", ".venv/bin/activate"], f"what is {line}?"
            continue
        line = line.split(" #")[0] + f" {LIMITED.get(words[1], '')}"
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=900)
        print(f"$ {line}\n{done.stdout}{done.stderr}")
        assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "runs/faces/samples/grid.png").is_file()
    assert (tmp_path / "runs/faces/report.html").is_file()
