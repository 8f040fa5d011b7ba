"""How well words steer: R-precision, joint distance, attributes, the CLIP score, in reports and in runs."""

import json
from pathlib import Path

import pytest
import torch

from dinogen.evaluate.attributes import Attribute, Classifier, obedience, read_attributes
from dinogen.evaluate.captions import CaptionJudge, hits_among
from dinogen.evaluate.detector import Detector
from dinogen.evaluate.judge import Judges, evaluate_images
from dinogen.evaluate.reference import load_reference
from dinogen.evaluate.ridge import Ridge
from dinogen.evaluate.verdict import steering
from dinogen.evaluate.words import Told, texts_of_samples, words_report
from dinogen.networks import Generator
from dinogen.opening import load_generator
from dinogen.reader import load_reader
from dinogen.sample import sample_images
from helpers.crop_folder import make_crops
from helpers.text_models import save_clip
from helpers.training import flags
from helpers.worded import NARROW, save_worded
from launch import compare, evaluate
from launch.train import main as train
from shards.options import PackOptions
from shards.pack import pack_folder

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200), "white": (220, 220, 220)}
PLACES = ("above", "below", "left", "right")
COUNT = 40
RED = Attribute("red", "a red one", "another one", ("red",))


def draw_squares(count: int, seed: int) -> tuple[torch.Tensor, list[str]]:
    """Pictures that are brighter on one side and have a colour, uint8 `[count, 3, 16, 16]`, and what they show."""
    rng = torch.Generator().manual_seed(seed)
    images, texts = [], []
    for _ in range(count):
        colour, place = (list(names)[int(torch.randint(4, (), generator=rng))] for names in (COLOURS, PLACES))
        image = torch.tensor(COLOURS[colour]).view(3, 1, 1) * 0.6 + 25 * torch.rand(3, 16, 16, generator=rng)
        row, column = {"above": (slice(8), slice(16)), "below": (slice(8, 16), slice(16))}.get(
            place, (slice(16), slice(8) if place == "left" else slice(8, 16))
        )
        image[:, row, column] *= 1.5
        images.append(image)
        texts.append(f"a {colour} picture, bright {place}")
    return torch.stack(images).clamp(0, 255).byte(), texts


@pytest.fixture(scope="module")
def judges() -> Judges:
    return Judges(Detector())


@pytest.fixture(scope="module")
def reals(judges) -> Told:
    images, texts = draw_squares(3 * COUNT, seed=0)
    return Told(judges.look_at(images), texts)


@pytest.fixture(scope="module")
def samples(judges) -> Told:
    images, texts = draw_squares(COUNT, seed=1)
    return Told(judges.look_at(images), texts)


def captions_of(told: Told) -> list[tuple[str, ...]]:
    return [(text,) if text else () for text in told.texts]


def report_on(samples: Told, reals: Told) -> dict:
    found = words_report(samples, reals, captions_of(reals), COUNT, clip=None)
    assert found is not None
    return found[0]


# The map


def test_what_rows_get_from_fits_without_them_is_exact():
    rng = torch.Generator().manual_seed(0)
    inputs, noise = (torch.randn(30, 8, generator=rng, dtype=torch.float64) for _ in range(2))
    targets = inputs[:, :2] + 0.3 * noise[:, :2]
    weights = torch.rand(30, generator=rng, dtype=torch.float64) + 0.5
    whole = Ridge.fit(inputs, targets, weights)
    row = 7
    others = torch.arange(30) != row
    x, y, w = inputs[others], targets[others], weights[others]
    centre, offset = w @ x / w.sum(), w @ y / w.sum()
    cross = (x - centre).T * w
    penalty = whole.penalty * weights.sum() * torch.eye(8, dtype=torch.float64)
    slope = torch.linalg.solve(cross @ (x - centre) + penalty, cross @ (y - offset))
    assert torch.allclose(whole.held_out[row], (inputs[row] - centre) @ slope + offset)
    assert (whole(inputs) - targets).square().sum() < (whole.held_out - targets).square().sum()


# R-precision and the joint distance


def test_the_own_caption_is_compared_with_99_others():
    fits = torch.zeros(1, 300)
    fits[0, :150] = torch.linspace(2, 1, 150)
    own = torch.tensor([40])
    without, containing = torch.arange(100, 200)[None], torch.arange(100)[None]
    hits = hits_among(fits, own, without)
    assert hits.first == 1 and hits.rank == 1
    hits = hits_among(fits, own, containing)
    assert hits.first == 0 and hits.rank == pytest.approx(59 / 99)
    better_at_last = torch.cat([without[:, :99], torch.tensor([[10]])], dim=1)
    assert hits_among(fits, own, better_at_last).first == 1, "the last of a hundred others is left out"
    hits = hits_among(torch.ones(1, 300), own, without)
    assert hits.first == 0 and hits.rank == 0.5, "equal ones count half"


