"""What goes wrong inside a step, and what the trainer makes of it."""

from pathlib import Path

import pytest
import torch

from dinogen.errors import DinogenError
from dinogen.train.monitor import ALARM_AFTER_KIMG, Monitor
from dinogen.train.trainer import Trainer
from launch.train import build_parser, make_config

SMALL = [
    "--generator.channel_base=128", "--generator.channel_max=16", "--generator.z_dim=16", "--generator.w_dim=16",
    "--train.batch_size=4", "--train.real_batch_size=8", "--schedule.start_resolution=32", "--train.max_bad_steps=3",
]  # fmt: skip


@pytest.fixture
def trainer(shards32: Path, tmp_path: Path) -> Trainer:
    parser = build_parser()
    arguments = ["--data", str(shards32), "--output", str(tmp_path / "run"), *SMALL]
    return Trainer(make_config(parser, parser.parse_args(arguments)))


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
    assert "rank 0: " in capsys.readouterr().out

    handle.remove()
    assert trainer.train_step(*next(batches))["gradient_norm"] > 0
    assert trainer.bad_steps.in_a_row == 0
    assert not all(torch.equal(a, b) for a, b in zip(before, weights(trainer)))


def test_too_many_in_a_row_end_the_run_and_name_what_was_not_finite(trainer):
    poison(trainer)
    batches = trainer.one_stage()
    for _ in range(2):
        trainer.train_step(*next(batches))
    with pytest.raises(DinogenError, match="3 steps in a row were not finite .first on rank 0: the generated images"):
        trainer.train_step(*next(batches))


def test_long_lasting_sameness_raises_an_alarm(trainer, capsys):
    with Monitor(trainer) as monitor:
        trainer.cur_nimg = 1000
        assert monitor.watch_diversity({"spread/cls": 0.1}) == {"diversity/alarm": 0.0}
        trainer.cur_nimg += ALARM_AFTER_KIMG * 1000
        assert monitor.watch_diversity({"spread/cls": 0.1}) == {"diversity/alarm": 1.0}
        assert "collapsing to one face" in capsys.readouterr().err
        assert monitor.watch_diversity({"spread/cls": 0.9}) == {"diversity/alarm": 0.0}
