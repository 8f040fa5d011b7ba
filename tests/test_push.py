"""Model cards, and `dinogen push` to a hub that stands in for the real one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from dinogen.config import RunConfig
from dinogen.data.manifest import read_manifest
from dinogen.images import to_pil
from dinogen.model_card import Publication, Training, write_figures, write_model_card
from dinogen.networks import Generator
from dinogen.opening import load_generator
from dinogen.publish import published_card
from dinogen.sample import sample_images
from helpers.stand_in_hub import TOKEN, Hub, stand_in_hub
from helpers.worded import NARROW
from launch.cli import main

TRAINING = Training("tiny (01234567)", 48, {"CC0 | mine": 40, "not stated": 8}, {"not stated": 48}, "sinkhorn", None)


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "snapshots" / "kimg000001.000"
    torch.manual_seed(0)
    network = Generator(**NARROW).eval()
    network.update_w_avg()
    folder.mkdir(parents=True)
    write_model_card(folder, network, TRAINING, 1024, sample_images(network, 4, seed=0))
    network.save_pretrained(folder, config=NARROW)
    return folder


@pytest.fixture(scope="module")
def hub():
    with stand_in_hub() as found:
        yield found


def dinogen(hub: Hub, home: Path, *args: str, token: str = TOKEN) -> subprocess.CompletedProcess:
    variables = {"HF_ENDPOINT": hub.address, "HF_TOKEN": token, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "launch.cli", *args]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables}, timeout=120)


def test_a_card_says_what_a_snapshot_is(snapshot: Path):
    text = (snapshot / "README.md").read_text()
    metadata = yaml.safe_load(text.split("---")[1])
    assert metadata["library_name"] == "dinogen" and metadata["pipeline_tag"] == "unconditional-image-generation"
    for said in (
        "tiny (01234567)",
        "1,024",
        "| CC0 \\| mine | 40 |",
        "| not stated | 48 |",
        "Not judged yet",
        "sinkhorn",
    ):
        assert said in text
    assert "model_hub_mixin" not in text and (snapshot / "samples.jpg").stat().st_size > 1000


def test_figures_stand_between_their_marks_and_leave_the_rest_alone(snapshot: Path):
    card = snapshot / "README.md"
    card.write_text(card.read_text().replace("For research,", "For me,"))
    for value in ("0.5", "0.25"):
        assert write_figures(snapshot, [("face_rate", value, "1", "share of faces")], "By hand.")
    text = card.read_text()
    assert "| face_rate | 0.25 | 1 | share of faces |" in text and "0.5 |" not in text and "Not judged" not in text
    assert "For me," in text and text.count("By hand.") == 1


def test_a_card_of_another_kind_is_left_alone(tmp_path: Path):
    assert not write_figures(tmp_path, [], "")
    (tmp_path / "README.md").write_text("mine")
    assert not write_figures(tmp_path, [], "") and (tmp_path / "README.md").read_text() == "mine"


def test_a_run_writes_a_card_and_evaluate_its_figures(shards32: Path, tmp_path: Path, capsys):
    run = tmp_path / "run"
    flags = {"generator.channel_base": 128, "generator.channel_max": 16, "generator.img_resolution": 16}
    flags |= {"schedule.start_resolution": 16, "schedule.total_kimg": 0.032, "batches.generated": 4, "batches.real": 8}
    more = [f"--{key}={value}" for key, value in flags.items()]
    assert main(["train", "--data", str(shards32), "--output", str(run), *more]) == 0
    (card,) = run.glob("snapshots/*/README.md")
    text = card.read_text()
    assert "48 aligned crops" in text and "| CC0" in text and str(tmp_path) not in text
    assert {path.name: path.stat().st_mode & 0o777 for path in card.parent.iterdir()} == dict.fromkeys(
        ["README.md", "config.json", "model.safetensors", "samples.jpg"], 0o644
    )
    report = tmp_path / "report.json"
    judging = ["evaluate", "--model", str(run), "--data", str(shards32), "--count", "12", "--output", str(report)]
    assert main(judging) == 0
    assert f"| face_rate | {json.loads(report.read_text())['face_rate']:.3g} |" in card.read_text()


def test_manifests_count_licences_and_consents(shards32: Path):
    manifest = read_manifest(shards32)
    licences, consents = manifest.terms("licences"), manifest.terms("consents")
    assert licences and consents and sum(licences.values()) == sum(consents.values()) == manifest.samples


def test_a_pushed_model_can_be_drawn_with_by_its_name(hub: Hub, snapshot: Path, tmp_path: Path):
    flags = ["--licence", "cc-by-4.0", "--contact", "me@example.org", "--private"]
    done = dinogen(
        hub, tmp_path / "home", "push", "--model", str(snapshot.parent.parent), "--repo", "anna/faces", *flags
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Wrote {hub.address}/anna/faces. Next: dinogen sample --model anna/faces\n"
    assert sorted(hub.files["anna/faces"]) == ["README.md", "config.json", "model.safetensors", "samples.jpg"]
    assert hub.private["anna/faces"]
    card = hub.files["anna/faces"]["README.md"].decode()
    assert yaml.safe_load(card.split("---")[1])["license"] == "cc-by-4.0"
    assert 'from_pretrained("anna/faces")' in card and "Ask me@example.org, naming" in card
    done = dinogen(hub, tmp_path / "home", "push", "--model", str(snapshot), "--repo", "anna/faces")
    assert done.returncode == 0, f"a second time: {done.stderr}"
    out = tmp_path / "out"
    done = dinogen(hub, tmp_path / "home", "sample", "--model", "anna/faces", "--count", "2", "--output", str(out))
    assert done.returncode == 0, done.stderr
    expected = to_pil(sample_images(load_generator(snapshot), 2, seed=0)[1])
    assert Image.open(out / "seed0000-000001.png").tobytes() == expected.tobytes()


def test_a_wrong_token_is_one_line(hub: Hub, snapshot: Path, tmp_path: Path):
    done = dinogen(hub, tmp_path / "home", "push", "--model", str(snapshot), "--repo", "anna/new", token="hf_wrong")
    assert done.returncode == 1 and "anna/new" not in hub.files
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("dinogen push: error: anna/new: the hub did not take it (") and "HF_TOKEN" in line


@pytest.mark.parametrize("repo", ["faces", "a/b/c", "../x", "anna/", "anna/fa ces"])
def test_a_name_that_is_none_is_refused(repo: str, snapshot: Path, capsys):
    assert main(["push", "--model", str(snapshot), "--repo", repo]) == 2
    assert f"--repo {repo}: give a name such as owner/faces" in capsys.readouterr().err


def test_a_snapshot_without_a_card_is_refused(snapshot: Path, capsys):
    (snapshot / "README.md").write_text("# mine")
    assert main(["push", "--model", str(snapshot), "--repo", "anna/faces"]) == 2
    assert "not a model card of dinogen" in capsys.readouterr().err


def test_folders_of_this_machine_are_not_told(shards32: Path):
    config = RunConfig(data="d", output="o")
    assert "/" not in Training.of(config, read_manifest(shards32)).teacher


def test_a_publisher_without_wishes_changes_the_name_alone(snapshot: Path):
    text = published_card(snapshot, Publication("anna/faces"))
    assert "Ask whoever gave you this model" in text and 'from_pretrained("anna/faces")' in text
