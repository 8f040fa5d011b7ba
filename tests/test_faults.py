"""What goes wrong inside a step, and what the trainer makes of it."""

import json
import math
from pathlib import Path

import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer

from dinogen.errors import DinogenError
from dinogen.train import health
from dinogen.train.health import StepChecks, Verdict
from dinogen.train.monitor import ALARM_AFTER_KIMG
from dinogen.train.rises import ENOUGH, RiseWatch
from dinogen.train.trainer import Trainer
from helpers.ranks import NARROW, start_ranks
from launch.train import build_parser, make_config

SMALL = [*NARROW, "--batches.generated=4", "--batches.real=8", "--schedule.start_resolution=32"]


def make_trainer(shards: Path, output: Path, *more: str) -> Trainer:
    parser = build_parser()
    arguments = ["--data", str(shards), "--output", str(output), *SMALL, *more]
    return Trainer(make_config(parser, parser.parse_args(arguments)))


@pytest.fixture
def trainer(shards32: Path, tmp_path: Path) -> Trainer:
    return make_trainer(shards32, tmp_path / "run")


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return [value.clone() for network in (trainer.network, trainer.G_ema) for value in network.state_dict().values()]


def poison(trainer: Trainer) -> torch.utils.hooks.RemovableHandle:
    """From now on one pixel that the generator draws is not a number."""

    def spoil(module: torch.nn.Module, inputs: tuple, images: torch.Tensor) -> torch.Tensor:
        images = images.clone()
        images[0, 0, 0, 0] = float("nan")
        return images

    return trainer.network.register_forward_hook(spoil)


def test_a_step_that_is_not_finite_changes_no_weight_and_the_next_one_learns(trainer, capsys):
    batches = trainer.one_stage()
    before = weights(trainer)
    handle = poison(trainer)
    statistics = trainer.train_step(*next(batches))
    assert statistics == {} and trainer.bad_steps.in_a_row == 1
    assert all(torch.equal(a, b) for a, b in zip(before, weights(trainer)))
    assert "rank 0: the generated images" in capsys.readouterr().err

    handle.remove()
    assert trainer.train_step(*next(batches))["gradient_norm"] > 0
    assert trainer.bad_steps.in_a_row == 0
    assert not all(torch.equal(a, b) for a, b in zip(before, weights(trainer)))


def test_too_many_in_a_row_end_the_run_and_name_what_was_not_finite(trainer, monkeypatch):
    monkeypatch.setattr(health, "MOST_BAD_STEPS", 3)
    poison(trainer)
    batches = trainer.one_stage()
    for _ in range(2):
        trainer.train_step(*next(batches))
    with pytest.raises(DinogenError, match="3 steps in a row were not finite .first on rank 0: the generated images"):
        trainer.train_step(*next(batches))


@pytest.mark.parametrize("more", [[], pytest.param(["--batches.accumulation=2"], marks=pytest.mark.slow)])
def test_a_fault_on_one_rank_is_skipped_on_both_and_traced_to_its_rank_and_tensor(shards32, tmp_path, more):
    places = {1: "images", 2: "features", 4: "cost", 6: "cost", 7: "images", 8: "features"}
    plan = {
        "poison": [{"rank": 1, "step": step, "where": where} for step, where in places.items()],
        "states": True,
        "most_bad_steps": 3,
    }
    flags = ["--data", str(shards32), "--output", str(tmp_path / "run"), *SMALL, "--frechet.weight=1", *more]
    run = start_ranks(2, tmp_path, [*flags, "--schedule.total_kimg=10"], plan)
    named = {
        "images": "rank 1: the generated images",
        "features": "rank 1: the generated images' features",  # those of the real ones are stored
        "cost": "rank 1: the transport's costs",
    }
    outputs = [process.communicate(timeout=300) for process in run.processes]
    assert [process.returncode for process in run.processes] == [1, 1], outputs
    for step, where in places.items():
        assert f"Step {step} skipped: not finite first on {named[where]}." in outputs[0][1]
    for _, text in outputs:
        assert f"3 steps in a row were not finite (first on {named['features']})" in text.splitlines()[-1]

    ranks = run.steps(0), run.steps(1)
    assert len(ranks[0]) == 8
    for before, after, other in zip(ranks[0], ranks[0][1:], ranks[1][1:]):
        assert after["state"] == other["state"], "both ranks hold the same"
        same = {key for key in after["state"] if before["state"][key] == after["state"][key]}
        assert same == (set(after["state"]) if after["step"] in places else set()), after["step"]


# ---- hostile features


@pytest.mark.parametrize("temperatures", ["[1e-3]", "[1e-3,0.05]"])
@pytest.mark.parametrize("kind", ["duplicated", "constant", "outliers", "usual"])
def test_hostile_features_are_finite_or_skipped(shards32, tmp_path, kind, temperatures):
    trainer = make_trainer(shards32, tmp_path / "run", f"--objective.temperatures={temperatures}")

    def spoil(module: torch.nn.Module, inputs: tuple, pyramid: dict) -> dict:
        if kind == "duplicated":
            return {name: level[:1].expand_as(level) for name, level in pyramid.items()}
        if kind == "constant":
            return {name: level * 0 + 1 for name, level in pyramid.items()}
        if kind == "outliers":
            return {name: torch.cat([level[:1] * 1e4, level[1:]]) for name, level in pyramid.items()}
        return pyramid

    trainer.teacher.register_forward_hook(spoil)
    for batches, stage in trainer.one_stage():
        scalars = trainer.train_step(batches, stage)
        assert scalars and all(math.isfinite(value) for value in scalars.values())
        if trainer.cur_step == 3:
            break
    assert all(value.isfinite().all() for value in weights(trainer))


