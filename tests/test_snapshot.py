"""Snapshots come from strangers: what means harm is refused with one line, runs nothing and fills no memory."""

import json
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from dinogen.networks import Generator
from helpers.canary import Canary
from launch.cli import main


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    small = Generator(img_resolution=8, z_dim=8, w_dim=8, mapping_layers=1, channel_base=32, channel_max=8)
    small.save_pretrained(tmp_path / "snapshot", config={"img_resolution": 8, "z_dim": 8, "w_dim": 8,
                          "mapping_layers": 1, "channel_base": 32, "channel_max": 8})  # fmt: skip
    return tmp_path / "snapshot"


def sample(snapshot: Path) -> int:
    return main(["sample", "--model", str(snapshot), "--count", "2", "--output", str(snapshot.parent / "samples")])


def refusal(snapshot: Path, capsys: pytest.CaptureFixture) -> str:
    before = psutil.Process().memory_info().rss
    assert sample(snapshot) == 1
    assert psutil.Process().memory_info().rss - before < 200e6
    assert not (snapshot.parent / "samples").exists()
    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) < 600
    return line


def test_an_honest_snapshot_is_drawn(snapshot):
    assert sample(snapshot) == 0


def test_a_pickle_is_refused_and_never_opened(snapshot, capsys):
    canary = snapshot.parent / "canary"
    for name in ("model.safetensors", "pytorch_model.bin", "model.pt"):
        torch.save({"w_avg": Canary(canary)}, snapshot / name)
    assert "model.safetensors: cut short, or no safetensors file" in refusal(snapshot, capsys)
    assert not canary.exists()
    torch.load(snapshot / "model.pt", weights_only=False)
    assert canary.exists(), "the canary works"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"evil": torch.zeros(1)}, "unknown tensor, 'evil'"),
        ({"w_avg": None}, "w_avg is missing"),
        ({"w_avg": torch.zeros(9)}, "w_avg has shape [9] instead of [8]"),
        ({"w_avg": torch.zeros(8, dtype=torch.int64)}, "w_avg has type I64 instead of F32"),
        ({"w_avg": torch.full((8,), torch.nan)}, "w_avg holds numbers that are not finite"),
    ],
    ids=["extra", "missing", "shape", "type", "nan"],
)
def test_weights_that_do_not_belong_are_refused(snapshot, capsys, changes, said):
    path = snapshot / "model.safetensors"
    tensors = {name: value.clone() for name, value in load_file(path).items()} | changes
    save_file({name: value for name, value in tensors.items() if value is not None}, path)
    line = refusal(snapshot, capsys)
    assert said in line and "copy the snapshot again" in line


@pytest.mark.parametrize("length", [2**63, 10**8], ids=["endless", "huge"])
def test_a_huge_header_is_refused(snapshot, capsys, length):
    (snapshot / "model.safetensors").write_bytes(length.to_bytes(8, "little") + b"{" + b" " * 10**7)
    assert f"a header of {length} bytes" in refusal(snapshot, capsys)


@pytest.mark.parametrize(
    "changes",
    [
        {"img_resolution": 2**40}, {"img_resolution": 48}, {"channel_max": 10**9}, {"mapping_layers": 10**9},
        {"w_dim": -1}, {"z_dim": "8"}, {"z_dim": True}, {"trained_resolution": 16}, {"trained_resolution": 6},
        {"trained_alpha": 1e300}, {"trained_alpha": "x" * 10**5}, {"evil" * 10**5: 1}, {"channel_base": [[8]]},
        {"text_dim": -1}, {"token_dim": 10**9}, {"text_dim": None}, {"attention_at": 16}, {"attention_at": [[16]]},
    ],
    ids=lambda changes: str(changes)[:40],
)  # fmt: skip
def test_a_configuration_of_no_possible_generator_is_refused(snapshot, capsys, changes):
    path = snapshot / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    assert f"{path}: not a generator's configuration" in refusal(snapshot, capsys)


def test_a_configuration_of_a_huge_generator_takes_no_memory(snapshot, capsys):
    path = snapshot / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"channel_base": 2**16, "channel_max": 2**16}))
    assert "of another config.json" in refusal(snapshot, capsys)


@pytest.mark.parametrize("text", ["[" * 10**6, "[]", "7", "NaN", '"' + "x" * 2**20 + '"', "\x80\x04"], ids=len)
def test_an_absurd_configuration_is_refused(snapshot, capsys, text):
    (snapshot / "config.json").write_text(text)
    assert "config.json: not a generator's configuration" in refusal(snapshot, capsys)
