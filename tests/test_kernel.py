"""The kernel drift: against a slow float64 reference, its symmetries, and a toy where it must keep both modes."""

import math

import pytest
import torch
from torch import Tensor

from dinogen.objectives.kernel import KernelDrift, doubly_normalised
from dinogen.objectives.sinkhorn import Transport
from helpers.toys import flow, problems, share_at_modes

# ---- a reference written from the formulas, one sample at a time


def reference_field(h: Tensor, p: Tensor, unit: float) -> Tensor:
    """V of every h `[N, C]` among p and the other h; `unit` is τ times the mean distance."""
    targets = [*p, *h]
    kernel = [
        [0.0 if column == len(p) + row else math.exp(-float((x - y).norm()) / unit) for column, y in enumerate(targets)]
        for row, x in enumerate(h)
    ]
    of_columns = [sum(row[column] for row in kernel) for column in range(len(targets))]
    field = []
    for row in kernel:
        affinity = [math.sqrt(k / sum(row) * k / total) for k, total in zip(row, of_columns)]
        near, far = affinity[: len(p)], affinity[len(p) :]
        field.append(sum(a * b * (y - z) for a, y in zip(near, p) for b, z in zip(far, h)))
    return torch.stack(field)


@pytest.mark.parametrize("temperatures", [(0.3,), (0.2, 1.0)])
def test_drift_equals_the_reference(temperatures):
    rng = torch.Generator().manual_seed(1)
    h = torch.randn(4, 6, 3, generator=rng, dtype=torch.float64)
    p = torch.randn(4, 9, 3, generator=rng, dtype=torch.float64) * 1.5 + 0.3
    expected, norms = torch.zeros_like(h), torch.zeros(2).double()
    for m in range(2):
        here = slice(2 * m, 2 * m + 2)
        to_p, to_h = torch.cdist(h[here], p[here]), torch.cdist(h[here], h[here])
        others = (~torch.eye(6, dtype=torch.bool)).expand_as(to_h)
        mean = (to_p.mean() + to_h[others].mean()) / 2
        for tau in temperatures:
            of_locations = range(2 * m, 2 * m + 2)
            field = [reference_field(h[at], p[at], float(tau * mean)) for at in of_locations]
            rms = torch.stack(field).square().mean().sqrt()
            expected[here] += torch.stack(field) / rms
            norms[m] += rms * math.sqrt(3) / mean / len(temperatures)
    found = KernelDrift(temperatures).drift(problems(h.float(), 2), problems(p.float(), 2))
    torch.testing.assert_close(found.displacement.double(), expected, rtol=2e-4, atol=2e-4)
    torch.testing.assert_close(found.norms.double(), norms, rtol=2e-4, atol=2e-4)


def test_double_normalisation_is_the_geometric_mean_of_rows_and_columns():
    logits = torch.randn(2, 4, 5)
    logits[0, 1, 2] = -math.inf
    found = doubly_normalised(logits)
    torch.testing.assert_close(found, (logits.softmax(2) * logits.softmax(1)).sqrt())
    assert found[0, 1, 2] == 0


# ---- symmetry


def test_swapping_the_roles_of_real_and_generated_negates_the_drift():
    h, p, q = (torch.randn(3, 20, 4) * scale for scale in (1, 2, 1))
    to_p, to_q, scale = Transport.between(h, p), Transport.between(h, q), torch.ones(3)
    there = KernelDrift().displacement(to_p, to_q, scale, temperature=0.2)
    torch.testing.assert_close(there, -KernelDrift().displacement(to_q, to_p, scale, temperature=0.2))


def test_same_distributions_move_far_less_than_different_ones():
    h, p = (torch.randn(1, 400, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(2))
    same, different = (KernelDrift((0.5,)).drift(problems(h), problems(p + x))[2] for x in (0, 2))
    assert same < 0.1 * different


def test_the_features_scale_does_not_matter():
    h, p = torch.randn(4, 16, 8), torch.randn(4, 32, 8)
    ours, scaled = (KernelDrift().drift(problems(h * x), problems(p * x)) for x in (1, 1000))
    torch.testing.assert_close(ours[0], scaled[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(ours[2], scaled[2], rtol=1e-3, atol=1e-3)


def test_constant_features_give_a_finite_loss():
    pyramid = {"cls": torch.ones(8, 4, requires_grad=True)}
    result = KernelDrift()(pyramid, {"cls": torch.ones(8, 4)})
    result.loss.backward()
    assert result.loss.isfinite() and pyramid["cls"].grad.isfinite().all()


# ---- the toy


def test_points_flow_onto_two_modes_and_keep_both():
    left, right = share_at_modes(flow("kernel", steps=200))
    assert left > 0.4 and right > 0.4
