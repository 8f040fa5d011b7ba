"""The Sinkhorn drift: against a slow float64 reference, its symmetries, and a toy where it must keep both modes."""

import math

import pytest
import torch
from torch import Tensor

from dinogen.config import ObjectiveConfig
from dinogen.objectives.matching import make_drift
from dinogen.objectives.sinkhorn import (
    SinkhornDrift,
    Transport,
    drift_loss,
    equal_groups,
    group_by_width,
    transport_targets,
)
from helpers.toys import flow, problems, share_at_modes

# ---- a reference written from the formulas, one sample at a time


def reference_cost(h: Tensor, p: Tensor, masked: bool) -> dict[tuple[int, int], float]:
    """Squared distances of the allowed pairs of h `[N, C]` and p `[M, C]`."""
    allowed = [(i, j) for i in range(len(h)) for j in range(len(p)) if not (masked and i == j)]
    return {(i, j): float(((h[i] - p[j]) ** 2).sum()) for i, j in allowed}


def reference_epsilon(h: Tensor, p: Tensor, temperature: float, masked: bool) -> float:
    """The temperature in units of the costs' standard deviation."""
    values = torch.tensor(list(reference_cost(h, p, masked).values()), dtype=torch.float64)
    return temperature * float(values.std(unbiased=False))


def reference_targets(h: Tensor, p: Tensor, epsilon: float, iterations: int, masked: bool) -> Tensor:
    """Barycentric targets of every h `[N, C]` among p `[M, C]`, by scaling a float64 kernel matrix."""
    n, m = len(h), len(p)
    cost = reference_cost(h, p, masked)
    kernel = torch.zeros(n, m, dtype=torch.float64)
    for i in range(n):
        smallest = min(cost[i, j] for j in range(m) if (i, j) in cost)  # a row's factor changes no plan
        for j in range(m):
            if (i, j) in cost:
                kernel[i, j] = math.exp(-(cost[i, j] - smallest) / epsilon)
    smallest_of_row = torch.tensor([min(cost[i, j] for j in range(m) if (i, j) in cost) for i in range(n)]).double()
    # The iteration starts from u = 1 on the unscaled kernel; undo the rows' factor there.
    u = torch.exp((smallest_of_row.min() - smallest_of_row) / epsilon)
    for _ in range(iterations):
        v = (1 / m) / (kernel.T @ u)
        u = (1 / n) / (kernel @ v)
    plan = u[:, None] * kernel * v[None, :]
    return n * plan @ p


def reference_drift(h, p, temperatures, iterations, maps, groups, q=None):
    """V, and the scale and raw norm of each map, for lists of problems `[L, N, C]`; p in a number of groups.

    The other h push h away, or q do.
    """

    def to_real(at: int, temperature: float) -> Tensor:
        epsilon = reference_epsilon(h[at], p[at], temperature, masked=False)
        parts = [reference_targets(h[at], part, epsilon, iterations, masked=False) for part in p[at].chunk(groups)]
        return torch.stack(parts).mean(dim=0)

    def to_generated(at: int, temperature: float) -> Tensor:
        others = h if q is None else q
        epsilon = reference_epsilon(h[at], others[at], temperature, masked=q is None)
        return reference_targets(h[at], others[at], epsilon, iterations, masked=q is None)

    per_map = len(h) // maps
    drifts, scales, norms = [], [], []
    for m in range(maps):
        locations = range(m * per_map, (m + 1) * per_map)
        distances = []
        for location in locations:
            to_p = torch.cdist(h[location], p[location])
            to_others = torch.cdist(h[location], (h if q is None else q)[location])
            if q is None:
                to_others = to_others[~torch.eye(len(to_others), dtype=torch.bool)]
            distances.append((to_p.mean() + to_others.mean()) / 2)
        scale = math.sqrt(h.shape[2]) / torch.stack(distances).mean()
        total, norm = 0, 0
        for temperature in temperatures:
            moves = torch.stack([to_real(at, temperature) - to_generated(at, temperature) for at in locations])
            rms = moves.square().mean().sqrt()
            total = total + moves / rms
            norm = norm + rms * scale / len(temperatures)
        drifts.append(total)
        scales.append(scale)
        norms.append(norm)
    return torch.cat(drifts), torch.stack(scales), torch.stack(norms)


@pytest.mark.parametrize("reals, groups", [(9, 1), (12, 2), (18, 3)])
@pytest.mark.parametrize("temperatures", [(0.5,), (0.2, 1.0)])
def test_drift_equals_the_reference(temperatures, reals, groups):
    rng = torch.Generator().manual_seed(1)
    h = torch.randn(4, 6, 3, generator=rng, dtype=torch.float64)
    p = torch.randn(4, reals, 3, generator=rng, dtype=torch.float64) * 1.5 + 0.3
    expected = reference_drift(h, p, temperatures, iterations=3, maps=2, groups=groups)
    found = SinkhornDrift(temperatures, iterations=3).drift(problems(h.float(), 2), problems(p.float(), 2))
    for ours, reference in zip(found[:3], expected):
        torch.testing.assert_close(ours.double(), reference, rtol=2e-4, atol=2e-4)


