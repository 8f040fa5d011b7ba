"""The clock: stages, fade-in, batches, learning rate and averaging are functions of `cur_nimg` alone."""

import pytest

from dinogen.config import GeneratorConfig, ObjectiveConfig, RunConfig, ScheduleConfig, TrainConfig
from dinogen.errors import UsageError
from dinogen.schedule import (
    Stage,
    batch_sizes_at,
    ema_beta,
    learning_rate_at,
    objective_at,
    stage_at,
    uses_stored_pyramids,
)

GROWTH = ScheduleConfig(start_resolution=4, stage_kimg=20, fade_kimg=10)


def test_stages_double_and_each_fades_in_but_the_first():
    assert stage_at(0, GROWTH, 256) == Stage(4, 1.0)
    assert stage_at(19_999, GROWTH, 256) == Stage(4, 1.0)
    assert stage_at(20_000, GROWTH, 256) == Stage(8, 0.0)
    assert stage_at(25_000, GROWTH, 256) == Stage(8, 0.5)
    assert stage_at(30_000, GROWTH, 256) == Stage(8, 1.0)


def test_every_resolution_has_its_stage_and_the_last_one_stays():
    reached = [stage_at(kimg * 1000, GROWTH, 256).resolution for kimg in range(0, 160, 20)]
    assert reached == [4, 8, 16, 32, 64, 128, 256, 256]
    assert stage_at(10**12, GROWTH, 256) == Stage(256, 1.0)


def test_without_fading_blocks_are_seen_at_once():
    assert stage_at(20_000, ScheduleConfig(stage_kimg=20, fade_kimg=0), 256) == Stage(8, 1.0)


def test_starting_at_the_last_resolution_means_no_growth():
    assert stage_at(0, ScheduleConfig(start_resolution=32), 32) == Stage(32, 1.0)


def test_batches_shrink_from_a_resolution_on_and_reals_in_proportion():
    train = TrainConfig(batch_size=64, real_batch_size=192, batch_size_at={128: 16})
    assert batch_sizes_at(0, 64, train) == (64, 192)
    assert batch_sizes_at(0, 128, train) == batch_sizes_at(0, 256, train) == (16, 48)


def test_batches_grow_while_the_learning_rate_falls():
    train = TrainConfig(
        batch_size=32, real_batch_size=128, batch_size_at={128: 16}, total_kimg=10, decay_kimg=4, decay_batch_growth=3
    )
    assert batch_sizes_at(5_999, 64, train) == (32, 128) and batch_sizes_at(5_999, 128, train) == (16, 64)
    assert batch_sizes_at(6_000, 64, train) == (96, 384) and batch_sizes_at(6_000, 128, train) == (48, 192)
    assert {learning_rate_at(nimg, train) for nimg in (5_500, 6_000)} == {train.learning_rate}
    assert learning_rate_at(6_001, train) < train.learning_rate


def test_learning_rate_ramps_up_stays_and_decays_to_zero():
    train = TrainConfig(learning_rate=1.0, rampup_kimg=10, decay_kimg=20, total_kimg=100)
    assert learning_rate_at(4_999, train) == pytest.approx(0.5)
    assert learning_rate_at(50_000, train) == 1.0
    assert learning_rate_at(90_000, train) == pytest.approx(0.5)
    assert learning_rate_at(100_000, train) == 0.0


def test_averaging_halves_over_ema_kimg_and_over_less_early_on():
    train = TrainConfig(ema_kimg=6)
    assert ema_beta(10**6, 6000, train) == pytest.approx(0.5)
    assert ema_beta(20_000, 1000, train) == pytest.approx(0.5)


def test_stored_pyramids_serve_from_the_teachers_input_size_up_unless_told_otherwise():
    assert not uses_stored_pyramids(16, 32, TrainConfig())
    assert uses_stored_pyramids(32, 32, TrainConfig())
    assert uses_stored_pyramids(64, 224, TrainConfig(stored_pyramids_from=64))


def test_the_warm_up_regresses_to_pairs_and_then_the_drift_takes_over():
    objective = ObjectiveConfig(warmup_kimg=20)
    assert [objective_at(nimg, objective) for nimg in (0, 19_999, 20_000)] == ["paired", "paired", "sinkhorn"]
    assert objective_at(0, ObjectiveConfig()) == "sinkhorn"
    banded = ObjectiveConfig(name="kernel", bands=4, bands_from_kimg=10, warmup_kimg=5)
    assert [objective_at(nimg, banded) for nimg in (0, 5_000, 9_999, 10_000)] == [
        "paired",
        "kernel",
        "kernel",
        "banded",
    ]


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: GeneratorConfig(img_resolution=48), "img_resolution 48 is not a power of two.*take 32 or 64"),
        (lambda: GeneratorConfig(img_resolution=2), "img_resolution 2"),
        (lambda: ScheduleConfig(stage_kimg=5, fade_kimg=6), "schedule.fade_kimg 6"),
        (
            lambda: ObjectiveConfig(name="paired", bands=2),
            "objective.bands 2 serves objective.name sinkhorn and kernel",
        ),
        (lambda: ObjectiveConfig(bands=0), "objective.bands 0 must be above zero"),
        (lambda: TrainConfig(decay_kimg=-1), "train.decay_kimg -1 must not be below zero"),
        (lambda: TrainConfig(decay_batch_growth=2), "train.decay_batch_growth 2 serves train.decay_kimg only"),
        (lambda: TrainConfig(batch_size=0), "train.batch_size 0 must be above zero"),
        (lambda: TrainConfig(max_minutes=-1), "train.max_minutes -1"),
        (lambda: ObjectiveConfig(temperatures=[0.0]), "objective.temperatures"),
        (lambda: RunConfig("a", "b", schedule=ScheduleConfig(start_resolution=64)), "schedule.start_resolution 64"),
    ],
)
def test_impossible_values_are_refused_by_name(make, named):
    with pytest.raises(UsageError, match=named):
        make()
