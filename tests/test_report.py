"""The verbs that judge: reports, pages, curves, walks."""

import base64
import io
import json
import re

import pytest
import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModel

from dinogen.evaluate.curves import charts, read_curves, thinned
from dinogen.evaluate.report import FIGURES, SIGNAL_FIGURES, WALK_FIGURES
from dinogen.evaluate.walks import measure_walks, smoothness
from dinogen.networks import Generator
from dinogen.sample import sample_images
from helpers.drawn_face import save_faces
from launch import compare, evaluate


@pytest.fixture
def snapshot(tmp_path):
    torch.manual_seed(0)
    generator = Generator(img_resolution=32, z_dim=16, w_dim=16, channel_base=128, channel_max=16)
    generator.save_pretrained(tmp_path / "snapshot")
    return tmp_path / "snapshot"


@pytest.fixture
def run(snapshot, tmp_path):
    """A run: one snapshot and what it logged."""
    folder = tmp_path / "run"
    (folder / "snapshots").mkdir(parents=True)
    (folder / "config.yaml").write_text(f"data: {tmp_path / 'crops'}\n")
    snapshot.rename(folder / "snapshots" / "kimg000010.000")
    points = [{"kimg": kimg, "overview/drift": 3.0 + kimg / 2, "overview/diversity": 0.5} for kimg in range(1, 10)]
    (folder / "stats.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points))
    return folder


@pytest.fixture
def crops(tmp_path):
    save_faces(tmp_path / "crops", 16)
    return tmp_path / "crops"


def pictures_in(page: str) -> list[Image.Image]:
    encoded = re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in encoded]


# evaluate


def test_evaluate_writes_a_report_and_the_nearest_pairs(snapshot, crops, tmp_path, capsys):
    flags = ["--model", str(snapshot), "--data", str(crops), "--count", "10"]
    assert evaluate.main([*flags, "--output", str(tmp_path / "out" / "report.json")]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["counts"]["samples"] == 10 and report["counts"]["compared_images_a_set"] == 8
    assert Image.open(tmp_path / "out" / "nearest.png").width == 8 * 128 + 7 * 2
    shown = capsys.readouterr().out
    assert all(name in shown and name in report for name in FIGURES | WALK_FIGURES)
    assert "training_signal" not in report and "training signal" not in shown


def test_the_page_holds_figures_pictures_and_curves_and_needs_nothing_beside_it(run, crops, tmp_path):
    flags = ["--model", str(run), "--data", str(crops), "--count", "10", "--teacher", "tiny"]
    assert evaluate.main([*flags, "--output", str(tmp_path / "report.json")]) == 0
    page = (tmp_path / "report.html").read_text()
    assert all(name in page for name in FIGURES | WALK_FIGURES | SIGNAL_FIGURES)
    assert len(pictures_in(page)) == 7
    assert len(re.findall("<svg", page)) == 2 and "displacement, mean of all maps" in page
    assert page.index("coverage") < page.index("Not independent") < page.index("frechet_teacher")
    assert not re.search(r"https?://|<script|<link", page)


def test_shards_and_a_clip_add_the_training_signal_and_distances(run, shards32, tmp_path, capsys):
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=32, patch_size=8)).save_pretrained(tmp_path / "clip")
    flags = ["--model", str(run), "--data", str(shards32), "--count", "12", "--clip", str(tmp_path / "clip")]
    assert evaluate.main([*flags, "--output", str(tmp_path / "report.json")]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["training_signal"]["displacement"]["l1_8x8"] > 0
    assert report["frechet_clip"] > 0
    shown = capsys.readouterr().out
    assert shown.index("frechet_clip") < shown.index("not independent") < shown.index("frechet_teacher")


@pytest.mark.parametrize("problem", ["missing", "empty"])
def test_evaluate_explains_a_wrong_reference(snapshot, tmp_path, capsys, problem):
    reference = tmp_path / problem
    if problem == "empty":
        reference.mkdir()
    flags = ["--model", str(snapshot), "--data", str(reference)]
    code = evaluate.main([*flags, "--output", str(tmp_path / "r.json")])
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2 and str(reference) in line
    assert not (tmp_path / "r.json").exists()


def test_evaluate_refuses_an_output_that_is_not_json(snapshot, crops, capsys):
    assert evaluate.main(["--model", str(snapshot), "--data", str(crops), "--output", "report.html"]) == 2
    assert "must end in .json" in capsys.readouterr().err


# compare


def test_compare_puts_generators_side_by_side(run, crops, tmp_path, capsys):
    flags = ["--data", str(crops), "--count", "8", "--output", str(tmp_path / "both")]
    models = ["--model", str(run), str(run / "snapshots" / "kimg000010.000")]
    assert compare.main([*models, *flags]) == 0
    first, second = json.loads((tmp_path / "both" / "compare.json").read_text())
    assert first | {"model": None} == second | {"model": None}  # the same generator on the same terms
    page = (tmp_path / "both" / "compare.html").read_text()
    assert len(pictures_in(page)) == 2 * 5 + 2
    assert len(re.findall("<polyline", page)) == 4, "two charts with a line for each run"
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1:3] for line in lines if line.startswith("face_rate")] == [["0", "0"]]


def test_compare_names_a_wrong_run_before_it_judges_any(snapshot, crops, tmp_path, capsys):
    flags = ["--data", str(crops), "--output", str(tmp_path / "both")]
    assert compare.main(["--model", str(snapshot), str(tmp_path / "gone"), *flags]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'gone'}: no such folder" in error and "Judging" not in error


# Curves


def test_curves_are_what_the_run_has_logged(run):
    curves = read_curves(run)
    assert curves.keys() == {"displacement, mean of all maps", "diversity, pixels"}
    assert curves["displacement, mean of all maps"] == [(kimg, 3 + kimg / 2) for kimg in range(1, 10)]


def test_long_curves_are_thinned_by_averaging():
    points = [(float(x), float(x % 2)) for x in range(1001)]
    some = thinned(points)
    assert len(some) <= 200 and some[0] == (2.5, 0.5)


def test_a_chart_goes_through_its_points():
    (drawn,) = charts([{"loss": [(0.0, 1.0), (10.0, 3.0)]}, {"loss": [(0.0, 1.0), (5.0, 2.0)]}])
    lines = [[tuple(map(float, point.split(","))) for point in points.split()] for _, points in drawn.lines]
    assert lines[0][0] == lines[1][0] and lines[0][1][0] > lines[1][1][0] and lines[0][1][1] < lines[1][1][1]
    assert drawn.lines[0][0] != drawn.lines[1][0]


# Walks


def test_a_smooth_walk_has_equal_steps_and_a_jump_is_seen():
    ramp = torch.linspace(0, 240, 16).round().byte()[None, :, None, None, None].expand(2, 16, 3, 4, 4)
    smooth = smoothness(ramp, distance_between_samples=float(240 * 48**0.5))
    assert smooth.largest_step == pytest.approx(1) and smooth.ends == pytest.approx(1)
    jump = ramp.clone()
    jump[1, 8:] += 10
    assert smoothness(jump, 1.0).largest_step == pytest.approx(26 / 16)


def test_walks_of_a_generator_change_smoothly_and_their_ends_differ(snapshot):
    generator = Generator.from_pretrained(str(snapshot)).eval()
    walks = measure_walks(generator, sample_images(generator, 32, seed=1), seed=0)
    assert walks.largest_step <= 3
    assert 0.5 < walks.ends < 2