def test_images_of_the_step_before_push_as_the_reference_says():
    rng = torch.Generator().manual_seed(1)
    h, q = (torch.randn(4, 6, 3, generator=rng, dtype=torch.float64) for _ in range(2))
    p = torch.randn(4, 12, 3, generator=rng, dtype=torch.float64) * 1.5 + 0.3
    expected = reference_drift(h, p, (0.5,), iterations=3, maps=2, groups=2, q=q)
    sets = [problems(x.float(), 2) for x in (h, p, q)]
    found = SinkhornDrift((0.5,), iterations=3).drift(sets[0], sets[1], q=sets[2])
    for ours, reference in zip(found[:3], expected):
        torch.testing.assert_close(ours.double(), reference, rtol=2e-4, atol=2e-4)


def test_drift_in_bands_is_the_drift_of_each_along_its_axes():
    rng = torch.Generator().manual_seed(2)
    spread = torch.tensor([3.0, 0.2, 1.0, 0.5], dtype=torch.float64)
    h = torch.randn(6, 6, 4, generator=rng, dtype=torch.float64) * spread
    p = torch.randn(6, 12, 4, generator=rng, dtype=torch.float64) * spread.flip(0)
    expected, per_map = torch.zeros_like(h), 3
    for first in (0, per_map):
        part = slice(first, first + per_map)
        centred = p[part] - p[part].mean(dim=1, keepdim=True)
        _, vectors = torch.linalg.eigh((centred.transpose(1, 2) @ centred).sum(dim=0))
        for axes in (vectors[:, 2:], vectors[:, :2]):
            along = [x[part] @ axes for x in (h, p)]
            expected[part] += reference_drift(*along, (0.2, 1.0), iterations=3, maps=1, groups=2)[0] @ axes.T
    sets = [problems(x.float(), 2) for x in (h, p)]
    found = SinkhornDrift((0.2, 1.0), iterations=3, bands=2).drift(*sets).displacement
    torch.testing.assert_close(found.double(), expected, rtol=5e-4, atol=5e-4)


def plan_of(cost: Tensor, epsilon: float, iterations: int) -> Tensor:
    """The plan itself: what it makes of unit vectors."""
    count, rows, columns = cost.shape
    units = torch.eye(columns, dtype=cost.dtype).expand(count, -1, -1)
    return transport_targets(cost, torch.full((count, 1, 1), epsilon), iterations, units)


def test_costs_beyond_any_exponential_are_solved_as_in_the_log_domain():
    # exp(-cost / epsilon) is 0 in float32 for most of these, and for whole rows and columns of them.
    cost = torch.rand(2, 6, 9) * 50
    cost[:, 2] += 1e4
    cost[:, :, 4] += 1e4
    logits, row, column = -cost.double() / 0.05, torch.zeros(2, 6, 1), torch.zeros(2, 1, 9)
    for _ in range(4):
        column = -(logits + row).logsumexp(dim=1, keepdim=True)
        row = -(logits + column).logsumexp(dim=2, keepdim=True)
    expected = (logits + row + column).exp()
    torch.testing.assert_close(plan_of(cost, 0.05, iterations=4).double(), expected, rtol=5e-3, atol=1e-4)


def test_a_long_iteration_reaches_the_marginals():
    cost = torch.rand(2, 5, 8) * 3
    plan = plan_of(cost, epsilon=0.3, iterations=300)
    torch.testing.assert_close(plan.sum(2), torch.ones(2, 5))
    torch.testing.assert_close(plan.sum(1), torch.full((2, 8), 5 / 8), rtol=1e-4, atol=1e-4)


# ---- symmetry


def raw_drift_norm(h: Tensor, p: Tensor) -> float:
    return float(SinkhornDrift((1.0,), 20).drift(problems(h), problems(p))[2])


def test_same_distributions_move_nothing_beyond_sampling_error():
    def cloud(seed: int, count: int) -> Tensor:
        return torch.randn(1, count, 8, generator=torch.Generator().manual_seed(seed))

    h, p = cloud(0, 400), cloud(1, 400)
    assert raw_drift_norm(h, p) < 0.1 * raw_drift_norm(h, p + 2)


def test_more_samples_bring_the_displacement_of_equal_distributions_nearer_to_zero():
    def norm(count: int) -> float:
        sets = [torch.randn(1, count, 2, generator=torch.Generator().manual_seed(k)) for k in range(2)]
        return raw_drift_norm(*sets)

    assert norm(1500) < 0.5 * norm(30)


def test_more_reals_than_samples_do_not_push_the_samples_apart():
    # Among more reals each sample finds nearer ones: with one plan for all 64, samples of the very same distribution
    # would be told to move outwards by 0.76 (standard error 0.04); the drift's RMS is 1.
    rng = torch.Generator().manual_seed(0)
    h, p = torch.randn(200, 16, 8, generator=rng), torch.randn(200, 64, 8, generator=rng)
    outwards = (SinkhornDrift().drift(problems(h), problems(p)).displacement * h).sum(dim=2)
    assert abs(outwards.mean()) < 0.25


