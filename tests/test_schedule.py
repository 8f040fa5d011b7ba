"""The clock: stages, fade-in, batches, learning rate and averaging are functions of `cur_nimg` alone."""

import pytest
import torch

from dinogen.config import (
    BatchesConfig,
    FrechetConfig,
    GeneratorConfig,
    HeadsConfig,
    MachineConfig,
    ObjectiveConfig,
    OptimizerConfig,
    RunConfig,
    ScheduleConfig,
    WarmupConfig,
)
from dinogen.errors import UsageError
from dinogen.objectives import Surroundings, make_loss
from dinogen.pyramid import PyramidSpec, StagedSpec
from dinogen.schedule import (
    Stage,
    all_batch_sizes,
    batch_sizes_at,
    ema_beta,
    learning_rate_at,
    stage_at,
    stage_starts,
)


def make_config(**blocks: object) -> RunConfig:
    return RunConfig("data", "output", **blocks)


def growing(img_resolution: int = 256, **schedule: object) -> RunConfig:
    generator = GeneratorConfig(img_resolution=img_resolution)
    return make_config(generator=generator, schedule=ScheduleConfig(**schedule))


GROWTH = growing(start_resolution=4, stage_kimg=20, fade_kimg=10)


def test_stages_double_and_each_fades_in_but_the_first():
    assert stage_at(0, GROWTH) == Stage(4, 1.0)
    assert stage_at(19_999, GROWTH) == Stage(4, 1.0)
    assert stage_at(20_000, GROWTH) == Stage(8, 0.0)
    assert stage_at(25_000, GROWTH) == Stage(8, 0.5)
    assert stage_at(30_000, GROWTH) == Stage(8, 1.0)


def test_every_resolution_has_its_stage_and_the_last_one_stays():
    reached = [stage_at(kimg * 1000, GROWTH).resolution for kimg in range(0, 160, 20)]
    assert reached == [4, 8, 16, 32, 64, 128, 256, 256]
    assert stage_at(10**12, GROWTH) == Stage(256, 1.0)


def test_without_fading_blocks_are_seen_at_once():
    assert stage_at(20_000, growing(stage_kimg=20, fade_kimg=0)) == Stage(8, 1.0)


def test_starting_at_the_last_resolution_means_no_growth():
    assert stage_at(0, growing(32, start_resolution=32)) == Stage(32, 1.0)


def test_batches_shrink_from_a_resolution_on_and_reals_in_proportion():
    config = make_config(batches=BatchesConfig(generated=64, real=192, generated_at={128: 16}))
    assert batch_sizes_at(0, 64, config) == (64, 192)
    assert batch_sizes_at(0, 128, config) == batch_sizes_at(0, 256, config) == (16, 48)


def test_batches_grow_while_the_learning_rate_falls():
    config = make_config(
        batches=BatchesConfig(generated=32, real=128, generated_at={128: 16}, decay_growth=3),
        optimizer=OptimizerConfig(decay_kimg=4),
        schedule=ScheduleConfig(total_kimg=10),
    )
    assert batch_sizes_at(5_999, 64, config) == (32, 128) and batch_sizes_at(5_999, 128, config) == (16, 64)
    assert batch_sizes_at(6_000, 64, config) == (96, 384) and batch_sizes_at(6_000, 128, config) == (48, 192)
    assert all_batch_sizes(config) == {(32, 128), (16, 64), (96, 384), (48, 192)}
    assert {learning_rate_at(nimg, config) for nimg in (5_500, 6_000)} == {config.optimizer.learning_rate}
    assert learning_rate_at(6_001, config) < config.optimizer.learning_rate


def test_learning_rate_ramps_up_stays_and_decays_to_zero():
    optimizer = OptimizerConfig(learning_rate=1.0, rampup_kimg=10, decay_kimg=20)
    config = make_config(optimizer=optimizer, schedule=ScheduleConfig(total_kimg=100))
    assert learning_rate_at(4_999, config) == pytest.approx(0.5)
    assert learning_rate_at(50_000, config) == 1.0
    assert learning_rate_at(90_000, config) == pytest.approx(0.5)
    assert learning_rate_at(100_000, config) == 0.0


def test_averaging_halves_over_ema_kimg_and_over_less_early_on():
    assert ema_beta(10**6, 6000, ema_kimg=6) == pytest.approx(0.5)
    assert ema_beta(20_000, 1000, ema_kimg=6) == pytest.approx(0.5)


def names(cur_nimg: int, resolution: int = 32, **blocks: object) -> str:
    spec = PyramidSpec("t", "0", input_size=8, patch_size=4, width=8, layers=(1,), levels=(1, 2), fine_layers=())
    surroundings = Surroundings(StagedSpec({32: spec}), lambda images: {}, torch.device("cpu"), seed=0)
    return make_loss(make_config(**blocks), surroundings).names(cur_nimg, resolution)


