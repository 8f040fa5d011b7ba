"""Errors of every command: one line that begins with its name, the right exit code, no traceback, nothing written."""

from pathlib import Path

import pytest

from helpers import strangers
from launch.cli import VERBS, main

FAILED, USAGE = 1, 2
SMALL = "--generator.img_resolution 8 --schedule.start_resolution 4"
TRAIN = f"train --data shards --output out {SMALL}"
# A command, its exit code, and what its line says after "error: ".
KINDS = [
    ("synth --output file/x", FAILED, "file"),
    ("synth --output out --count 0", USAGE, "--count 0: give a number from 1 to"),
    ("synth", USAGE, "give --output"),
    ("download --dataset nothing.txt --output out", USAGE, "nothing.txt"),
    ("download --dataset ftp://x/y --output out", USAGE, "ftp://x/y"),
    ("download --dataset captions.csv --output out", USAGE, "captions.csv"),
    ("crop --input nothing --output out", USAGE, "nothing: no such folder or file"),
    ("crop --input pipe:ls --output out", USAGE, "pipe:ls: pipe: addresses run programs"),
    ("crop --input photos --output photos/crops", USAGE, "photos"),
    ("crop --input photos --output out --detector x", USAGE, "--detector x: give"),
    ("crop --input empty --output out", FAILED, "empty: no image in it or below it"),
    ("pack --input nothing --output out", USAGE, "nothing: no such folder; --input takes"),
    ("pack --input photos --output out", USAGE, "photos: holds photos, not crops; run first: dinogen crop"),
    ("pack --input crops --output out --stages 12", USAGE, "12"),
    ("pack --input crops --output out --teacher ./nothing", FAILED, "./nothing: no teacher here"),
    ("pack --input crops --output out --captions nothing.csv", USAGE, "nothing.csv"),
    ("pack --input crops --output out --captions list.txt", USAGE, "list.txt: captions come as .csv"),
    ("train --data nothing --output out", FAILED, "nothing: no such folder; --data takes shards"),
    ("train --data crops --output out", FAILED, "crops: holds crops, not shards; run first: dinogen pack"),
    (f"{TRAIN} --schedule.total_kimg -1", USAGE, "schedule.total_kimg -1"),
    ("train --data shards --output out --generator.img_resolution 48", USAGE, "generator.img_resolution 48"),
    (f"{TRAIN} --batches.generated 1", USAGE, "batches.generated 1 is too few for a step"),
    (f"{TRAIN} --config none-such", USAGE, "--config none-such: no such file, and no preset of that name"),
    (f"{TRAIN} --trackers abacus", USAGE, "trackers: 'abacus' is not known; choose from"),
    (f"{TRAIN} --words.encoder embedded", FAILED, "shards: no sample has a caption"),
    (f"{TRAIN} --objective.name gan", USAGE, "--objective.name gan: give"),
    (f"{TRAIN} --init-from nothing", USAGE, "nothing: no such folder"),
    (f"train --data shards --output run {SMALL} --generator.z_dim 99", FAILED, "run"),
    ("sample --model nothing", USAGE, "nothing: no such folder; --model takes a run"),
    ("sample --model run --prompt words --output out", USAGE, "run"),
    ("sample --model run --device tpu --output out", USAGE, "--device tpu cannot be used on this machine"),
    ("sample --model run --prompts nothing.txt --output out", USAGE, "nothing.txt"),
    ("sample --model run --truncation-psi -1 --output out", USAGE, "--truncation-psi -1"),
    ("interpolate --model run --output out.txt", USAGE, "out.txt"),
    ("interpolate --model run --frames 1 --output out.png", USAGE, "--frames 1"),
    ("interpolate --model run --from a --output out.png", USAGE, "--from"),
    ("mix --model nothing", USAGE, "nothing: no such folder"),
    ("project --model run --image nothing.jpg --output out", USAGE, "nothing.jpg"),
    ("project --model run --image file --output out", USAGE, "file"),
    ("play --model nothing", USAGE, "nothing: no such folder; --model takes a run"),
    ("play --model run --host 0.0.0.0", USAGE, "--host 0.0.0.0: other machines would reach the page; give --auth"),
    ("play --model run --auth me", USAGE, "--auth: give USER:PASSWORD, or --auth USER"),
    ("play --model run --auth-file nothing", USAGE, "nothing"),
    ("play --model run --port 70000", USAGE, "--port 70000: give a whole number from 1 to 65535"),
    ("export --model run --output out.txt", USAGE, "--output out.txt: a file for onnx must end in .onnx"),
    ("export --model run --format safetensors --output empty", USAGE, "--output empty: is there already"),
    ("export --model run --format web --output empty", USAGE, "--output empty: is there already"),
    ("export --model run --format web --runtime nothing --output out", USAGE, "nothing: no such file or folder; where"),
    ("export --model run --format web --runtime empty --output out", USAGE, "empty: ort.wasm.bundle.min.mjs and"),
    ("export --model run --format web --runtime file --output out", USAGE, "file: not a whole package of"),
    ("export --model run --format web --start w --output out", USAGE, "--start w: a page draws from seeds"),
    ("export --model run --runtime empty --output out.onnx", USAGE, "--runtime empty: is for --format web alone"),
    ("export --model run --format web --prompt a --output out", USAGE, "run"),
    ("export --model run --format web --prompts empty --output out", USAGE, "empty"),
    ("push --model run --repo faces", USAGE, "--repo faces: give a name such as owner/faces"),
    ("evaluate --model run --data nothing --output out.json", USAGE, "nothing: no such folder; --data takes"),
    ("evaluate --model run --data empty --output out.json", USAGE, "empty: neither manifest.json nor images here"),
    ("evaluate --model run --attributes file --output out.json", USAGE, "file"),
    ("compare --model run nothing --output out", USAGE, "nothing: no such folder"),
    ("verify --data empty", FAILED, "empty: no manifest.json (no shards here)"),
    ("verify --data ftp://x/y", USAGE, "ftp://x/y: take a folder or an address"),
    ("inspect --data shards --output out.pdf", USAGE, "--output out.pdf: give the name of a .png"),
    ("inspect --data shards --split none --output out.png", FAILED, "the data has no samples of split 'none'"),
    ("remove --data shards --source nobody.jpg", FAILED, "nobody.jpg"),
    ("remove --data shards", USAGE, "give"),
    ("card --data shards --output file", FAILED, "file: not a card of dinogen card"),
    ("bench --preset none-such --output out", USAGE, "none-such"),
    ("doctor --data nothing", FAILED, ""),
    ("completion fish", USAGE, "fish"),
    ("demo --minutes 0", USAGE, "--minutes 0"),
    ("demo --input nothing --output out", USAGE, "nothing: no such folder or file"),
]  # fmt: skip
CHECKLIST = "doctor"  # says all that is wrong in lines of its own


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("errors") / "bed"
    strangers.make_bed(folder)
    return folder


def everything_in(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize(("command", "code", "said"), KINDS)
def test_an_error_is_one_line(bed: Path, monkeypatch: pytest.MonkeyPatch, capsys, command: str, code: int, said: str):
    monkeypatch.chdir(bed)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = everything_in(bed)
    verb = command.partition(" ")[0]
    assert main(command.split()) == code
    err = capsys.readouterr().err
    assert "Traceback" not in err and "unexpected" not in err
    if verb != CHECKLIST:
        line = err.rstrip("\n").rpartition("\n")[2].rpartition("\r")[2]
        assert line.startswith(f"dinogen {verb}: error: ") and said in line
        assert len([each for each in err.splitlines() if "error: " in each]) == 1
    after = everything_in(bed)
    assert {name for name in after.keys() | before.keys() if after.get(name) != before.get(name)} <= {"run/.lock"}


def test_every_command_has_errors_here():
    assert {command.partition(" ")[0] for command, _, _ in KINDS} == {*VERBS}
    assert len(KINDS) > 40