def test_right_captions_are_found_and_shuffled_ones_are_not(samples, reals):
    report = report_on(samples, reals)
    assert report["different_captions"] == 16
    for block in (report, report["real_against_real"]):
        assert block["r_precision"] > 0.9 and block["caption_rank"] > 0.95
        assert block["r_precision_shuffled"] < 0.2 and 0.4 < block["caption_rank_shuffled"] < 0.6
    assert report["intervals"]["r_precision"][0] <= report["r_precision"] <= report["intervals"]["r_precision"][1]
    assert steering(report).startswith("Words steer the samples")


def test_the_joint_distance_rises_when_captions_are_shuffled(samples, reals):
    report = report_on(samples, reals)
    disobedient = report_on(samples.shuffled(), reals)
    assert report["frechet_joint_shuffled"] > 1.3 * report["frechet_joint"]
    assert disobedient["frechet_joint"] > 1.3 * report["frechet_joint"]
    assert disobedient["r_precision"] < 0.2
    assert steering(disobedient).startswith("Words hardly steer the samples")


def test_real_images_are_judged_by_maps_that_were_fitted_without_them(reals):
    """Captions that say nothing about their images are not found."""
    texts = [f"{text} {number}" for number, text in enumerate(reals.shuffled().texts)]
    judge = CaptionJudge.fit(reals.images, [(text,) for text in texts])
    assert judge is not None
    figures, _ = judge.judged(judge.reals, texts)
    assert figures["caption_rank"] < 0.65
    assert judge.figures(reals.images, texts)[0]["caption_rank"] > 0.7, "those that it was fitted to are"


def test_all_captions_of_an_image_teach_the_judge(reals):
    """Each says but half of it."""
    halves = [tuple(text.split(", ")) for text in reals.texts if text]
    judge = CaptionJudge.fit(reals.images, halves)
    assert judge is not None and len(judge.texts) == 8
    assert judge.judged(judge.reals, [its[0] for its in halves])[0]["r_precision_shuffled"] < 0.2
    for half in range(2):
        assert judge.judged(judge.reals, [its[half] for its in halves])[0]["caption_rank"] > 0.9


def test_too_few_captions_or_all_the_same_are_not_judged(reals):
    assert CaptionJudge.fit(reals.images, [("a picture",)] * len(reals.texts)) is None
    assert CaptionJudge.fit(reals.images, [*captions_of(reals)[:11], *[()] * (3 * COUNT - 11)]) is None


def test_samples_get_the_captions_of_the_images_that_stand_in_their_place():
    assert texts_of_samples(list("abcdef"), 2, 3) == ["c", "d", "e"]
    assert texts_of_samples(list("abcd"), 2, 4) == ["c", "d", "a", "b"]


# Attributes


def test_a_classifier_knows_an_attribute_and_finds_out_who_does_not_obey(judges, reals, samples):
    classifier = Classifier.fit(RED, reals.images, captions_of(reals))
    assert min(classifier.right.values()) > 0.95 and "a red one" in classifier.ceiling
    red = [number for number, text in enumerate(samples.texts) if text and "red" in text]
    others = [number for number in range(COUNT) if number not in red]
    asked = {RED.prompt: samples.images.rows(red), RED.other: samples.images.rows(others)}
    ours, real = obedience(classifier, asked)
    assert min(ours["obeys_red"].values()) > 0.9 and real["obeys_red"] == classifier.right
    for prompt in asked:
        assert 0.7 < ours["diversity_red"][prompt] < 1.3 and ours["coverage_red"][prompt] > 0.3
    alike = samples.images.rows([red[0]] * 10)
    ours, _ = obedience(classifier, {RED.prompt: alike, RED.other: alike})
    assert ours["obeys_red"] == {RED.prompt: 1, RED.other: 0}
    assert ours["diversity_red"][RED.prompt] < 1e-3 and ours["coverage_red"][RED.other] < 0.3


def test_labels_that_captions_do_not_bear_out_have_a_low_ceiling(reals):
    shuffled = captions_of(reals.shuffled())
    classifier = Classifier.fit(RED, reals.images, shuffled)
    fitted = [classifier.obeys(having, prompt).mean().item() for prompt, having in classifier.having.items()]
    assert sum(classifier.right.values()) / 2 < 0.65 < sum(fitted) / 2, "it knows those that it was fitted to"


