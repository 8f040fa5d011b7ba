"""The figures' arithmetic: against published implementations and definitions on the same arrays, and known cases."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from dinogen.evaluate import bootstrap, metrics


def cloud(count: int, width: int = 8, seed: int = 0, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + shift


def skewed(count: int, width: int, seed: int) -> torch.Tensor:
    """Features like a network's: not negative, correlated, far from the origin, of very unequal scale."""
    mixing = cloud(width, width, seed=99) * torch.logspace(-2, 1, width, dtype=torch.float64)
    return (cloud(count, width, seed=seed) @ mixing + 3).relu()


def modes(count: int, used: int, seed: int) -> torch.Tensor:
    """Points around the first `used` of four far corners."""
    corners = 50 * torch.eye(8, dtype=torch.float64)[:4]
    return corners[torch.arange(count) % used] + cloud(count, seed=seed)


SHAPES = pytest.mark.parametrize("count, width", [(300, 16), (60, 128)], ids=["many images", "many features"])


# Fréchet and kernel distance


class Projection(torch.nn.Module):
    """A feature network of one's own, as torchmetrics takes it: uint8 images to rows."""

    def __init__(self, width: int):
        super().__init__()
        self.num_features = width
        self.matrix = torch.randn(48, width, generator=torch.Generator().manual_seed(5))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images.flatten(1).float() / 40 @ self.matrix).relu()