@pytest.mark.parametrize(
    "count, smallest, groups", [(128, 32, 4), (192, 64, 3), (100, 32, 2), (97, 32, 1), (16, 32, 1)]
)
def test_groups_divide_evenly_and_are_no_smaller_than_asked(count, smallest, groups):
    assert equal_groups(count, smallest) == groups


def test_swapping_the_roles_of_real_and_generated_negates_the_drift():
    h, p, q = (torch.randn(3, 20, 4) * scale for scale in (1, 2, 1))
    to_p, to_q, scale = Transport.between(h, p), Transport.between(h, q), torch.ones(3)
    there = SinkhornDrift().displacement(to_p, to_q, scale, temperature=0.05)
    torch.testing.assert_close(there, -SinkhornDrift().displacement(to_q, to_p, scale, temperature=0.05))


def test_the_drift_has_unit_rms_on_every_map_whatever_the_features_scale():
    h, p = torch.randn(4, 16, 8), torch.randn(4, 32, 8)
    factor = torch.tensor([1.0, 1.0, 1000.0, 1000.0])[:, None, None]
    drift, scale, *_ = SinkhornDrift().drift(problems(h * factor, 2), problems(p * factor, 2))
    torch.testing.assert_close(drift[:2].square().mean(), torch.tensor(1.0))
    torch.testing.assert_close(drift[2:].square().mean(), torch.tensor(1.0))
    torch.testing.assert_close(
        SinkhornDrift().drift(problems(h * factor, 2), problems(p * factor, 2))[1] * torch.tensor([1.0, 1000.0]),
        SinkhornDrift().drift(problems(h, 2), problems(p, 2))[1],
    )
    assert scale[0] > 100 * scale[1]


def test_descending_the_loss_moves_features_along_the_drift():
    h = torch.randn(1, 12, 4, requires_grad=True)
    p = torch.randn(1, 30, 4) + 1
    objective = SinkhornDrift()
    drift_loss(problems(h), objective.drift(problems(h), problems(p))).sum().backward()
    drift = objective.drift(problems(h.detach()), problems(p))[0]
    cosine = torch.cosine_similarity(-h.grad.flatten(), drift.flatten(), dim=0)
    torch.testing.assert_close(cosine, torch.tensor(1.0))


def test_constant_features_give_a_finite_loss():
    pyramid = {"cls": torch.ones(8, 4, requires_grad=True), "l1_2x2": torch.zeros(8, 4, 2, 2, requires_grad=True)}
    real = {name: torch.ones_like(level.detach()) for name, level in pyramid.items()}
    result = SinkhornDrift()(pyramid, real)
    result.loss.backward()
    assert result.loss.isfinite() and all(level.grad.isfinite().all() for level in pyramid.values())


def test_maps_count_equally_whatever_their_size_and_width():
    pyramid = {"cls": torch.randn(6, 8), "l1_4x4": torch.randn(6, 8, 4, 4), "rgb_2x2": torch.randn(6, 3, 2, 2)}
    grouped = group_by_width(pyramid)
    assert [(group.names, tuple(group.features.shape)) for group in grouped] == [
        (["cls", "l1_4x4"], (17, 6, 8)),
        (["rgb_2x2"], (4, 6, 3)),
    ]
    torch.testing.assert_close(grouped[0].features[1 + 7], pyramid["l1_4x4"][:, :, 1, 3])
    real = {name: torch.randn_like(level) for name, level in pyramid.items()}
    torch.testing.assert_close(SinkhornDrift()(pyramid, real).loss, torch.tensor(1.0))


# ---- the toy: points must flow onto two modes and keep both


def spread_of_fine_structure(bands: int) -> float:
    """Of trained points over real ones, in four dimensions of eight that vary a tenth as much as the others."""
    rng = torch.Generator().manual_seed(0)
    deviation = torch.tensor([3.0] * 4 + [0.3] * 4)
    points = torch.nn.Parameter(torch.randn(64, 8, generator=rng) * deviation * torch.tensor([1.0] * 4 + [0.2] * 4))
    objective = make_drift(ObjectiveConfig(), bands)
    optimizer = torch.optim.Adam([points], lr=0.02)
    for step in range(100):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 100)
        optimizer.zero_grad()
        objective({"cls": points}, {"cls": torch.randn(256, 8, generator=rng) * deviation}).loss.backward()
        optimizer.step()
    return (points.detach().std(dim=0) / deviation)[4:].mean().item()


def test_bands_keep_the_variance_of_what_varies_little():
    assert 0.7 < spread_of_fine_structure(bands=2) < 1.5
    assert spread_of_fine_structure(bands=1) > 2, "a plan that follows the rest says nothing of it"


def test_points_flow_onto_two_modes_and_keep_both():
    left, right = share_at_modes(flow("sinkhorn"))
    assert left > 0.4 and right > 0.4


def test_the_paired_baseline_ends_between_the_modes():
    left, right = share_at_modes(flow("paired"))
    assert left + right < 0.05