@pytest.mark.parametrize(
    ("caption", "shown"),
    [
        ("A man with Glasses.", True),
        ("a man with eyeglasses", None),
        ("a man with no glasses", False),
        ("a man", None),
    ],
)
def test_captions_say_by_whole_words_what_is_shown(caption, shown):
    assert Attribute("glasses", "", "", ("glasses",), ("no glasses",)).shown([caption]) is shown


def test_without_negative_words_silence_means_no():
    attribute = Attribute("glasses", "", "", ("glasses",))
    assert attribute.shown(["a man"]) is False
    assert attribute.shown([]) is None
    assert attribute.shown(["a man", "a man in glasses"]) is True


GOOD = {"prompt": "a man with glasses", "other": "a man", "positive": ["glasses"]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"glasses": GOOD | {"prompt": ""}}, "glasses.prompt must be a text"),
        ({"glasses": GOOD | {"other": False}}, "glasses.other must be a text"),
        ({"glasses": GOOD | {"other": "a man  with glasses"}}, "glasses.other must be another text"),
        ({"glasses": GOOD | {"positive": "glasses"}}, "glasses.positive must be a list"),
        ({"glasses": GOOD | {"positive": []}}, "glasses.positive is missing"),
        ({"glasses": GOOD | {"negative": ["..."]}}, "glasses.negative must be a list of texts"),
        ({"glasses": GOOD | {"words": ["glasses"]}}, "glasses.words is not known"),
        ({"glasses": ["glasses"]}, "glasses needs keys and values"),
        ({"with glasses": GOOD}, "with glasses is not a name"),
        ([GOOD], "no attributes"),
        ("{", "not YAML or JSON"),
        (None, "cannot be read"),
    ],
)
def test_a_bad_attribute_is_refused_in_one_line(tmp_path, capsys, content, said):
    path = tmp_path / "attributes.yaml"
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    arguments = ["--model", "none", "--attributes", str(path), "--output", str(tmp_path / "report.json")]
    assert evaluate.main(arguments) == 2
    line = capsys.readouterr().err.strip()
    assert "\n" not in line and f"--attributes {path}: {said}" in line


def test_attributes_are_read(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "glasses: {prompt: ' a  man with glasses', other: a man, positive: [glasses], negative: [no glasses]}\n"
    )
    (found,) = read_attributes(tmp_path / "a.yaml")
    assert found == Attribute("glasses", "a man with glasses", "a man", ("glasses",), ("no glasses",))


