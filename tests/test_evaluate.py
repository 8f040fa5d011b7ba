"""Figures and pictures by which a generator is judged."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.image.fid import FrechetInceptionDistance

from dinogen.errors import DinogenError, UsageError
from dinogen.evaluate import evaluate_images, metrics
from dinogen.evaluate.detector import SURE, Detector
from dinogen.evaluate.judge import Judges, judge
from dinogen.evaluate.reference import data_of, load_reference
from dinogen.evaluate.report import FIGURES
from helpers.drawn_face import add_face, draw_face, draw_faces, save_faces


@pytest.fixture(scope="module")
def faces() -> torch.Tensor:
    return draw_faces(48)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector()


@pytest.fixture(scope="module")
def report(faces) -> dict:
    return evaluate_images(draw_faces(20, seed=1), faces)


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


# The whole judgement


def test_the_report_is_plain_finite_json_with_real_against_real_beside_ours(report):
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert FIGURES.keys() <= report.keys() and FIGURES.keys() <= report["real_against_real"].keys()
    assert report["counts"] == {
        "samples": 20,
        "compared_images_a_set": 20,
        "real_images_searched_for_the_nearest": 48,
    }
    assert "not used in training" in report["method"]["detector"]
    assert "resized to 48×48, bilinear" in report["method"]["features_detector"]


def test_every_figure_lies_in_its_interval_for_ours_and_for_real(report):
    for block in (report, report["real_against_real"]):
        assert block["intervals"].keys() == FIGURES.keys() | {"individual_detail_32", "individual_detail_16"}
        for name, (low, high) in block["intervals"].items():
            assert low <= block[name] <= high or name.startswith("kernel"), name


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
    assert judged["face_rate"] == 0 and judged["intervals"]["face_rate"] == [0, 0]
    assert judged["frechet_detector"] > 10 * report["frechet_detector"]
    assert judged["precision"] == judged["recall"] == 0


def test_copies_of_the_training_images_are_found_out(faces, detector):
    judgement = judge(faces[:20], faces, Judges(detector))
    assert judgement.report["copies"] == 1 and judgement.report["real_against_real"]["copies"] == 0
    assert judgement.report["nearest_real_detector"] < 1e-6 and judgement.report["nearest_real_pixels"] < 1e-6
    assert all(near.row.tolist() == list(range(20)) for near in judgement.nearest.values())


def test_copies_in_other_clothes_are_found_by_one_of_the_two_ways_of_seeing(faces, detector):
    grain = 8 * torch.randn(20, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for copies in (faces[:20] * 0.9, faces[:20] + grain):
        judged = judge(copies.clamp(0, 255).byte(), faces, Judges(detector)).report
        assert judged["copies"] > 0.8 and judged["real_against_real"]["copies"] == 0


def test_reals_are_reduced_to_the_resolution_of_the_samples(report):
    judged = evaluate_images(draw_faces(20, seed=1), draw_faces(48, side=160))
    assert judged["frechet_detector"] == pytest.approx(report["frechet_detector"], rel=0.02)


def test_too_few_images_are_refused(faces):
    with pytest.raises(DinogenError, match="5 samples and 48 reference images are too few"):
        evaluate_images(faces[:5], faces)


# The reference


def test_a_folder_gives_a_fixed_random_choice_of_averaged_images(tmp_path):
    save_faces(tmp_path / "crops", 10)
    some = load_reference(tmp_path / "crops", 4, 32).images
    assert some.shape == (4, 3, 32, 32) and some.dtype == torch.uint8
    assert torch.equal(some, load_reference(tmp_path / "crops", 10, 32).images[:4])
    averaged = draw_faces(10, side=64).float().unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    assert all((image.float() - averaged).flatten(1).abs().max(1).values.min() <= 1 for image in some)


def test_a_broken_image_is_named(tmp_path):
    save_faces(tmp_path / "crops", 2)
    (tmp_path / "crops" / "bad.png").write_bytes(b"<html>")
    with pytest.raises(DinogenError, match="bad.png: cannot be read as an image"):
        load_reference(tmp_path / "crops", 10, 32)


def test_hidden_files_and_folders_are_skipped(tmp_path):
    save_faces(tmp_path / "crops", 3)
    for name in ("._1.png", ".cache/1.png"):
        (tmp_path / "crops" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "crops" / name).write_bytes(b"not an image")
    assert len(load_reference(tmp_path / "crops", 10, 32).images) == 3


def test_photos_are_refused_with_what_to_do(tmp_path):
    save_faces(tmp_path / "photos", 3)
    Image.new("RGB", (64, 48)).save(tmp_path / "photos" / "wide.jpg")
    with pytest.raises(UsageError, match="1 of 4 images are not square, such as wide.jpg.*dinogen crop --input"):
        load_reference(tmp_path / "photos", 10, 32)


def test_a_run_knows_its_data(tmp_path):
    run, other = tmp_path / "run", tmp_path / "other"
    for folder, data in ((run, "data/shards"), (other, "data/more")):
        (folder / "snapshots" / "kimg1").mkdir(parents=True)
        (folder / "config.yaml").write_text(f"data: {data}\nseed: 0\n")
    assert data_of([str(run), str(run / "snapshots" / "kimg1")]) == "data/shards"
    with pytest.raises(UsageError, match="different data"):
        data_of([str(run), str(other)])
    with pytest.raises(UsageError, match="owner/name: its data are not known; pass --data"):
        data_of(["owner/name"])


def test_shards_give_the_crops_in_them(shards32):
    images = load_reference(shards32, 100, 32).images
    assert images.shape == (48, 3, 32, 32) and images.dtype == torch.uint8
    assert len({image.numpy().tobytes() for image in images}) == 48
