"""The Fréchet loss: its gradient against the distance's own in float64, its memory, and a toy."""

import pytest
import torch
from torch import Tensor

from dinogen.config import FrechetConfig
from dinogen.objectives.frechet import RIDGE, FrechetLoss, Moments
from dinogen.pyramid import PyramidSpec, StagedSpec

SPEC = PyramidSpec("t", "0", input_size=8, patch_size=4, width=6, layers=(1,), levels=(1, 2), fine_layers=())
SPECS = StagedSpec({8: SPEC})


def make_loss(memory: float = 10_000) -> FrechetLoss:
    return FrechetLoss(FrechetConfig(), SPECS, torch.device("cpu"), memory)


def correlated(count: int, width: int = 6, seed: int = 0, shift: float = 0.0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=torch.Generator().manual_seed(7)) / width**0.5 + torch.eye(width)
    return torch.randn(count, width, generator=rng) @ mixing + shift


# ---- a reference: the distance's formula in float64, differentiated by autograd


def reference_distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared Fréchet distance of two sets' moments, with the loss's ridge."""
    identity = torch.eye(a.shape[1], dtype=a.dtype)

    def covariance(x: Tensor) -> Tensor:
        sigma = (x - x.mean(0)).T @ (x - x.mean(0)) / len(x)
        return sigma + RIDGE * sigma.detach().trace() / len(sigma) * identity

    values = torch.linalg.eigvals(covariance(a) @ covariance(b)).real.clamp(min=0)
    gap = (a.mean(0) - b.mean(0)).square().sum()
    return gap + covariance(a).trace() + covariance(b).trace() - 2 * values.sqrt().sum()


def test_value_and_gradient_are_those_of_the_distance():
    a, b = correlated(40, seed=1) * 1.5 + 0.3, correlated(60, seed=2)
    reference = a.double().requires_grad_(True)
    distance = reference_distance(reference, b.double())
    distance.backward()
    ours = a.clone().requires_grad_(True)
    result = make_loss().compare({"cls": ours}, {"cls": b})
    result.loss.backward()
    unit = float(torch.cov(b.T, correction=0).trace())
    found = result.statistics["frechet/cls"].double() * unit
    torch.testing.assert_close(found, distance.detach(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(ours.grad.double() * unit, reference.grad, rtol=2e-3, atol=1e-5)


# ---- symmetry and zeros


def test_equal_distributions_leave_next_to_nothing():
    def value(other: Tensor) -> Tensor:
        return make_loss().compare({"cls": correlated(2000, seed=1)}, {"cls": other}).statistics["frechet/cls"]

    assert value(correlated(2000, seed=2)) < 0.01
    assert value(correlated(2000, seed=2, shift=1)) > 0.3
    assert value(correlated(2000, seed=2) * 2) > 0.1


def test_only_features_of_whole_images_take_part():
    loss = make_loss()
    pyramid = {"cls": torch.randn(8, 4), "l1_1x1": torch.randn(8, 4, 1, 1), "l1_2x2": torch.randn(8, 4, 2, 2)}
    assert loss.compare(pyramid, pyramid).statistics.keys() == {"frechet/cls", "frechet/l1_1x1"}


@pytest.mark.parametrize("real", [torch.ones(8, 4), torch.arange(8.0)[:, None].expand(8, 4)], ids=["constant", "line"])
def test_degenerate_features_give_a_finite_loss(real):
    generated = torch.ones(8, 4, requires_grad=True)
    result = make_loss().compare({"cls": generated}, {"cls": real})
    result.loss.backward()
    assert result.loss.isfinite() and generated.grad.isfinite().all()


# ---- memory


def test_moments_are_those_of_all_images_with_fading_weights():
    batches = [correlated(n, seed=n, shift=n / 20).double() for n in (10, 30, 20)]
    moments = Moments.of(batches[0])
    for batch in batches[1:]:
        moments = moments.joined(Moments.of(batch), half_life=40)
    later = [50, 20, 0]  # images that came after each batch
    weights = torch.cat([torch.full((len(b),), 0.5 ** (x / 40), dtype=torch.float64) for b, x in zip(batches, later)])
    rows = torch.cat(batches)
    mean = (weights[:, None] * rows).sum(0) / weights.sum()
    centred = rows - mean
    torch.testing.assert_close(moments.mean, mean)
    torch.testing.assert_close(moments.covariance, (weights[:, None] * centred).T @ centred / weights.sum())
    assert moments.weight == pytest.approx(weights.sum().item())


def test_what_is_remembered_survives_a_checkpoint():
    first, second = make_loss(1000), make_loss(1000)
    for seed in range(3):
        first.compare({"cls": correlated(16, seed=seed)}, {"cls": correlated(16, seed=9 + seed)})
        first.settle(keep=True)
    second.restore(first.tensors())
    batch = {"cls": correlated(16, seed=5)}, {"cls": correlated(16, seed=6)}
    assert torch.equal(first.compare(*batch).loss, second.compare(*batch).loss)


def test_a_skipped_step_is_forgotten():
    loss, twin = make_loss(1000), make_loss(1000)
    for one in (loss, twin):
        one.compare({"cls": correlated(16, seed=1)}, {"cls": correlated(16, seed=2)})
        one.settle(keep=True)
    broken = correlated(16, seed=4)
    broken[3, 2] = float("nan")
    assert loss.compare({"cls": broken}, {"cls": correlated(16, seed=3)}).loss.isnan(), "which is why it is skipped"
    loss.settle(keep=False)
    batch = {"cls": correlated(16, seed=5)}, {"cls": correlated(16, seed=6)}
    assert torch.equal(loss.compare(*batch).loss, twin.compare(*batch).loss)


# ---- the toy: a small batch must find the shape of a distribution that it cannot show at one time


def test_points_take_the_mean_and_the_covariance_of_the_reals():
    rng = torch.Generator().manual_seed(0)
    mixing = torch.tensor([[2.0, 0.0], [1.5, 0.3]])
    affine = torch.nn.utils.skip_init(torch.nn.Linear, 2, 2)
    affine.load_state_dict({"weight": 0.5 * torch.eye(2), "bias": torch.zeros(2)})
    loss, optimizer = make_loss(memory=500), torch.optim.Adam(affine.parameters(), lr=0.02)
    for step in range(500):
        optimizer.param_groups[0]["lr"] = 0.02 if step < 350 else 0.002  # the memory's delay makes it swing
        real = torch.randn(16, 2, generator=rng) @ mixing + torch.tensor([1.0, -2.0])
        optimizer.zero_grad()
        loss.compare({"cls": affine(torch.randn(16, 2, generator=rng))}, {"cls": real}).loss.backward()
        optimizer.step()
        loss.settle(keep=True)
    covariance = affine.weight.detach() @ affine.weight.detach().T
    torch.testing.assert_close(affine.bias.detach(), torch.tensor([1.0, -2.0]), rtol=0, atol=0.25)
    torch.testing.assert_close(covariance, mixing.T @ mixing, rtol=0.2, atol=0.2)
