"""The documents' commands: each can be parsed; the README's and the walkthrough's lead from photos to faces."""

import contextlib
import importlib
import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import draw_walkthrough
import pytest
from draw_walkthrough import DRAWN, PAGE, PICTURES, SHOTS, commands_of, with_outputs

from launch.cli import VERBS, main
from shards.synth import synth_folder

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SMALL = {  # what keeps the walkthrough short; it comes after the page's own flags
    "synth": ["--count=16"],
    "train": [
        "--schedule.total_kimg=0.3", "--saving.snapshot_kimg=0.1", "--warmup.stage_kimg={16: 0.064, 32: 0.064}",
    ],
    "sample": ["--count=8"],
    "evaluate": ["--count=12"],
    "project": ["--steps=3"],
}  # fmt: skip
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


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which all commands of the walkthrough's page ran, word by word but for `SMALL`."""
    folder = tmp_path_factory.mktemp("walk")
    with contextlib.chdir(folder):
        for line in commands_of(PAGE.read_text()):
            _, verb, *flags = shlex.split(line)
            assert main([verb, *flags, *SMALL.get(verb, [])]) == 0, line
    return folder


def test_the_walkthrough_leads_from_photos_to_faces(walked: Path) -> None:
    lines = [shlex.split(line) for line in commands_of(PAGE.read_text())]
    verbs = {"synth", "crop", "pack", "train", "sample", "evaluate", "mix", "interpolate", "project", "export"}
    assert verbs <= {line[1] for line in lines}
    written = [walked / line[line.index("--output") + 1] for line in lines]
    assert not [path for path in written if not path.exists()]
    assert not [page for page, _ in SHOTS.values() if not (walked / page).is_file()]


@pytest.mark.parametrize("name", DRAWN)
def test_each_picture_of_the_walkthrough_can_be_drawn_again(name: str, walked: Path, tmp_path: Path) -> None:
    picture = DRAWN[name](walked)
    assert len(set(picture.convert("L").tobytes())) > 20, "hardly anything is in it"
    draw_walkthrough.save(picture, tmp_path / name)
    assert (tmp_path / name).stat().st_size < 150_000


def test_pages_show_the_pictures_that_are_drawn_and_they_are_small() -> None:
    shown = {name for page in PAGES for name in re.findall(r"\]\(walkthrough/([\w.-]+)\)", page.read_text())}
    files = {path.name: path.stat().st_size for path in PICTURES.iterdir()}
    assert shown == DRAWN.keys() | SHOTS.keys() == files.keys()
    assert sum(files.values()) < 400_000


def test_what_commands_print_stands_below_them() -> None:
    page = "Text.\n\n```bash\ndinogen a --b\n```\n\n```text\nold\n```\n\n```bash\ntensorboard\n```\n\nMore.\n"
    once = with_outputs(page, {"dinogen a --b": "new\n"})
    assert once == page.replace("old", "new")
    assert with_outputs(page.replace("```text\nold\n```\n\n", ""), {"dinogen a --b": "new\n"}) == once
    shown = PAGE.read_text()
    said = re.findall(r"```text\n(.*?)```", shown, re.S)
    assert len(said) == len([block for block in blocks(PAGE) if commands_of(f"```bash\n{block}```\n")])


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
