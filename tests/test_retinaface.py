"""RetinaFace behind the detectors' interface: the package's own network with weights made here, as none can be had."""

import hashlib
import http.server
import threading
import warnings
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dinogen.errors import DinogenError, UsageError
from launch.crop import main
from shards import retinaface
from shards.detect import find_faces, make_detector
from shards.retinaface import choose_weights, download_weights, load_weights, priors


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Seeded weights of the real class, whose boxes and landmarks stay where the anchors are."""
    from retinaface.network import RetinaFace

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = RetinaFace("Resnet50", False, in_channels=256, return_layers={"layer2": 1, "layer3": 2, "layer4": 3},
                             out_channels=256)  # fmt: skip
    weights = network.state_dict()
    for name, value in weights.items():
        if name.startswith(("BboxHead", "LandmarkHead")):
            value.zero_()
    return weights


@pytest.fixture(scope="module")
def weights(state, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "retinaface.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def detector(weights):
    return make_detector("retinaface", weights)


def only_anchor(detector, row: int, column: int, level: int = 1, which: int = 0):
    """Let the network speak of one anchor only: a head that knows where it is."""
    network = detector.network

    def forward(pixels):
        height, width = pixels.shape[2:]
        sizes = [(-(-height // stride), -(-width // stride)) for stride in retinaface.STRIDES]
        counts = [2 * h * w for h, w in sizes]
        place = sum(counts[:level]) + 2 * (row * sizes[level][1] + column) + which
        located, classified, marked = type(network).forward(network, pixels)
        assert located.shape[1] == sum(counts) == len(priors(height, width))
        classified = torch.tensor([9.0, 0.0]).expand_as(classified).clone()
        classified[0, place] = torch.tensor([0.0, 3.0])
        return located, classified, marked

    return forward


def test_coordinates_are_those_of_the_picture_given(detector, monkeypatch):
    """The anchor at row 5, column 7 of stride 16, 64 pixels large, in a picture whose sides are no multiples of 32."""
    monkeypatch.setattr(detector.network, "forward", only_anchor(detector, 5, 7))
    (faces,) = detector.detect([np.zeros((250, 330, 3), np.uint8)], min_face=20)
    (face,) = faces
    centre = np.array([7.5 * 16 - 0.5, 5.5 * 16 - 0.5])
    assert face.box == pytest.approx(np.concatenate([centre - 32, centre + 32]), abs=1e-3)
    assert face.landmarks == pytest.approx(np.tile(centre, (5, 1)), abs=1e-3)
    assert face.score == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-4)


def test_landmarks_are_not_rounded_and_come_image_left_eye_first(detector, monkeypatch):
    monkeypatch.setattr(detector.network, "forward", only_anchor(detector, 5, 7))
    with torch.no_grad():
        bias = detector.network.LandmarkHead[1].conv1x1.bias
        bias[:10] = torch.tensor([-2.5, -2.0, 2.5, -2.0, 0.1, 0.3, -2.0, 2.0, 2.0, 2.0])
    try:
        face = detector.detect([np.zeros((250, 330, 3), np.uint8)], min_face=20)[0][0]
    finally:
        with torch.no_grad():
            bias.zero_()
    centre = np.array([119.5, 87.5])
    expected = centre + 6.4 * np.array([[-2.5, -2], [2.5, -2], [0.1, 0.3], [-2, 2], [2, 2]])  # variance 0.1 × 64 pixels
    assert face.landmarks == pytest.approx(expected, abs=1e-3)


def test_in_a_large_photo_points_come_back_in_its_own_pixels(detector, monkeypatch):
    monkeypatch.setattr(detector.network, "forward", only_anchor(detector, 5, 7))
    monkeypatch.setattr(type(detector), "max_pixels", 330 * 250)
    (face,) = find_faces(detector, Image.new("RGB", (660, 500)), 48, 0.9, largest_only=False)
    assert face.landmarks[0] == pytest.approx([2 * 120 - 0.5, 2 * 88 - 0.5], abs=1e-3)


def test_small_faces_are_left_out(detector, monkeypatch):
    monkeypatch.setattr(detector.network, "forward", only_anchor(detector, 5, 7))
    assert detector.detect([np.zeros((250, 330, 3), np.uint8)], min_face=70) == [[]]


def test_no_face_is_an_empty_list(detector, monkeypatch):
    def nothing(pixels):
        located, classified, marked = type(detector.network).forward(detector.network, pixels)
        return located, torch.tensor([9.0, 0.0]).expand_as(classified), marked

    monkeypatch.setattr(detector.network, "forward", nothing)
    assert detector.detect([np.zeros((64, 64, 3), np.uint8)], min_face=20) == [[]]


def test_weights_in_a_zip_are_read(weights, state, tmp_path):
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        archive.write(weights, "retinaface.pth")
    assert load_weights(tmp_path / "w.zip").keys() == state.keys()


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("executed-by-unpickling"),)


@pytest.mark.parametrize("content", [{"weight": Bomb()}, [1, 2], {"a": torch.zeros(1)}], ids=["code", "list", "other"])
def test_what_is_no_weights_is_one_line_and_never_run(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "bad.pth")
    with pytest.raises(DinogenError, match="bad.pth"):
        make_detector("retinaface", tmp_path / "bad.pth")
    assert not (tmp_path / "executed-by-unpickling").exists()


@pytest.fixture
def published(tmp_path):
    """A local server with a small file in place of the published weights."""
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "weights.zip").write_bytes(b"weights")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/weights.zip"
        running.shutdown()


def test_a_download_is_checked_and_kept(published, tmp_path):
    digest = hashlib.sha256(b"weights").hexdigest()
    path = download_weights(tmp_path / "cache", published, digest[:9])
    assert path.read_bytes() == b"weights"
    assert download_weights(tmp_path / "cache", "http://127.0.0.1:9/gone", digest[:9]) == path


def test_a_download_with_another_checksum_is_refused_and_removed(published, tmp_path):
    with pytest.raises(DinogenError, match="not the published"):
        download_weights(tmp_path / "cache", published, "0" * 9)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_auto_says_what_it_took(weights, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert choose_weights("auto", None) == ("mtcnn", None)
    assert "detector: mtcnn" in capsys.readouterr().err
    assert choose_weights("auto", weights) == ("retinaface", weights)
    assert "detector: retinaface" in capsys.readouterr().err


def test_weights_without_their_detector_or_file_are_usage_errors(weights, tmp_path):
    with pytest.raises(UsageError, match="mtcnn"):
        choose_weights("mtcnn", weights)
    with pytest.raises(UsageError, match="no such file"):
        choose_weights("retinaface", tmp_path / "missing.pth")


def test_the_command_runs_with_it(weights, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (96, 96), (120, 90, 80)).save(tmp_path / "in" / "wall.jpg")
    code = main(["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--workers", "0",
                 "--detector", "retinaface", "--detector-weights", str(weights), "--min-score", "1"])  # fmt: skip
    assert code == 1 and "1 no-face" in capsys.readouterr().err