@pytest.mark.parametrize("size", [1e12, 1e20])
def test_features_beyond_all_measure_are_finite_or_skipped(trainer, size, capsys):
    trainer.teacher.register_forward_hook(lambda *call: {name: level * size for name, level in call[-1].items()})
    before = weights(trainer)
    scalars = trainer.train_step(*next(trainer.one_stage()))
    if size > 1e15:  # their squares are no float32
        assert scalars == {} and "rank 0: the transport's costs" in capsys.readouterr().err
        assert all(torch.equal(a, b) for a, b in zip(before, weights(trainer)))
    assert all(value.isfinite().all() for value in weights(trainer))


# ---- the verdict


def test_the_first_tensor_that_is_not_finite_is_named_whatever_came_of_it():
    checks = StepChecks()
    for name, value in (("images", 1.0), ("features", math.inf), ("loss", math.nan)):
        checks.look(name, [torch.ones(3), torch.tensor([1.0, value])])
    verdict = checks.verdict(torch.tensor(math.nan), torch.tensor(math.nan), stop=15)
    assert verdict.fault == "rank 0: features" and not verdict.scale_only and verdict.stop == 15


def test_a_tensor_is_looked_at_in_every_batch_of_a_step():
    checks = StepChecks()
    for value in (math.nan, 1.0):
        checks.look("images", [torch.tensor([value])])
    assert checks.verdict(torch.tensor(0.0), torch.tensor(0.0), 0).fault == "rank 0: images"


def test_gradients_alone_may_be_the_scales_fault():
    checks = StepChecks()
    checks.look("the loss", [torch.ones(1)])
    checks.look("the gradient", [torch.tensor([math.inf])])
    assert checks.verdict(torch.ones(()), torch.tensor(math.inf), 0).scale_only


def test_with_a_gradient_scaler_the_scale_falls_until_steps_are_finite(trainer, capsys, monkeypatch):
    """fp16 itself needs a GPU; what the trainer makes of its scaler does not."""
    scaler = trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126)
    trainer.optimizer = AcceleratedOptimizer(trainer.optimizer.optimizer, scaler=scaler)
    monkeypatch.setattr(trainer.accelerator, "unscale_gradients", lambda: scaler.unscale_(trainer.optimizer.optimizer))
    trainer.network.register_forward_hook(
        lambda *call: call[-1].register_hook(lambda gradient: gradient * 2.0**12) and None
    )
    batches = trainer.one_stage()
    before = weights(trainer)
    skipped = 0
    while trainer.train_step(*next(batches)) == {}:
        assert all(torch.equal(a, b) for a, b in zip(before, weights(trainer)))
        skipped += 1
    assert skipped > 3, "more than max_bad_steps: they do not count as bad"
    assert trainer.bad_steps.in_a_row == 0
    assert scaler.get_scale() == 2.0 ** (126 - skipped)
    assert f"fp16's scale was too high, now {2.0 ** (126 - skipped):g}" in capsys.readouterr().err
    assert not all(torch.equal(a, b) for a, b in zip(before, weights(trainer)))


# ---- sudden rises


def verdict_of(norm: float, loss: float = 1.0) -> Verdict:
    return Verdict(None, False, loss, norm, 0)


def test_a_sudden_rise_of_the_gradient_or_the_loss_is_noticed():
    watch = RiseWatch()
    assert [watch.note("stage", verdict_of(2.0 + 0.1 * step)) for step in range(ENOUGH)] == [None] * ENOUGH
    assert watch.note("stage", verdict_of(19.0)) is None
    assert watch.note("stage", verdict_of(100.0)).startswith(
        "gradient norm 100, the median of the 17 steps before is 2."
    )
    assert watch.note("stage", verdict_of(2.0, loss=11.0)).startswith("loss 11, ")
    assert watch.note("another stage", verdict_of(100.0)) is None, "another stage has other gradients"


def test_a_rise_is_logged_with_the_keys_of_its_batch(trainer, capsys):
    trainer.folder.root.mkdir()
    batches = trainer.one_stage()
    for _ in range(ENOUGH):
        trainer.rises.note((32, "sinkhorn"), verdict_of(1e-6))
    step = next(batches)
    trainer.train_step(*step)
    (line,) = (trainer.folder.root / "rises.jsonl").read_text().splitlines()
    assert json.loads(line)["keys"] == step[0][0].keys and len(step[0][0].keys) == 8
    shown = capsys.readouterr().err
    assert "Sudden rise at 0.008 kimg: gradient norm" in shown and step[0][0].keys[0] in shown


def test_long_lasting_sameness_raises_an_alarm(trainer, capsys):
    monitor = trainer.make_monitor()
    monitor.cur_nimg = 1000
    assert not monitor.watch_spread(0.1)
    monitor.cur_nimg += ALARM_AFTER_KIMG * 1000
    assert monitor.watch_spread(0.1)
    assert "collapsing to one face" in capsys.readouterr().err
    assert not monitor.watch_spread(0.9)