class ReadyFeatures(torch.nn.Module):
    """Stands where torchmetrics wants a feature network: the features have been computed already."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def random_images(count: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@SHAPES
def test_frechet_distance_equals_torchmetrics_with_a_network_of_its_own(count, width):
    network = Projection(width)
    samples, reals = random_images(count, 0) // 2, random_images(count, 1)
    published = FrechetInceptionDistance(feature=network).set_dtype(torch.float64)
    published.update(reals, real=True)
    published.update(samples, real=False)
    ours = metrics.frechet_distance(network(samples).double(), network(reals).double())
    assert ours == pytest.approx(published.compute().item(), rel=1e-3)


@SHAPES
def test_frechet_distance_follows_its_formula(count, width):
    a, b = skewed(count, width, seed=1).numpy(), skewed(count - 10, width, seed=2).numpy() * 0.8
    gap = a.mean(0) - b.mean(0)
    ca, cb = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(ca).real
    eigenvalues = np.linalg.eigvalsh(root @ cb @ root).clip(0)
    expected = gap @ gap + np.trace(ca + cb) - 2 * np.sqrt(eigenvalues).sum()
    a, b = torch.from_numpy(a), torch.from_numpy(b)
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-3)


@pytest.mark.filterwarnings("ignore:Metric")
@SHAPES
def test_kernel_distance_equals_torchmetrics(count, width):
    a, b = skewed(count, width, seed=1), skewed(count, width, seed=2) * 0.8
    published = KernelInceptionDistance(feature=ReadyFeatures(width), subsets=1, subset_size=count)
    published.set_dtype(torch.float64)
    published.update(b, real=True)
    published.update(a, real=False)
    assert metrics.kernel_distance(a, b) == pytest.approx(published.compute()[0].item(), rel=1e-6)


@pytest.mark.parametrize("distance", [metrics.frechet_distance, metrics.kernel_distance])
def test_distances_grow_with_the_shift_between_two_sets(distance):
    found = [distance(cloud(200, seed=1, shift=shift), cloud(200)) for shift in (0, 0.5, 2)]
    assert 5 * found[0] < found[1] < found[2] / 5


# Precision, recall, density, coverage


def slow_fidelity_and_variety(samples: np.ndarray, reals: np.ndarray) -> dict[str, float]:
    """Word by word after the two papers, a point at a time."""

    def radius(points, index, k):
        others = [np.linalg.norm(points[index] - p) for j, p in enumerate(points) if j != index]
        return sorted(others)[k - 1]

    def inside(point, points, radii):
        return [np.linalg.norm(point - p) <= r for p, r in zip(points, radii)]

    real3 = [radius(reals, i, 3) for i in range(len(reals))]
    real5 = [radius(reals, i, 5) for i in range(len(reals))]
    fake3 = [radius(samples, i, 3) for i in range(len(samples))]
    return {
        "precision": np.mean([any(inside(s, reals, real3)) for s in samples]),
        "recall": np.mean([any(inside(r, samples, fake3)) for r in reals]),
        "density": np.sum([inside(s, reals, real5) for s in samples]) / (5 * len(samples)),
        "coverage": np.mean([any(np.linalg.norm(s - r) <= rad for s in samples) for r, rad in zip(reals, real5)]),
    }


@pytest.mark.parametrize("count, width, shift", [(40, 8, 0.4), (90, 3, 0.2), (60, 64, 0.1)])
def test_fidelity_and_variety_equal_their_definitions(count, width, shift):
    samples, reals = cloud(count, width, seed=1, shift=shift) * 0.8, cloud(count + 10, width)
    found = metrics.fidelity_and_variety(samples, reals)
    assert found == pytest.approx(slow_fidelity_and_variety(samples.numpy(), reals.numpy()), abs=1e-3)
    assert any(value not in (0, 1) for value in found.values())  # a case in which not everything is trivial


# Known cases


def test_identical_sets_are_perfect():
    points = skewed(60, 16, seed=0)
    assert metrics.fidelity_and_variety(points, points) == {"precision": 1, "recall": 1, "density": 1, "coverage": 1}
    assert metrics.frechet_distance(points, points) == pytest.approx(0, abs=1e-6)
    # Unbiased: each of a set's own pairs is left out, so that identical sets seem a little nearer than equal ones.
    assert metrics.kernel_distance(points, points) < 0


def test_far_sets_share_nothing():
    found = metrics.fidelity_and_variety(cloud(60, shift=100), cloud(60))
    assert found == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}


def test_missing_half_of_the_modes_halves_recall_and_coverage_but_not_precision():
    half, all_four = modes(100, used=2, seed=1), modes(100, used=4, seed=0)
    found = metrics.fidelity_and_variety(half, all_four)
    assert found["precision"] > 0.85 and found["density"] > 0.85
    assert 0.35 < found["recall"] < 0.52 and 0.35 < found["coverage"] < 0.52
    another = modes(100, used=4, seed=2)
    for distance in (metrics.frechet_distance, metrics.kernel_distance):
        assert distance(half, all_four) > 100 * distance(another, all_four)


def test_one_repeated_real_image_has_precision_without_variety():
    reals = cloud(60)
    repeated = reals[reals.norm(dim=1).argmin()].expand(60, -1)
    found = metrics.fidelity_and_variety(repeated, reals)
    assert found["precision"] == 1 and found["recall"] == 1 / 60 and found["coverage"] < 0.5
    assert metrics.mean_pairwise_distance(repeated) == pytest.approx(0, abs=1e-6)
    spread = torch.cov(reals.T).trace().item()
    gap = (repeated[0] - reals.mean(dim=0)).square().sum().item()
    assert metrics.frechet_distance(repeated, reals) == pytest.approx(spread + gap, rel=1e-3)


# Diversity, neighbours


def test_mean_pairwise_distance_equals_its_definition():
    points = cloud(12)
    pairs = [(points[i] - points[j]).norm() for i in range(12) for j in range(i)]
    assert metrics.mean_pairwise_distance(points) == pytest.approx(torch.stack(pairs).mean().item())


def test_the_nearest_real_is_found_and_a_copy_is_at_distance_zero():
    reals = cloud(300)
    distance, row = metrics.nearest(reals[[7, 290]], reals)
    assert row.tolist() == [7, 290] and distance.tolist() == [0, 0]
    second, other = metrics.nearest(reals[[7]], reals, rank=2)
    assert second.item() == pytest.approx(min((reals[7] - r).norm().item() for i, r in enumerate(reals) if i != 7))
    assert other.item() != 7


# Confidence


def test_the_interval_holds_the_mean_and_narrows_with_more_values():
    few, many = (torch.arange(count) % 10 > 0 for count in (50, 5000))
    (low_few, high_few), (low_many, high_many) = bootstrap.mean_interval(few), bootstrap.mean_interval(many)
    assert low_few < low_many < 0.9 < high_many < high_few
    assert high_many - low_many == pytest.approx(2 * 1.96 * math.sqrt(0.09 / 5000), rel=0.15)


def test_pairs_of_an_image_with_itself_have_no_part_in_a_resampled_mean():
    values = torch.tensor([[0.0, 1, 2], [1, 0, 4], [2, 4, 0]]).double() + 7 * torch.eye(3)
    counts = torch.tensor([[1.0, 1, 1], [2, 1, 0]]).double()
    assert bootstrap.mean_over_pairs(values, counts).tolist() == pytest.approx([14 / 6, 1.0])


@pytest.mark.parametrize("figure", ["frechet", "kernel", "diversity"])
def test_intervals_are_as_wide_as_the_figure_varies_between_fresh_sets(figure):
    """Half the width is near two standard deviations over sets drawn anew, which no user can afford to draw."""

    def pair(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        return cloud(120, 6, seed=2 * seed, shift=0.3) * 1.1, cloud(120, 6, seed=2 * seed + 1)

    def value(a: torch.Tensor, b: torch.Tensor) -> float:
        if figure == "frechet":
            return metrics.frechet_distance(a, b)
        if figure == "kernel":
            return metrics.kernel_distance(a, b)
        return metrics.mean_pairwise_distance(a) / metrics.mean_pairwise_distance(b)

    def interval(a: torch.Tensor, b: torch.Tensor) -> list[float]:
        if figure == "frechet":
            return bootstrap.frechet_interval(a, b, value(a, b))
        return {"kernel": bootstrap.kernel_interval, "diversity": bootstrap.diversity_interval}[figure](a, b)

    deviation = torch.tensor([value(*pair(seed)) for seed in range(150)], dtype=torch.float64).std().item()
    low, high = interval(*pair(0))
    assert low < value(*pair(0)) < high
    assert (high - low) / 2 == pytest.approx(1.96 * deviation, rel=0.4)


def test_an_interval_that_cannot_be_given_is_left_out():
    """Of references that are mostly one image, some resampled sets are that image alone: nothing varies there."""
    rows = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    reference = torch.stack([rows[0], *[rows[1]] * 5])
    assert bootstrap.diversity_interval(rows, reference) is None
    assert bootstrap.frechet_interval(rows, reference, math.nan) is None
    assert bootstrap.mean_interval(rows[:, 0]) is not None
