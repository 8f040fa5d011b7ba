"""What each command says to run next runs as printed, from any folder."""

import contextlib
import http.server
import io
import re
import shlex
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from launch.cli import VERBS, main

# What keeps a step short. The words that were printed stay as they are: these come after them.
SHORT = {
    "train": ["--machine.max_minutes=0.05"],
    "sample": ["--count=4"],
    "interpolate": ["--frames=4", "--faces=2"],
    "evaluate": ["--count=12"],
    "compare": ["--count=12"],
    "demo": ["--minutes=0.05"],
    "project": ["--steps=2"],
}
FOLLOWED = ["synth", "crop", "pack", "train", "sample", "interpolate", "evaluate"]
OTHERS = {
    "compare": "--model runs/faces runs/faces --output 'my comparison'",
    "mix": "--model runs/faces --output 'my mix.png'",
    "export": "--model runs/faces --format safetensors --output 'my faces'",
    "project": "--model runs/faces --image 'my photos/000003.jpg' --output 'my projection'",
    "verify": "--data 'my shards'",
    "inspect": "--data 'my shards' --output 'my shards.png'",
    "card": "--data 'my shards'",
    "download": "--dataset addresses.txt --output 'fetched photos'",
    "remove": "--data 'my shards' --source 000003.jpg",
}
SLOW = {
    "demo": "--input 'my photos' --output 'my demo'",
    "doctor": "--output runs --data 'my shards'",
}
WITHOUT = {"bench", "completion", "push", "play"}  # push and play have tests of their own


def next_step(line: str) -> str | None:
    """Run a command as it was printed; what does it say to do next?"""
    program, verb, *flags = shlex.split(line)
    assert program == "dinogen" and not re.search(r"\b[A-Z]{4,}\b", line), f"{line}: something to fill in"
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([verb, *flags, *([] if {"--help", "--style"} & {*flags} else SHORT.get(verb, []))])
        except SystemExit as stop:
            code = stop.code
    assert code == 0, f"{line}: {err.getvalue()[-2000:]}"
    found = re.search(r" Next: (.+)\n\Z", out.getvalue())
    return found and found[1]


def can_be_done(line: str) -> bool:
    """Of what is no command of ours: is the program installed, is the page written?"""
    words = shlex.split(line)
    if words[0] == "open":
        return Path(words[1]).is_file() and words[2:] == ["in", "a", "browser"]
    return words[0] == "tensorboard" and bool(shutil.which(words[0])) and Path(words[2]).is_dir()


@pytest.fixture(scope="module")
def followed(tmp_path_factory) -> Iterator[list[str]]:
    """The lines that one leads to from the first command, all run in a folder that is not the project's."""
    lines = ["dinogen synth --studio --count 30 --output 'my photos'"]
    with contextlib.chdir(tmp_path_factory.mktemp("anywhere")):
        while lines[-1].startswith("dinogen") and len(lines) < 20:
            lines.append(next_step(lines[-1]) or "")
        yield lines


def test_next_steps_lead_from_portraits_to_a_judged_generator(followed):
    assert [line.split()[1] for line in followed[:-1]] == FOLLOWED
    assert can_be_done(followed[-1])


@pytest.fixture(scope="module")
def addresses(followed) -> Iterator[None]:
    """addresses.txt lists a photo on a server."""
    handler = type("Handler", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with http.server.ThreadingHTTPServer(("localhost", 0), partial(handler, directory="my photos")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        Path("addresses.txt").write_text(f"http://localhost:{server.server_port}/000000.jpg\n")
        yield
        server.shutdown()


@pytest.mark.parametrize("verb", [*OTHERS, *(pytest.param(verb, marks=pytest.mark.slow) for verb in SLOW)])
def test_the_next_step_of_others_runs_too(verb, followed, addresses):
    line = next_step(f"dinogen {verb} {(OTHERS | SLOW)[verb]}")
    if line and not line.startswith("dinogen"):
        assert can_be_done(line)
    elif line and line not in followed:
        next_step(line)


def test_no_verb_was_forgotten():
    assert {*FOLLOWED, *OTHERS, *SLOW, *WITHOUT} == VERBS.keys()
