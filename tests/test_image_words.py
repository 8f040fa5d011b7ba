"""Text without captions: training on CLIP's embeddings of the images makes a model that prompts steer."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dinogen.data.loader import load_embeddings
from dinogen.opening import load_generator
from dinogen.reader import load_reader
from dinogen.sample import sample_images
from dinogen.text import Whitening, make_text_encoder
from dinogen.train.trainer import Trainer
from dinogen.train.wording import NOISE, ImageWording, with_noise
from helpers.coloured import COLOURS, make_coloured_crops, nearest_colour, save_clip_of_colours
from helpers.text_models import save_clip
from helpers.training import complaint, flags
from launch.train import build_parser, main, make_config
from shards.options import PackOptions
from shards.pack import pack_folder

SHORT = ["--schedule.start_resolution=16", "--generator.img_resolution=16", "--words.source=images"]
PROMPTS = [f"a {colour} picture" for colour in COLOURS]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One in whose space red pictures lie near the word red."""
    folder = tmp_path_factory.mktemp("clip")
    save_clip_of_colours(folder)
    return folder


@pytest.fixture(scope="module")
def coloured16(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 coloured crops without captions."""
    folder = tmp_path_factory.mktemp("coloured16")
    make_coloured_crops(folder / "crops", 96)
    pack_folder(folder / "crops", folder / "shards", PackOptions(stages=[16], clip=str(clip)))
    return folder / "shards"


def trainer_of(data: Path, output: Path, *more: str) -> Trainer:
    parser = build_parser()
    return Trainer(make_config(parser, parser.parse_args(flags(data, output, *SHORT, *more))))


def wording_of(trainer: Trainer) -> ImageWording:
    assert isinstance(trainer.wording, ImageWording)
    return trainer.wording


def test_a_prompt_lies_where_noisy_embeddings_of_such_pictures_lie(coloured16, clip):
    """The whitening leaves out where there is noise alone; one fitted to noisy vectors mixes colours up."""
    embeddings = load_embeddings(coloured16, 96).float()
    prompts = make_text_encoder(str(clip))(PROMPTS).pooled
    colour = (embeddings @ prompts.T).argmax(dim=1)
    noise = torch.randn(64 * 96, embeddings.shape[1], generator=torch.Generator().manual_seed(0))
    noisy, which = with_noise(embeddings.repeat(64, 1), noise), colour.repeat(64)
    assert F.cosine_similarity(noisy, embeddings.repeat(64, 1)).mean() == pytest.approx(0.1**0.5, abs=0.01)

    def found(whitening: Whitening) -> float:
        return float(((whitening(noisy) @ whitening(prompts).T).argmax(dim=1) == which).float().mean())

    assert found(Whitening.fit(embeddings, noise=NOISE**2 / embeddings.shape[1])) > 0.95
    assert found(Whitening.fit(noisy)) < 0.8


def test_words_of_generated_images_are_drawn_anew_and_independently_of_the_reals(coloured16, clip, tmp_path):
    wording = wording_of(trainer_of(coloured16, tmp_path, f"--words.encoder={clip}", "--words.drop=0.25"))
    reals = [wording.noisy(wording.embeddings[first : first + 16]) for first in (0, 16)]
    state = wording.rng.get_state()
    words, captions = wording.of_step(reals[0], 16)
    wording.rng.set_state(state)
    assert torch.equal(words.pooled, wording.of_step(reals[1], 16)[0].pooled), "whatever the reals are"
    assert words.tokens is None and torch.equal(words.pooled, captions.generated)
    lengths = torch.cat([wording.of_step(reals[0], 64)[1].generated.norm(dim=1) for _ in range(8)])
    assert 0.15 < (lengths == 0).float().mean() < 0.35, "a quarter is drawn without words"
    torch.testing.assert_close(lengths[lengths > 0], torch.ones(int((lengths > 0).sum())))
    wording.settings.drop = 0.0
    one, other = (wording.reader(wording.picked(torch.zeros(16, dtype=torch.int64))).pooled for _ in range(2))
    assert not torch.equal(one, other) and len(one.unique(dim=0)) == 16, "noise is drawn anew"
    assert torch.equal(wording.shown(3, 2).pooled, wording.shown(0, 200).pooled[3:5]), "but not for people"


def test_a_run_that_was_interrupted_continues_bitwise(coloured16, clip, tmp_path, capsys):
    """In the warm-up too; its snapshot takes prompts."""
    more = [f"--words.encoder={clip}", "--warmup.stage_kimg={16: 0.016}", "--warmup.batch=8"]
    ends = {"whole": [0.064], "parts": [0.008, 0.064]}
    for run, stops in ends.items():
        for end in stops:
            assert main(flags(coloured16, tmp_path / run, *SHORT, *more, f"--schedule.total_kimg={end}")) == 0
    assert "words.attention is off" in capsys.readouterr().out
    whole, parts = (load_generator(tmp_path / run).state_dict() for run in ends)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert whole["caption.pooled.weight"].any() and not any("attention" in name for name in whole)
    words = load_reader(tmp_path / "whole")(PROMPTS)
    assert words.tokens is None and len(words.pooled.unique(dim=0)) == len(PROMPTS)


@pytest.mark.slow
def test_prompts_steer_a_model_that_never_saw_a_caption(coloured16, clip, tmp_path):
    """At chance a quarter of the pictures would have the colour that the prompt names."""
    settings = ["--batches.generated=16", "--batches.real=32", "--optimizer.rampup_kimg=0", "--optimizer.ema_kimg=0.2"]
    settings += ["--optimizer.learning_rate=1e-2", "--schedule.total_kimg=9.6", "--saving.log_kimg=10"]
    assert main(flags(coloured16, tmp_path, *SHORT, f"--words.encoder={clip}", *settings)) == 0
    generator, reader = load_generator(tmp_path), load_reader(tmp_path)
    right = [
        (nearest_colour(sample_images(generator, 32, seed=1, words=reader.in_turn([prompt]))) == number).float().mean()
        for number, prompt in enumerate(PROMPTS)
    ]
    assert min(right) > 0.5 and sum(right) / len(right) > 0.7, right


def test_what_does_not_fit_is_refused_in_one_line(coloured16, shards32, clip, tmp_path, capsys):
    def refused(data: Path, *more: str) -> str:
        return complaint(capsys, flags(data, tmp_path / "new", *SHORT, *more), 1)

    assert f"{shards32}: holds no embeddings" in refused(shards32, f"--words.encoder={clip}")
    other = tmp_path / "other"
    other.mkdir()
    save_clip(other, width=128)
    for encoder in (str(other), "embedded"):
        said = refused(coloured16, f"--words.encoder={encoder}")
        assert f"words.encoder {encoder} is not the CLIP" in said and f"give that one ({clip})" in said
    mixed = tmp_path / "mixed"  # an image half of the same CLIP, a text half of another
    shutil.copytree(coloured16, mixed)
    manifest = json.loads((mixed / "manifest.json").read_text())
    manifest["embedder"]["text_fingerprint"] = make_text_encoder(str(other)).fingerprint
    (mixed / "manifest.json").write_text(json.dumps(manifest))
    assert "is not the CLIP whose embeddings" in refused(mixed, f"--words.encoder={clip}")
    assert not (tmp_path / "new").exists()
    said = complaint(capsys, flags(coloured16, tmp_path / "new", *SHORT[:2], f"--words.encoder={clip}"), 1)
    assert "no sample has a caption" in said and "words.source images" in said


def test_the_source_of_a_run_cannot_change(coloured16, clip, tmp_path, capsys):
    start = flags(coloured16, tmp_path / "run", *SHORT[:2], f"--words.encoder={clip}")
    assert main([*start, "--words.source=images", "--schedule.total_kimg=0.016"]) == 0
    said = complaint(capsys, [*start, "--schedule.total_kimg=0.032"], 1)
    assert "was started with words.source images" in said
