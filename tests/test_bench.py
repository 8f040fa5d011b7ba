"""`dinogen bench`, on the CPU with something tiny."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, Dinov2Config, Dinov2Model

from dinogen.bench import matrix_flops, measure
from dinogen.teachers.dinov2 import architecture, save_random_dinov2
from dinogen.train.measure import count_flop
from helpers.crop_folder import make_crops
from helpers.training import OF_OLD
from launch.cli import main
from launch.train import build_parser, make_config

PRESET = "generator: {channel_base: 128, channel_max: 16, z_dim: 16, w_dim: 16}\n"


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """A saved DINOv2 of two narrow layers."""
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, patch_size=14, image_size=28, mlp_ratio=2
    )
    Dinov2Model(config).save_pretrained(tmp_path / "narrow")
    return tmp_path / "narrow"


def test_a_config_is_measured(shards32, tmp_path):
    parser = build_parser()
    flags = ["--data", str(shards32), "--output", str(tmp_path / "run"), "--precision=no", *OF_OLD]
    result = measure(make_config(parser, parser.parse_args(flags)), steps=2)
    assert result.steps == 2 and result.device == "cpu" and result.peak_bytes > 50e6
    assert result.real_images_per_second == pytest.approx(8 / result.step_seconds)
    assert result.generated_images_per_second == pytest.approx(4 / result.step_seconds)
    assert 0 < result.objective_share < 1 and 0 < result.step_flop < result.device_flops
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_every_case_becomes_a_line_and_one_that_fails_too(tmp_path, teacher, capsys):
    make_crops(tmp_path / "crops", 8)
    (tmp_path / "preset.yaml").write_text(PRESET)
    flags = [
        "--output", str(tmp_path / "bench"), "--teachers", str(teacher), "--resolutions", "8", "--precisions", "no",
        "--also=--objective.name=paired", "--batch-size", "4", "--real-batch-size", "8", "--steps", "2",
        "--preset", str(tmp_path / "preset.yaml"), "--crops", str(tmp_path / "crops"),
    ]  # fmt: skip
    assert main(["bench", *flags]) == 0
    out = capsys.readouterr().out
    assert "cpu, torch" in out and "4 generated and 8 real images a step, 2 steps each." in out
    plain, paired = json.loads((tmp_path / "bench/benchmarks.json").read_text())
    assert plain["flags"] == "" and paired["flags"] == "--objective.name=paired"
    for result in (plain, paired):
        assert result["steps"] == 2 and result["peak_bytes"] > 50e6 and 0 < result["objective_share"] < 1
        assert result["real_images_per_second"] == pytest.approx(8 / result["step_seconds"])
        assert 0 < result["step_flop"] < result["device_flops"]
    assert plain["step_flop"] > paired["step_flop"], "distances and transport are products of matrices too"
    assert not (tmp_path / "bench/run").exists()


def test_a_random_teacher_has_the_published_size_and_opens_like_a_pretrained_one(tmp_path):
    folder = save_random_dinov2("small", tmp_path / "small")
    written = (folder / "model.safetensors").stat().st_mtime_ns
    model = AutoModel.from_pretrained(folder, use_safetensors=True)
    # 12.2 GFLOP for 224² pixels: twice the multiplications of the published 6.1 G.
    with torch.no_grad():
        flop = count_flop(lambda: model(torch.zeros(1, 3, 224, 224)))["Global"]
    assert flop / 1e9 == pytest.approx(12.2, rel=0.1)
    save_random_dinov2("small", folder)
    assert (folder / "model.safetensors").stat().st_mtime_ns == written, "made once"


@pytest.mark.parametrize(("name", "millions"), [("small", 22.1), ("base", 86.6), ("large", 304.4), ("giant", 1136.5)])
def test_the_architectures_have_the_published_numbers_of_parameters(name, millions):
    with torch.device("meta"):
        model = Dinov2Model(architecture(name))
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.002)


def test_products_of_matrices_are_counted_as_they_are():
    left = torch.randn(64, 32)
    assert count_flop(lambda: left @ left.T)["Global"] == 2 * 64 * 64 * 32
    assert matrix_flops(torch.device("cpu"), torch.float32, seconds=0.1) > 1e8
