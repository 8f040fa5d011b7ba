"""The warm-up: codes of real images, regression octave by octave, and what a run keeps of it."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from dinogen.codes import Coder
from dinogen.data.folder import open_folder
from dinogen.data.loader import load_crops, load_pyramids
from dinogen.objectives.base import Seen
from dinogen.objectives.octaves import OctaveRegression
from dinogen.octaves import octaves
from dinogen.opening import load_generator
from dinogen.train.trainer import Trainer
from launch.train import build_parser, make_config
from shards.options import PackOptions
from shards.pack import pack_folder

FLAGS = [
    "--generator.channel_base=512", "--generator.channel_max=32", "--schedule.start_resolution=32",
    "--batches.generated=8", "--batches.real=16", "--warmup.batch=8",
]  # fmt: skip


@pytest.fixture(scope="module")
def fitted(shards32: Path) -> tuple[Coder, dict[str, torch.Tensor]]:
    stored = load_pyramids(shards32, 48, 32)
    coder = Coder(open_folder(shards32).manifest().specs[32], z_dim=64)
    coder.fit(stored)
    return coder, stored


def trainer_of(data: Path, output: Path, *flags: str) -> Trainer:
    parser = build_parser()
    return Trainer(
        make_config(parser, parser.parse_args(["--data", str(data), "--output", str(output), *FLAGS, *flags]))
    )


def test_octaves_add_up_to_the_image():
    images = torch.rand(2, 3, 32, 32)
    parts, whole = octaves(images, 8)
    assert list(parts) == [32, 16, 8] and whole.shape == (2, 3, 4, 4)
    for part in reversed(parts.values()):
        whole = part + F.interpolate(whole, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(whole, images)


def test_codes_are_spread_like_normal_latents_and_tell_images_apart(fitted):
    coder, stored = fitted
    codes = coder(stored)
    assert codes.shape == (48, 6), "one number for each eight images"
    assert codes.mean(dim=0).abs().max() < 0.05 and (codes.std(dim=0) - 1).abs().max() < 0.1
    apart = torch.cdist(codes, codes).fill_diagonal_(9)
    assert apart.min() > 0.3


def test_a_code_does_not_depend_on_its_batch(fitted):
    coder, stored = fitted
    alone = coder({name: level[5:6] for name, level in stored.items()})
    torch.testing.assert_close(alone, coder(stored)[5:6], rtol=0, atol=1e-4)


def test_a_code_leaves_out_what_the_caption_tells(fitted, shards32):
    """Latents and captions are drawn independently after the warm-up, so they must be independent in it."""
    plain, stored = fitted
    brightness = load_crops(shards32, 48, 32).float().mean(dim=(1, 2, 3))
    captions = torch.where(brightness > brightness.median(), 1.0, -1.0)[:, None] * torch.tensor([[0.6, 0.8]])
    coder = Coder(plain.spec, z_dim=64, text_dim=2)
    coder.fit(stored, captions)

    def told(codes: torch.Tensor) -> float:
        return torch.corrcoef(torch.cat([codes.T, captions[:, :1].T]))[-1, :-1].abs().max().item()

    assert told(plain(stored)) > 0.4 and told(coder(stored, captions)) < 0.2
    assert told(coder(stored, torch.zeros_like(captions))) > 0.4, "without a caption the code tells all"
    assert coder.tensors().keys() == coder.expected().keys()


def test_codes_follow_what_images_show(fitted, shards32):
    """Images of like colours in the middle have like codes."""
    coder, stored = fitted
    colours = load_crops(shards32, 48, 32).float()[:, :, 12:24, 8:24].mean(dim=(2, 3))
    alike, codes = torch.cdist(colours, colours), torch.cdist(coder(stored), coder(stored))
    pairs = torch.triu_indices(48, 48, offset=1)
    assert torch.corrcoef(torch.stack([alike[*pairs], codes[*pairs]]))[0, 1] > 0.2


def test_every_octave_counts_in_units_of_its_variance():
    reals = torch.randn(64, 3, 16, 16) * 5
    mean = reals.mean(dim=0, keepdim=True).expand_as(reals)
    result = OctaveRegression(ends=1)(Seen({}, {}, mean, reals, 0))
    assert list(result.statistics) == ["octaves/16", "octaves/8", "octaves/4"]
    for value in (result.loss, *result.statistics.values()):
        assert float(value) == pytest.approx(1.0, abs=1e-4), "the mean image explains nothing"
    assert float(OctaveRegression(ends=1)(Seen({}, {}, reals, reals, 0)).loss) == 0


def test_each_image_is_drawn_from_its_own_code(shards32, tmp_path):
    trainer = trainer_of(shards32, tmp_path / "run", "--warmup.stage_kimg={32: 0.8}", "--schedule.total_kimg=0.8")
    coder = trainer.comparer.coder
    stored = load_pyramids(shards32, 48, trainer.comparer.code_stage)
    codes = coder(stored)
    trainer.train()
    assert not coder.parts, "nobody needs codes any more"
    z = F.pad(codes, (0, 128 - codes.shape[1]))
    with torch.no_grad():
        drawn = load_generator(str(tmp_path / "run"))(z, 32).flatten(1)
    reals = (load_crops(shards32, 48, 32).float() / 127.5 - 1).flatten(1)
    nearest = torch.cdist(drawn - drawn.mean(dim=0), reals - reals.mean(dim=0)).argmin(dim=1)
    right = (nearest == torch.arange(48)).float().mean()
    assert right > 0.25, f"{right:.0%} of images are nearest to their own real one; by chance 2% are"


def test_pictures_are_drawn_in_a_stage_that_the_shards_do_not_have(shards32, tmp_path):
    """What the teacher sees of them is that of the next finer stage."""
    options = PackOptions(teacher="tiny", stages=[32])
    pack_folder(shards32.parent / "crops", tmp_path / "shards", options)
    trainer = trainer_of(
        tmp_path / "shards",
        tmp_path / "run",
        "--warmup.stage_kimg={8: 0.032, 32: 0.032}",
        "--schedule.total_kimg=0.096",
    )
    assert trainer.stage.resolution == 8
    pictures, _ = trainer.make_monitor().preview.draw(trainer.G_ema, trainer.stage)
    assert "3_pyramids" in pictures


def test_a_warm_up_that_was_interrupted_resumes_with_the_same_codes(shards32, tmp_path):
    """Also into the next stage and out of the warm-up, bit by bit."""
    warmup = "--warmup.stage_kimg={16: 0.032, 32: 0.032}"
    trainer_of(shards32, tmp_path / "whole", warmup, "--schedule.total_kimg=0.096").train()
    for end in (0.016, 0.04, 0.096):
        trainer_of(shards32, tmp_path / "parts", warmup, f"--schedule.total_kimg={end}").train()
    files = [
        tmp_path / run / "checkpoints" / "nimg000000000096" / "generator.safetensors" for run in ("whole", "parts")
    ]
    whole, parts = (load_file(file) for file in files)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    saved = sorted(path.name for path in (tmp_path / "parts" / "checkpoints").iterdir())
    held = [(tmp_path / "parts" / "checkpoints" / name / "codes.safetensors").is_file() for name in saved]
    assert held == [True, False], "codes are kept during the warm-up alone"
