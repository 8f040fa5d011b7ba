"""Runs docs/walkthrough.md: its commands, one after the other, in a folder. Writes what they say into the page, and its
pictures beside it. Run: python docs/draw_walkthrough.py

It takes about a quarter of an hour on two CPU cores. Screenshots take a Chromium.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "walkthrough.md"
PICTURES = ROOT / "docs" / "walkthrough"
BLOCK = re.compile(r"^```bash\n(?P<commands>.*?)^```\n(?:\n```text\n(?P<said>.*?)^```\n)?", re.M | re.S)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTH = 960  # of a picture, in pixels
SAID = "said"  # folder in which the outputs are kept, a file for each command


def commands_of(page: str) -> list[str]:
    """The page's dinogen commands, from top to bottom."""
    lines = [line for block in BLOCK.finditer(page) for line in block["commands"].splitlines()]
    return [line for line in lines if line.startswith("dinogen ")]


def run(command: str, folder: Path) -> str:
    """What a command prints; its progress is shown."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "launch.cli", *shlex.split(command)[1:]]
    return subprocess.run(words, cwd=folder, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout


def run_all(folder: Path) -> Iterator[tuple[str, str]]:
    """Each command with what it printed. What was run in this folder before is not run again."""
    (folder / SAID).mkdir(parents=True, exist_ok=True)
    for number, command in enumerate(commands_of(PAGE.read_text())):
        print(f"$ {command}", flush=True)
        kept = folder / SAID / f"{number:02}.txt"
        if not kept.is_file() or kept.read_text().partition("\n")[0] != command:
            kept.write_text(f"{command}\n{run(command, folder)}")
        yield command, kept.read_text().partition("\n")[2]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for _ in run_all(folder):
        pass
