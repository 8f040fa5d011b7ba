"""Figures and pictures by which a generator is judged."""

import base64
import io
import json
import math
import re

import numpy as np
import pytest
import scipy.linalg
import torch
from drawn_face import add_face, draw_face
from PIL import Image
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from dinogen.errors import DinogenError
from dinogen.evaluate import evaluate_images, metrics
from dinogen.evaluate.detector import SURE, Detector
from dinogen.evaluate.judge import judge
from dinogen.evaluate.reference import load_reference
from dinogen.evaluate.report import FIGURES
from dinogen.networks import Generator
from launch import compare, evaluate

# Drawn faces and arrays of a known answer


def draw_faces(count: int, seed: int = 0, side: int = 32) -> torch.Tensor:
    """Faces that differ in place, size and colours, uint8 `[count, 3, side, side]`."""
    random = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        face = draw_face(
            size=(160, 160),
            centre=tuple(random.uniform(74, 86, 2)),
            height=random.uniform(100, 130),
            skin=tuple(int(c) for c in np.array([224, 172, 140]) * random.uniform(0.5, 1.1)),
            background=tuple(int(c) for c in random.integers(40, 200, 3)),
        )
        images.append(np.array(face.resize((side, side), Image.Resampling.BOX)))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def cloud(count: int, width: int = 8, seed: int = 0, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + shift


def modes(count: int, used: int, seed: int) -> torch.Tensor:
    """Points around the first `used` of four far corners."""
    corners = 50 * torch.eye(8, dtype=torch.float64)[:4]
    return corners[torch.arange(count) % used] + cloud(count, seed=seed)


@pytest.fixture(scope="module")
def faces() -> torch.Tensor:
    return draw_faces(48)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector()


@pytest.fixture(scope="module")
def report(faces) -> dict:
    return evaluate_images(draw_faces(20, seed=1), faces)


# Fréchet and kernel distance


def test_frechet_distance_follows_its_formula():
    a, b = cloud(60).numpy(), cloud(50, seed=1, shift=0.5).numpy()
    gap = a.mean(0) - b.mean(0)
    ca, cb = np.cov(a.T), np.cov(b.T)
    expected = gap @ gap + np.trace(ca + cb - 2 * scipy.linalg.sqrtm(ca @ cb).real)
    assert metrics.frechet_distance(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_images_equals_torchmetrics_with_the_network_inside(faces, detector):
    class LastStage(torch.nn.Module):
        num_features = 256

        def forward(self, images):
            return detector.features(images)

    published = FrechetInceptionDistance(feature=LastStage()).set_dtype(torch.float64)
    published.update(faces[:24], real=True)
    published.update(faces[24:], real=False)
    ours = metrics.frechet_distance(detector.features(faces[24:]), detector.features(faces[:24]))
    assert ours == pytest.approx(published.compute().item(), rel=1e-3)


@pytest.mark.filterwarnings("ignore:Metric")
def test_kernel_distance_equals_torchmetrics():
    published = KernelInceptionDistance(feature=metrics.ReadyFeatures(8), subsets=1, subset_size=40)
    published.update(cloud(40), real=True)
    published.update(cloud(40, seed=1, shift=0.5), real=False)
    ours = metrics.kernel_distance(cloud(40, seed=1, shift=0.5), cloud(40))
    assert ours == pytest.approx(published.compute()[0].item(), rel=1e-6)


@pytest.mark.parametrize("distance", [metrics.frechet_distance, metrics.kernel_distance])
def test_distances_grow_with_the_shift_between_two_sets(distance):
    found = [distance(cloud(200, seed=1, shift=shift), cloud(200)) for shift in (0, 0.5, 2)]
    assert 5 * found[0] < found[1] < found[2] / 5


def test_frechet_distance_of_a_set_to_itself_is_zero():
    assert metrics.frechet_distance(cloud(50), cloud(50)) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_bears_fewer_images_than_features():
    assert math.isfinite(metrics.frechet_distance(cloud(20, width=64), cloud(20, width=64, seed=1)))


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


def test_fidelity_and_variety_equal_their_definitions():
    samples, reals = cloud(40, seed=1, shift=0.4) * 0.8, cloud(50)
    found = metrics.fidelity_and_variety(samples, reals)
    assert found == pytest.approx(slow_fidelity_and_variety(samples.numpy(), reals.numpy()), rel=1e-9)
    assert all(value not in (0, 1) for value in found.values())  # a case in which nothing is trivial


def test_identical_sets_are_perfect():
    found = metrics.fidelity_and_variety(cloud(60), cloud(60))
    assert found == {"precision": 1, "recall": 1, "density": 1, "coverage": 1}


def test_far_sets_share_nothing():
    found = metrics.fidelity_and_variety(cloud(60, shift=100), cloud(60))
    assert found == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}


def test_missing_half_of_the_modes_halves_recall_and_coverage_but_not_precision():
    found = metrics.fidelity_and_variety(modes(100, used=2, seed=1), modes(100, used=4, seed=0))
    assert found["precision"] > 0.85
    assert 0.35 < found["recall"] < 0.52 and 0.35 < found["coverage"] < 0.52


def test_one_repeated_point_has_precision_without_variety():
    reals = cloud(60)
    found = metrics.fidelity_and_variety(reals.mean(0).expand(60, -1), reals)
    assert found["precision"] == 1 and found["recall"] == 0


# Diversity, neighbours, confidence


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


def test_the_interval_holds_the_mean_and_narrows_with_more_values():
    few, many = (torch.arange(count) % 10 > 0 for count in (50, 5000))
    (low_few, high_few), (low_many, high_many) = metrics.bootstrap_interval(few), metrics.bootstrap_interval(many)
    assert low_few < low_many < 0.9 < high_many < high_few
    assert high_many - low_many == pytest.approx(2 * 1.96 * math.sqrt(0.09 / 5000), rel=0.15)


# The detector


def test_the_detector_is_sure_of_faces_at_every_resolution(detector):
    for side in (24, 32, 64):
        assert (detector.face_probabilities(draw_faces(8, side=side)) >= SURE).all()


def test_the_detector_sees_no_face_in_noise_flats_and_scrambled_faces(detector, faces):
    noise = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    flats = torch.tensor([0, 128, 255], dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 32, 32)
    scrambled = faces[:8].roll((16, 16), dims=(2, 3))
    assert (detector.face_probabilities(torch.cat([noise, flats, scrambled])) < SURE).all()


def test_of_two_faces_the_clearer_one_counts(detector):
    canvas = draw_face((160, 160), centre=(45, 80), height=72)
    add_face(canvas, centre=(118, 80), height=60, skin=(120, 100, 90))
    image = torch.from_numpy(np.array(canvas)).permute(2, 0, 1)[None]
    _, (both,) = detector.mtcnn.detect(image.permute(0, 2, 3, 1).float())
    assert len(both) == 2 and both[0] != both[1]
    assert detector.face_probabilities(image).item() == pytest.approx(max(both))


def test_features_do_not_depend_on_the_other_images(detector, faces):
    assert torch.allclose(detector.features(faces)[5:6], detector.features(faces[5:6]), atol=1e-5)


def test_features_are_what_the_last_stage_decides_by(detector):
    images = draw_faces(4, side=48)
    features = detector.features(images)
    stage = detector.mtcnn.onet
    expected = stage((images.float() - 127.5) * 0.0078125)[2]  # the scaling of facenet-pytorch's detect_face
    assert features.shape == (4, 256)
    assert torch.allclose(stage.dense6_1(features.float()).softmax(1), expected, atol=1e-5)


# The whole judgement


def test_the_report_is_plain_finite_json_with_real_against_real_beside_ours(report):
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert FIGURES.keys() <= report.keys() and FIGURES.keys() <= report["real_against_real"].keys()
    assert report["counts"] == {
        "samples": 20,
        "compared_images_a_set": 20,
        "real_images_searched_for_the_nearest": 48,
    }
    assert "had no part in training" in report["method"]["detector"]


def test_samples_of_the_same_kind_are_judged_like_real_ones(report):
    real = report["real_against_real"]
    assert report["face_rate"] == real["face_rate"] == 1
    assert report["frechet_detector"] < 2 * real["frechet_detector"]
    assert 0.8 < report["diversity_pixels"] < 1.25 and 0.8 < report["diversity_features"] < 1.25
    assert report["coverage"] > 0.7


def test_one_face_many_times_has_a_perfect_face_rate_and_no_diversity(report, faces):
    collapsed = evaluate_images(draw_faces(1, seed=1).expand(20, -1, -1, -1), faces)
    assert collapsed["face_rate"] == 1
    assert collapsed["diversity_pixels"] < 1e-5 and collapsed["diversity_features"] < 1e-5
    assert collapsed["recall"] == 0
    assert collapsed["frechet_detector"] > 2 * report["frechet_detector"]


def test_noise_has_no_faces_and_is_far_from_real(report, faces):
    noise = torch.randint(0, 256, (20, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    judged = evaluate_images(noise, faces)
    assert judged["face_rate"] == 0 and judged["face_rate_interval"] == [0, 0]
    assert judged["frechet_detector"] > 10 * report["frechet_detector"]
    assert judged["precision"] == judged["recall"] == 0


def test_copies_of_the_training_images_are_found_out(faces):
    judgement = judge(faces[:20], faces)
    assert judgement.report["nearest_real_median"] < 1e-6
    assert judgement.report["real_against_real"]["nearest_real_median"] > 0.01
    assert judgement.nearest_row.tolist() == list(range(20))


def test_reals_are_reduced_to_the_resolution_of_the_samples(report):
    judged = evaluate_images(draw_faces(20, seed=1), draw_faces(48, side=160))
    assert judged["frechet_detector"] == pytest.approx(report["frechet_detector"], rel=0.02)


def test_too_few_images_are_refused(faces):
    with pytest.raises(DinogenError, match="5 samples and 48 reference images are too few"):
        evaluate_images(faces[:5], faces)


# The reference


def save_faces(folder, count: int) -> None:
    folder.mkdir()
    for index, face in enumerate(draw_faces(count, side=64)):
        Image.fromarray(face.permute(1, 2, 0).numpy()).save(folder / f"{index}.png")


def test_a_folder_gives_a_fixed_random_choice_of_averaged_images(tmp_path):
    save_faces(tmp_path / "crops", 10)
    some = load_reference(tmp_path / "crops", 4, 32)
    assert some.shape == (4, 3, 32, 32) and some.dtype == torch.uint8
    assert torch.equal(some, load_reference(tmp_path / "crops", 10, 32)[:4])
    averaged = draw_faces(10, side=64).float().unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    assert all((image.float() - averaged).flatten(1).abs().max(1).values.min() <= 1 for image in some)


def test_a_broken_image_is_named(tmp_path):
    save_faces(tmp_path / "crops", 2)
    (tmp_path / "crops" / "bad.png").write_bytes(b"<html>")
    with pytest.raises(DinogenError, match="bad.png: cannot be read as an image"):
        load_reference(tmp_path / "crops", 10, 32)


def test_shards_give_the_crops_in_them(shards32):
    images = load_reference(shards32, 100, 32)
    assert images.shape == (48, 3, 32, 32) and images.dtype == torch.uint8
    assert len({image.numpy().tobytes() for image in images}) == 48


# The verbs


@pytest.fixture
def snapshot(tmp_path):
    torch.manual_seed(0)
    generator = Generator(img_resolution=32, z_dim=16, w_dim=16, channel_base=128, channel_max=16)
    generator.save_pretrained(tmp_path / "snapshot")
    return tmp_path / "snapshot"


@pytest.fixture
def crops(tmp_path):
    save_faces(tmp_path / "crops", 16)
    return tmp_path / "crops"


def pictures_in(page: str) -> list[Image.Image]:
    encoded = re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in encoded]


def test_evaluate_writes_a_report_and_the_nearest_pairs(snapshot, crops, tmp_path, capsys):
    flags = ["--model", str(snapshot), "--reference", str(crops), "--count", "10"]
    assert evaluate.main([*flags, "--output", str(tmp_path / "out" / "report.json")]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["counts"]["samples"] == 10 and report["counts"]["compared_images_a_set"] == 8
    assert Image.open(tmp_path / "out" / "nearest.png").size == (8 * 128 + 7 * 2, 3 * 128 + 2 * 2)
    shown = capsys.readouterr().out
    assert all(name in shown for name in FIGURES)


def test_the_page_holds_figures_and_pictures_and_needs_nothing_beside_it(snapshot, crops, tmp_path):
    flags = ["--model", str(snapshot), "--reference", str(crops), "--count", "10"]
    assert evaluate.main([*flags, "--output", str(tmp_path / "report.json")]) == 0
    page = (tmp_path / "report.html").read_text()
    assert all(name in page for name in FIGURES)
    assert len(pictures_in(page)) == 5
    assert not re.search(r"https?://|<script|<link", page)


def test_compare_puts_generators_side_by_side(snapshot, crops, tmp_path, capsys):
    flags = ["--reference", str(crops), "--count", "8", "--output", str(tmp_path / "both")]
    assert compare.main([str(snapshot), str(snapshot), *flags]) == 0
    first, second = json.loads((tmp_path / "both" / "compare.json").read_text())
    assert first == second  # the same generator on the same terms
    assert len(pictures_in((tmp_path / "both" / "compare.html").read_text())) == 9
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1:3] for line in lines if line.startswith("face_rate")] == [["0", "0"]]


def test_compare_names_a_wrong_run_before_it_judges_any(snapshot, crops, tmp_path, capsys):
    flags = ["--reference", str(crops), "--output", str(tmp_path / "both")]
    assert compare.main([str(snapshot), str(tmp_path / "gone"), *flags]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'gone'}: no such folder" in error and "Judging" not in error


@pytest.mark.parametrize("problem", ["missing", "empty"])
def test_evaluate_explains_a_wrong_reference(snapshot, tmp_path, capsys, problem):
    reference = tmp_path / problem
    if problem == "empty":
        reference.mkdir()
    flags = ["--model", str(snapshot), "--reference", str(reference)]
    code = evaluate.main([*flags, "--output", str(tmp_path / "r.json")])
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2 and str(reference) in line
    assert not (tmp_path / "r.json").exists()


def test_evaluate_refuses_an_output_that_is_not_json(snapshot, crops, capsys):
    assert evaluate.main(["--model", str(snapshot), "--reference", str(crops), "--output", "report.html"]) == 2
    assert "must end in .json" in capsys.readouterr().err