def test_the_warm_up_comes_before_every_other_term():
    warmup = WarmupConfig({16: 1, 32: 4})
    assert [names(nimg, warmup=warmup) for nimg in (0, 4_999, 5_000)] == ["octaves", "octaves", "sinkhorn"]
    assert names(0) == "sinkhorn" and names(0, objective=ObjectiveConfig(name="paired")) == "paired"
    banded = ObjectiveConfig(name="kernel", bands=4, bands_from_kimg=10)
    found = [names(nimg, objective=banded, warmup=warmup) for nimg in (0, 5_000, 9_999, 10_000)]
    assert found == ["octaves", "kernel", "kernel", "kernel in 4 bands"]
    beside = {"heads": HeadsConfig(), "frechet": FrechetConfig()}
    found = [names(nimg, warmup=warmup, **beside) for nimg in (0, 5_000)]
    assert found == ["octaves", "sinkhorn + heads + frechet"]


def test_the_warm_up_has_stages_batches_and_a_learning_rate_of_its_own():
    config = make_config(
        generator=GeneratorConfig(img_resolution=64),
        warmup=WarmupConfig({32: 2, 64: 3}, batch=16, learning_rate=1.0),
        schedule=ScheduleConfig(total_kimg=100, start_resolution=32, stage_kimg=10, fade_kimg=4),
        optimizer=OptimizerConfig(learning_rate=0.5, rampup_kimg=2),
    )
    assert stage_starts(config) == [(32, 0), (64, 2_000), (32, 5_000), (64, 15_000)]
    found = [stage_at(nimg, config) for nimg in (0, 2_000, 5_000, 15_000, 17_000)]
    assert found == [Stage(32, 1.0), Stage(64, 1.0), Stage(32, 1.0), Stage(64, 0.0), Stage(64, 0.5)]
    assert [batch_sizes_at(nimg, 32, config) for nimg in (4_999, 5_000)] == [(16, 16), (64, 192)]
    assert all_batch_sizes(config) == {(16, 16), (64, 192)}
    assert [learning_rate_at(nimg, config) for nimg in (0, 3_999, 4_500, 5_999, 9_000)] == [
        1.0, 1.0, pytest.approx(0.5), pytest.approx(0.25), 0.5
    ]  # fmt: skip


def test_stages_may_have_lengths_and_learning_rates_of_their_own():
    config = make_config(
        generator=GeneratorConfig(img_resolution=32),
        schedule=ScheduleConfig(start_resolution=4, stage_kimg=10, stage_kimg_at={8: 30}, fade_kimg=5),
        optimizer=OptimizerConfig(learning_rate=1.0, learning_rate_at={16: 0.5}, rampup_kimg=0),
    )
    assert stage_starts(config) == [(4, 0), (8, 10_000), (16, 40_000), (32, 50_000)]
    assert [learning_rate_at(nimg, config) for nimg in (39_999, 40_000, 60_000)] == [1.0, 0.5, 0.5]


def test_blocks_that_are_given_add_terms_from_their_beginning_on():
    blocks = {"heads": HeadsConfig(from_kimg=1, from_resolution=32), "frechet": FrechetConfig(from_kimg=2)}
    found = [names(nimg, **blocks) for nimg in (0, 1_000, 2_000)]
    assert found == ["sinkhorn", "sinkhorn + heads", "sinkhorn + heads + frechet"]
    assert names(2_000, resolution=16, **blocks) == "sinkhorn + frechet"


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
        (lambda: OptimizerConfig(decay_kimg=-1), "optimizer.decay_kimg -1 must not be below zero"),
        (
            lambda: make_config(batches=BatchesConfig(decay_growth=2)),
            "batches.decay_growth 2 serves optimizer.decay_kimg only",
        ),
        (lambda: BatchesConfig(generated=0), "batches.generated 0 must be above zero"),
        (
            lambda: make_config(warmup=WarmupConfig({32: 0})),
            "warmup.stage_kimg {32: 0} must name stages",
        ),
        (lambda: make_config(warmup=WarmupConfig({32: 1, 16: 1})), "from coarse to fine"),
        (lambda: make_config(warmup=WarmupConfig({64: 1})), "64 must be a power of two from 4 to .*img_resolution 32"),
        (lambda: ScheduleConfig(stage_kimg_at={64: 1}), "schedule.fade_kimg 10.0 must lie between 0 and .*, 1 kimg"),
        (lambda: make_config(heads=HeadsConfig(weight=0)), "heads.weight 0 must be above zero"),
        (lambda: MachineConfig(max_minutes=-1), "machine.max_minutes -1"),
        (lambda: ObjectiveConfig(temperatures=[0.0]), "objective.temperatures"),
        (lambda: RunConfig("a", "b", schedule=ScheduleConfig(start_resolution=64)), "schedule.start_resolution 64"),
    ],
)
def test_impossible_values_are_refused_by_name(make, named):
    with pytest.raises(UsageError, match=named):
        make()
