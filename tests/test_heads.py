"""Discriminator heads on the teacher's tokens: augmentation, penalty, who learns from what, and the run around them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from dinogen.config import HeadsConfig
from dinogen.objectives import Surroundings
from dinogen.objectives.augment import DRAWS, augment
from dinogen.objectives.head_network import Heads, gradient_penalty, heads_loss
from dinogen.objectives.heads import HeadsTerm
from dinogen.pyramid import PyramidSpec, StagedSpec
from dinogen.teachers import make_teacher
from helpers.equal_heads import train_heads
from helpers.training import complaint, flags, newest
from launch.train import main

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def teacher():
    return make_teacher("tiny")


def small_spec(width: int = 6, grid: int = 4) -> StagedSpec:
    spec = PyramidSpec("t", "0", input_size=4 * grid, patch_size=4, width=width, layers=(1, 2), levels=(1, grid),
                       fine_layers=())  # fmt: skip
    return StagedSpec({32: spec})


def make_term(config: HeadsConfig | None = None, spec: StagedSpec | None = None, look=None, **options) -> HeadsTerm:
    config = config or HeadsConfig(weight=1)
    return HeadsTerm(config, Surroundings(spec or look.specs, look, torch.device("cpu"), seed=0), **options)


# ---- augmentation


def neutral(**changes: float) -> Tensor:
    """Draws that change nothing but for the hole, for one image."""
    draws = {"brightness": 0.5, "saturation": 0.5, "contrast": 0.5, "up": 0.5, "left": 0.5, "row": 0.5, "column": 0.5}
    return torch.tensor([list((draws | changes).values())])


def outside_the_hole(images: Tensor) -> Tensor:
    """Rows and columns that a hole in the middle leaves alone."""
    side = images.shape[-1]
    kept = [*range(side // 4), *range(side - side // 4, side)]
    return images[..., kept, :][..., kept]


def test_neutral_draws_only_cut_a_hole_of_half_the_side():
    images = torch.rand(1, 3, 16, 16) + 0.5
    found = augment(images, neutral())
    torch.testing.assert_close(outside_the_hole(found), outside_the_hole(images))
    assert (found[0, :, 4:12, 4:12] == 0).all() and (found == 0).sum() == 3 * 64


def test_images_are_shifted_by_whole_pixels_and_what_comes_in_is_empty():
    images = torch.rand(1, 3, 16, 16) + 0.5
    found = augment(images, neutral(up=0.999, left=0.0, row=0.0, column=0.0))
    expected = torch.zeros_like(images)
    expected[..., :-2, 2:] = images[..., 2:, :-2]
    expected[..., :4, :4] = 0  # the hole, a quarter of which is inside
    torch.testing.assert_close(found, expected)


def test_colours_change_as_their_draws_say():
    images = torch.rand(1, 3, 16, 16)
    whole = images + torch.zeros(1)
    brighter = outside_the_hole(augment(whole, neutral(brightness=0.75)))
    torch.testing.assert_close(brighter, outside_the_hole(images) + 0.25)
    grey = outside_the_hole(augment(whole, neutral(saturation=0.0)))
    torch.testing.assert_close(grey, outside_the_hole(images.mean(1, keepdim=True)).expand_as(grey))
    flat = outside_the_hole(augment(whole, neutral(contrast=0.0)))
    torch.testing.assert_close(flat, outside_the_hole(images.mean() + (images - images.mean()) / 2))


def test_every_image_is_changed_by_its_own_draws_and_passes_its_gradient():
    images = torch.rand(6, 3, 16, 16, requires_grad=True)
    draws = torch.rand(6, DRAWS)
    together = augment(images, draws)
    alone = torch.cat([augment(image[None], draw[None]) for image, draw in zip(images, draws)])
    torch.testing.assert_close(together, alone)
    together.sum().backward()
    assert (images.grad.flatten(1).abs().sum(1) > 0).all()


# ---- the penalty and the heads


def test_the_penalty_is_the_squared_length_of_the_gradient_by_finite_differences():
    torch.manual_seed(0)
    spec = small_spec()
    heads = Heads(spec, channels=8).double()
    real = {name: torch.randn(2, 6, 4, 4, dtype=torch.float64) for name in heads.heads}
    squares = []
    for name in heads.heads:
        slopes = torch.zeros(real[name].numel(), dtype=torch.float64)
        for index in range(len(slopes)):
            nudge = torch.zeros_like(slopes)
            nudge[index] = 1e-5
            there, back = (heads.heads[name](real[name] + sign * nudge.view_as(real[name])).sum() for sign in (1, -1))
            slopes[index] = (there - back).detach() / 2e-5
        squares.append(slopes.view_as(real[name]).square().sum(dim=1).mean())
    expected = heads.width * torch.stack(squares).mean()
    torch.testing.assert_close(gradient_penalty(heads, real), expected, rtol=1e-5, atol=1e-8)


def test_heads_look_at_the_finest_map_of_every_layer():
    assert [*Heads(make_teacher("tiny", [64]).specs, 8).heads] == ["l1_8x8", "l2_8x8", "l3_16x16"]
    teacher = make_teacher("tiny", [32, 64])
    heads = Heads(teacher.specs, 8)
    for size, finest in ((32, "l3_8x8"), (64, "l3_16x16")):
        assert [*heads.tokens_of(teacher(torch.zeros(1, 3, size, size)))] == ["l1_8x8", "l2_8x8", finest]


def test_heads_learn_to_separate_two_distributions_and_not_one_from_itself():
    def learn(shift: float) -> tuple[float, float]:
        torch.manual_seed(0)
        spec = small_spec()
        term = make_term(spec=spec, learning_rate=3e-3, r1_gamma=0.1)

        def draw(shift: float) -> dict[str, Tensor]:
            return {name: torch.randn(32, 6, 4, 4) + shift for name in term.heads.heads}

        for _ in range(60):
            term.learn(draw(0.0), draw(shift))
        real, generated = draw(0.0), draw(shift)
        right = [logits.mean(1) > 0 for logits in term.heads(real)]
        right += [logits.mean(1) < 0 for logits in term.heads(generated)]
        return torch.cat(right).float().mean().item(), heads_loss(term.heads, real, generated).item()

    accuracy, loss = learn(shift=0.7)
    assert accuracy > 0.95 and loss < 0.8
    _, no_difference = learn(shift=0.0)
    assert no_difference > 1.2, "near 2 ln 2, what guessing costs"


# ---- who learns from what


def test_the_generators_gradient_reaches_its_images_and_neither_the_teacher_nor_the_heads(teacher):
    term = make_term(look=teacher)
    before = [parameter.detach().clone() for parameter in term.heads.parameters()]
    images = (torch.rand(4, 3, 32, 32) * 2 - 1).requires_grad_(True)
    result = term.judge(images, torch.rand(4, 3, 32, 32))
    changed = [not torch.equal(a, b) for a, b in zip(before, term.heads.parameters())]
    assert all(changed), "the heads took a step"
    assert images.grad is None, "which sent nothing to the images"
    of_heads = [parameter.grad.clone() for parameter in term.heads.parameters()]
    result.loss.backward()
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(a, p.grad) for a, p in zip(of_heads, term.heads.parameters()))
    assert result.statistics.keys() == {"heads/heads", "heads/r1", "heads/generator"}


def test_fooling_the_heads_makes_images_seem_real(teacher):
    """Images that descend the generator's loss against fixed heads raise the heads' logits."""
    term = make_term(look=teacher)
    rng = torch.Generator().manual_seed(3)
    images = torch.rand(8, 3, 32, 32, generator=rng).requires_grad_(True)
    for _ in range(20):
        term.judge(images, -torch.rand(8, 3, 32, 32, generator=rng))
    tokens = term.heads.tokens_of
    before = torch.cat(term.heads(tokens(teacher(images))), dim=1).mean()
    result = term.judge(images, -torch.rand(8, 3, 32, 32, generator=rng))
    result.loss.backward()
    moved = images - 2 * images.grad / images.grad.abs().max()
    assert torch.cat(term.heads(tokens(teacher(moved))), dim=1).mean() > before


def test_making_heads_leaves_the_runs_random_numbers_alone(teacher):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    make_term(look=teacher)
    assert torch.equal(torch.rand(1), expected)


def test_a_gradient_that_is_not_finite_leaves_the_heads_as_they_were(teacher):
    term = make_term(look=teacher)
    before = {name: value.clone() for name, value in term.heads.state_dict().items()}
    term.judge(torch.full((2, 3, 32, 32), float("nan")), torch.rand(2, 3, 32, 32))
    assert all(torch.equal(value, term.heads.state_dict()[name]) for name, value in before.items())


def test_their_weight_rises_once_they_are_on():
    config = HeadsConfig(weight=0.5, from_kimg=10, rampup_kimg=4, from_resolution=32)
    term = make_term(config, small_spec())
    assert [term.weight_at(nimg, 32) for nimg in (0, 10_000, 12_000, 14_000, 99_000)] == [0, 0, 0.25, 0.5, 0.5]
    assert [term.is_on(*at) for at in ((9_999, 32), (10_000, 16), (10_000, 32))] == [False, False, True]


@pytest.mark.slow  # the quick tests have heads on two ranks in test_oracle.py
def test_two_ranks_learn_what_one_learns_from_the_whole_batch(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0", "--standalone"]
    done = subprocess.run(
        [*torchrun, str(ROOT / "tests" / "helpers" / "equal_heads.py"), str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    gradient = torch.cat([first.pop("gradient"), second.pop("gradient")])
    assert all(torch.equal(first[name], second[name]) for name in first)
    alone = train_heads(rank=0, world_size=1)
    torch.testing.assert_close(gradient, alone.pop("gradient"), rtol=1e-2, atol=1e-6)
    torch.testing.assert_close(first, alone, rtol=1e-3, atol=1e-4)


# ---- the run around them


LATE = ["--heads.weight=0.1", "--heads.rampup_kimg=0", "--frechet.weight=1",
        "--schedule.start_resolution=32", "--batches.generated=4", "--batches.real=8"]  # fmt: skip


def test_going_on_with_heads_and_moments_ends_where_an_undisturbed_run_ends(shards32, tmp_path):
    """Real images beside stored pyramids; stopped in the middle."""
    undisturbed, stopped = tmp_path / "undisturbed", tmp_path / "stopped"
    more = [*LATE, "--objective.name=kernel"]
    assert main(flags(shards32, undisturbed, "--schedule.total_kimg=0.048", *more)) == 0
    for end in ("0.024", "0.048"):
        assert main(flags(shards32, stopped, f"--schedule.total_kimg={end}", *more)) == 0
    ends = [newest(folder, "checkpoints/nimg*") for folder in (undisturbed, stopped)]
    for name in ("generator", "ema", "optimizer", "heads", "frechet"):
        one, other = (load_file(end / f"{name}.safetensors") for end in ends)
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one), name
    assert any(key.startswith("optimizer/") for key in load_file(ends[0] / "heads.safetensors"))


def test_a_finished_run_goes_on_with_heads(shards32, tmp_path, capsys):
    plain = LATE[3:]
    assert main(flags(shards32, tmp_path / "run", "--schedule.total_kimg=0.016", *plain)) == 0
    before = newest(tmp_path / "run", "checkpoints/nimg*")
    assert not (before / "heads.safetensors").exists()
    without, other = tmp_path / "without", tmp_path / "other"
    for copy in (without, other):
        shutil.copytree(tmp_path / "run", copy)
    assert main(flags(shards32, tmp_path / "run", "--schedule.total_kimg=0.032", *LATE)) == 0
    assert main(flags(shards32, without, "--schedule.total_kimg=0.032", *plain)) == 0
    ends = [newest(folder, "checkpoints/nimg*") for folder in (tmp_path / "run", without)]
    assert (ends[0] / "heads.safetensors").exists() and (ends[0] / "frechet.safetensors").exists()
    weights = [load_file(end / "generator.safetensors") for end in ends]
    assert not all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0]), "they were heard"


@pytest.mark.parametrize("wrong", ["--heads.weight=-1", "--heads.rampup_kimg=-1", "--frechet.weight=0"])
def test_impossible_settings_are_named(shards32, tmp_path, capsys, wrong):
    assert wrong[2:].split("=")[0] in complaint(capsys, flags(shards32, tmp_path / "run", wrong), 2)