# Reports


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captioned")
    make_crops(folder / "crops", 32, captioned=True)
    pack_folder(folder / "crops", folder / "shards", PackOptions(teacher="tiny", shard_size=32, stages=[16]))
    return folder / "shards"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("worded") / "snapshot"
    save_worded(folder, "embedded")
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without words."""
    folder = tmp_path_factory.mktemp("plain") / "snapshot"
    Generator(**NARROW).save_pretrained(folder)
    return folder


def test_a_report_on_a_model_with_words(data, model, tmp_path, capsys):
    save_clip(tmp_path / "clip")
    hair = {"prompt": "a face with dark hair", "other": "a face with fair hair", "positive": ["dark"]}
    (tmp_path / "attributes.json").write_text(json.dumps({"hair": hair}))
    arguments = ["--model", str(model), "--data", str(data), "--count", "16", "--teacher", "none"]
    more = ["--clip", str(tmp_path / "clip"), "--attributes", str(tmp_path / "attributes.json")]
    assert evaluate.main([*arguments, *more, "--output", str(tmp_path / "report.json")]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    words = report["words"]
    assert 0 <= words["r_precision"] <= 1 and -1 <= words["clip_score"] <= 1
    assert words["obeys_hair"].keys() == {hair["prompt"], hair["other"]}
    assert words["real_against_real"].keys() | {"different_captions", "intervals", "real_against_real"} == words.keys()
    assert report["verdict"][-1] == steering(words) and "6 captions" in report["method"]["captions"]
    said = capsys.readouterr()
    assert "hair: of real images it was not fitted to" in said.err
    assert all(name in said.out for name in ("Words:", "r_precision", "frechet_joint", "obeys_hair", "clip_score"))
    page = (tmp_path / "report.html").read_text()
    assert "<h2>Words</h2>" in page and "Prompt by prompt" in page and "a face with fair hair and" in page

    reals = load_reference(data, 5000, 16)
    texts = texts_of_samples(reals.texts(), 16, 16)
    drawn = sample_images(load_generator(model), 16, 0, words=load_reader(model).in_turn(texts))
    alone = evaluate_images(drawn, reals.images)
    assert report["frechet_detector"] == pytest.approx(alone["frechet_detector"]), "drawn with captions of the data"


def test_a_sweep_of_guidance_is_plotted(data, model, tmp_path, capsys):
    hair = {"prompt": "a face with dark hair", "other": "a face with fair hair", "positive": ["dark"]}
    (tmp_path / "attributes.json").write_text(json.dumps({"hair": hair}))
    arguments = ["--model", str(model), "--data", str(data), "--count", "16", "--teacher", "none", "--sweep-guidance"]
    more = ["--attributes", str(tmp_path / "attributes.json"), "--output", str(tmp_path / "report.json")]
    assert evaluate.main([*arguments, *more]) == 0
    words = json.loads((tmp_path / "report.json").read_text())["words"]
    sweep = words["by_guidance"]
    assert [each["guidance"] for each in sweep] == [1, 1.5, 2, 2.5]
    assert sweep[0]["obeys"] == pytest.approx(sum(words["obeys_hair"].values()) / 2)
    assert sweep[0]["diversity"] == pytest.approx(sum(words["diversity_hair"].values()) / 2)
    assert len({each["diversity"] for each in sweep}) == 4, "each is drawn with its own guidance"
    assert "share of samples as asked" in (tmp_path / "report.html").read_text()
    assert evaluate.main(arguments) == 2
    assert "give --attributes too" in capsys.readouterr().err


def test_guidance_is_part_of_the_terms(data, model, plain, tmp_path, capsys):
    arguments = ["--data", str(data), "--count", "16", "--teacher", "none", "--output", str(tmp_path / "report.json")]
    assert evaluate.main(["--model", str(model), "--guidance", "2", *arguments]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    reals = load_reference(data, 5000, 16)
    words = load_reader(model).in_turn(texts_of_samples(reals.texts(), 16, 16), 2.0)
    drawn = sample_images(load_generator(model), 16, 0, words=words)
    assert report["guidance"] == 2
    assert report["frechet_detector"] == pytest.approx(evaluate_images(drawn, reals.images)["frechet_detector"])
    for refused, guidance, said in ((model, "3", "learned guidance from 1 to 2.5"), (plain, "2", "without words")):
        capsys.readouterr()
        assert evaluate.main(["--model", str(refused), "--guidance", guidance, *arguments]) == 2
        assert said in capsys.readouterr().err


def test_models_with_and_without_words_are_compared(data, shards32, model, plain, tmp_path, capsys):
    arguments = ["--model", str(model), str(plain), "--count", "12", "--teacher", "none"]
    assert compare.main([*arguments, "--data", str(data), "--output", str(tmp_path / "both")]) == 0
    assert "r_precision" in capsys.readouterr().out
    assert "<h2>Words</h2>" in (tmp_path / "both" / "compare.html").read_text()
    arguments = ["--model", str(model), "--count", "12", "--teacher", "none", "--output", str(tmp_path / "r.json")]
    assert evaluate.main([*arguments, "--data", str(shards32)]) == 0
    assert "too few captions to judge words by" in capsys.readouterr().err
    assert "words" not in json.loads((tmp_path / "r.json").read_text())


def test_attributes_that_do_not_fit_are_refused_before_anything_is_drawn(data, model, plain, tmp_path, capsys):
    (tmp_path / "attributes.json").write_text(json.dumps({"hat": GOOD | {"positive": ["a hat"]}}))
    more = ["--attributes", str(tmp_path / "attributes.json"), "--output", str(tmp_path / "report.json")]
    assert evaluate.main(["--model", str(model), "--data", str(data), *more]) == 2
    said = capsys.readouterr().err.strip()
    line = said.splitlines()[-1]
    assert "looking for faces" not in said
    assert "hat.positive: the captions of 9 of 32 real images say so" in line
    assert evaluate.main(["--model", str(plain), *more]) == 2
    assert "trained without words" in capsys.readouterr().err
    assert not (tmp_path / "report.json").exists()


# Runs


def points(run: Path, tag: str) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    return {line["cur_nimg"]: line[tag] for line in lines if tag in line}


def test_a_run_says_at_every_snapshot_how_well_words_steer(data, tmp_path):
    more = ["--words.encoder=embedded", "--schedule.start_resolution=16", "--generator.img_resolution=16",
            "--schedule.total_kimg=0.064", "--saving.snapshot_kimg=0.032", "--saving.evaluate_kimg=0.064"]  # fmt: skip
    assert train(flags(data, tmp_path / "run", *more)) == 0
    found = [points(tmp_path / "run", f"metrics{real}/r_precision{shuffled}")
             for real in ("", "_real") for shuffled in ("", "_shuffled")]  # fmt: skip
    assert all(list(its) == [32, 64] for its in found) and all(0 <= x <= 1 for its in found for x in its.values())
    assert list(points(tmp_path / "run", "metrics/face_rate")) == [64], "a snapshot judges words alone"
    assert "words steer" in (tmp_path / "run" / "log.txt").read_text()
