"""Trained text models: their reader is opened again, and prompts steer what is drawn."""

import json
import shutil
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from dinogen.errors import DinogenError, UsageError
from dinogen.images import lines_of, said_of, titled
from dinogen.networks import Generator
from dinogen.opening import load_generator
from dinogen.reader import load_reader
from dinogen.sample import draw, interpolation_strip, latents, sample_images, style_mixing, word_loop, word_strip
from dinogen.text import Whitening
from helpers.text_models import save_bert, save_clip
from helpers.worded import NARROW, save_worded
from launch.cli import main

PROMPTS = ["a woman with red hair", "an old man", ""]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    save_clip(folder)
    return folder


@pytest.fixture(scope="module", params=["embedded", "clip"])
def model(request, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a snapshot; features look at CLIP's tokens, the embedded encoder has none."""
    run = tmp_path_factory.mktemp("run")
    save_worded(run / "snapshots" / "kimg000001.000", str(clip) if request.param == "clip" else "embedded")
    return run


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A model without text, alone in its folder."""
    Generator(**NARROW).save_pretrained(tmp_path / "plain", config=NARROW)
    return tmp_path / "plain"


@pytest.fixture
def snapshot(clip: Path, tmp_path: Path) -> Path:
    """One with CLIP that a test may spoil."""
    save_worded(tmp_path / "snapshot", str(clip))
    return tmp_path / "snapshot"


def apart(some: Tensor, others: Tensor) -> int:
    """Grey levels between images where they differ most."""
    return int((some.int() - others.int()).abs().max())


# ---- opening


def test_a_reader_is_opened_as_it_was_saved(tmp_path, clip):
    _, saved = save_worded(tmp_path / "snapshot", str(clip))
    for opened in (load_reader(tmp_path / "snapshot"), load_reader(tmp_path / "snapshot", "cpu", str(clip))):
        before, now = saved([*PROMPTS, None], 2.0), opened([*PROMPTS, None], 2.0)
        assert all(torch.equal(vars(before)[part], vars(now)[part]) for part in vars(before))
    assert now.guidance is not None and now.guidance.tolist() == [2, 2, 1, 1], "no words are not exaggerated"


def test_a_sample_is_a_function_of_its_number_and_its_words(model):
    generator, reader = load_generator(model), load_reader(model)
    first, second, null = (sample_images(generator, 5, 3, words=reader.in_turn([prompt])) for prompt in PROMPTS)
    assert apart(null, sample_images(generator, 5, 3)) == 0, "an empty prompt is none"
    assert min(apart(first, second), apart(first, null), apart(second, null)) > 10
    mixed = sample_images(generator, 6, 3, words=reader.in_turn(PROMPTS), batch_size=4)
    for number, alone in ((0, first), (1, second), (2, null), (3, first), (4, second)):
        assert apart(mixed[number], alone[number]) <= 1
    assert apart(sample_images(generator, 5, 3, words=reader.in_turn(PROMPTS[:1], 2.5)), first) > 10


def test_an_encoder_that_has_moved_can_be_named(snapshot, clip, tmp_path):
    notes = json.loads((snapshot / "words.json").read_text())
    (snapshot / "words.json").write_text(json.dumps(notes | {"encoder": str(tmp_path / "gone")}))
    with pytest.raises(DinogenError, match="gone: no text encoder here .*--encoder DIR"):
        load_reader(snapshot)
    shutil.copytree(clip, tmp_path / "copy")
    assert torch.equal(load_reader(snapshot, encoder=str(tmp_path / "copy"))(PROMPTS).pooled,
                       load_reader(snapshot, encoder=str(clip))(PROMPTS).pooled)  # fmt: skip


def test_another_encoder_is_refused(snapshot, tmp_path):
    save_bert(tmp_path / "bert")
    for other in (str(tmp_path / "bert"), "embedded"):
        with pytest.raises(DinogenError, match=f"'{other}' .* is not the one that the model was trained with"):
            load_reader(snapshot, encoder=other)


def test_a_model_without_words_has_no_reader(plain):
    with pytest.raises(UsageError, match=f"{plain}: .*without words"):
        load_reader(plain)


def spoil_tensors(path: Path, **changes: Tensor) -> None:
    save_file({name: value.clone() for name, value in load_file(path).items()} | changes, path)


def narrow(path: Path) -> None:
    """Another whitening, of vectors of another width, that the notes know."""
    other = Whitening(torch.zeros(5), torch.ones(5, 3))
    save_file(other.tensors(), path)
    spoil_json(path.with_name("words.json"), whitening=other.fingerprint)


def spoil_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("file", "spoil", "said"),
    [
        ("words.json", Path.unlink, "words.json is missing"),
        ("words.safetensors", Path.unlink, "words.safetensors is missing"),
        ("words.json", lambda path: path.write_text("[]"), "words.json: not the notes"),
        ("words.json", lambda path: spoil_json(path, attention="no"), "words.json: not the notes"),
        ("words.json", lambda path: spoil_json(path, encoder="x\n" * 9999), "words.json: not the notes"),
        ("words.json", lambda path: spoil_json(path, whitening="0" * 16), "do not fit each other"),
        ("words.json", lambda path: spoil_json(path, attention=False), "do not fit each other"),
        ("config.json", lambda path: spoil_json(path, text_dim=7), "do not fit each other"),
        ("words.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-9]), "words.safetensors: no whole"),
        ("words.safetensors", lambda path: spoil_tensors(path, mean=torch.zeros(5)), "do not fit each other"),
        ("words.safetensors", narrow, "do not fit each other"),
        ("words.safetensors", lambda path: spoil_tensors(path, mean=torch.full((12,), torch.nan)), "not finite"),
    ],
    ids=[
        "no notes",
        "no whitening",
        "list",
        "kind",
        "long",
        "other whitening",
        "tokens",
        "sizes",
        "cut",
        "shape",
        "width",
        "nan",
    ],
)
def test_words_that_are_broken_or_of_another_snapshot_are_one_line(snapshot, file, spoil, said):
    spoil(snapshot / file)
    with pytest.raises(DinogenError, match=said) as caught:
        load_reader(snapshot)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400 and "copy the whole snapshot again" in message


# ---- walks from words to words


def test_a_walk_begins_and_ends_with_the_samples_of_its_words_and_takes_small_steps(model):
    generator, reader = load_generator(model), load_reader(model)
    start, end = (reader([prompt]) for prompt in PROMPTS[:2])
    strip = word_strip(generator, start, end, rows=2, frames=41, seed=3).unflatten(0, (2, 41))
    for place, prompt in ((0, PROMPTS[0]), (-1, PROMPTS[1])):
        assert apart(strip[:, place], sample_images(generator, 2, 3, words=reader.in_turn([prompt]))) <= 1
    steps = strip.float().diff(dim=1).flatten(2).norm(dim=2)
    assert steps.max() < 0.2 * (strip[:, 0].float() - strip[:, -1].float()).flatten(1).norm(dim=1).min()
    null = word_strip(generator, start, reader([""]), rows=2, frames=2, seed=3).unflatten(0, (2, 2))
    assert apart(null[:, 1], sample_images(generator, 2, 3)) <= 1


def test_a_walk_between_faces_keeps_the_words_of_its_row(model):
    generator, reader = load_generator(model), load_reader(model)
    strip = interpolation_strip(generator, 2, 5, 3, words=reader.in_turn(PROMPTS)).unflatten(0, (2, 5))
    for row, prompt in enumerate(PROMPTS[:2]):
        samples = sample_images(generator, 4, 3, words=reader.in_turn([prompt]))
        assert apart(strip[row, [0, -1]], samples[2 * row : 2 * row + 2]) <= 1


def test_mixed_styles_begin_with_samples_and_their_words(model):
    generator, reader = load_generator(model), load_reader(model)
    table = style_mixing(generator, [0, 1], [2], 3, words=reader.in_turn(PROMPTS)).unflatten(0, (3, 2))
    samples = sample_images(generator, 3, 3, words=reader.in_turn(PROMPTS))
    assert apart(torch.stack([table[1, 0], table[2, 0], table[0, 1]]), samples) <= 1
    w = generator.style(latents(3, 0, 3, generator.z_dim), words=reader(PROMPTS))
    blocks = torch.stack([w[1], w[2], w[2]])[None]  # of the blocks 4, 8 and 16 the first is the coarse half
    assert apart(table[2, 1], draw(generator, blocks, reader([PROMPTS[1]]))[0]) <= 1


def test_a_film_of_words_goes_there_and_back(model):
    generator, reader = load_generator(model), load_reader(model)
    start, end = reader([PROMPTS[0]], 2.0), reader([PROMPTS[1]], 2.0)
    frames = torch.stack(list(word_loop(generator, start, end, frames=40, seed=3)))
    ends = word_strip(generator, start, end, rows=1, frames=2, seed=3)
    assert apart(frames[0], ends[0]) <= 1 and apart(frames[20], ends[1]) <= 1
    assert apart(frames[1:20], frames[21:].flip(0)) <= 1
    steps = (frames.roll(-1, 0).float() - frames.float()).flatten(1).norm(dim=1)
    assert steps.max() < 0.3 * (ends[0].float() - ends[1].float()).norm()


# ---- the verbs


def run_verb(capsys, verb: str, model: Path, *flags: str, code: int = 0) -> str:
    assert main([verb, "--model", str(model), *flags]) == code
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err


def test_one_prompt_is_kept_in_each_file_and_stands_above_the_grid(model, tmp_path, capsys):
    out = tmp_path / "out"
    run_verb(
        capsys, "sample", model, "--output", str(out), "--count", "3", "--prompt", "  a hät,\n red ", "--seed", "4"
    )
    assert sorted(path.name for path in out.iterdir()) == ["grid.png"] + [f"seed0004-{i:06d}.png" for i in range(3)]
    assert (said_of(out / "seed0004-000002.png") or "").endswith(
        ", seed 4, truncation_psi 1, guidance 1, prompt: a hät, red"
    )
    page = np.array(Image.open(out / "grid.png"))
    assert page.shape == (24 + 128, 480, 3) and page[:24].min() < 60, "words above the faces"
    other = ("--output", str(out), "--count", "2", "--prompt", "another", "--seed", "4")
    err = run_verb(capsys, "sample", model, *other, code=2)
    assert "has 3 samples of another seed, model, truncation or prompt, such as seed0004-000000.png" in err


def test_several_prompts_share_their_noise_and_stand_in_rows(model, tmp_path, capsys):
    out = tmp_path / "out"
    run_verb(capsys, "sample", model, "--output", str(out), "--count", "3", "--prompt", *PROMPTS[:2], "--prompt", "")
    names = [f"prompt{p:04d}-seed0000-{i:06d}.png" for p in range(3) for i in range(3)]
    assert sorted(path.name for path in out.iterdir()) == ["grid.png", *names]
    generator, reader = load_generator(model), load_reader(model)
    for number, prompt in enumerate(PROMPTS):
        alone = sample_images(generator, 3, 0, words=reader.in_turn([prompt]))
        for i in range(3):
            path = out / f"prompt{number:04d}-seed0000-{i:06d}.png"
            assert apart(torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1), alone[i]) <= 1
            assert (said_of(path) or "").endswith(f"prompt: {prompt}")
    page = np.array(Image.open(out / "grid.png"))
    assert page.shape == (3 * (24 + 128) + 2 * 24, 480, 3)
    for row in range(3):
        top = row * (24 + 128 + 24)
        assert page[top : top + 24].min() < 60 and (page[top + 24 : top + 24 + 128, 390:] == 255).all()


def test_a_file_has_a_prompt_a_line(model, tmp_path, capsys):
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeffa man\r\n\r\n   \r\n a woman, \u2028old \r\nglasses".encode())
    run_verb(capsys, "sample", model, "--output", str(tmp_path / "out"), "--count", "1", "--prompts", str(file))
    kept = [(said_of(path) or "").partition("prompt: ")[2] for path in sorted((tmp_path / "out").glob("prompt*"))]
    assert kept == ["a man", "a woman, old", "glasses"]
    for content, said in ((b"a man\n\xff\xfe\n", "line 2"), (b"\n \n", "no prompts here"), (None, "cannot be read")):
        file.unlink() if content is None else file.write_bytes(content)
        err = run_verb(capsys, "sample", model, "--prompts", str(file), code=2)
        assert err.count("\n") == 1 and f"{file}: {said}" in err


def test_what_is_too_long_is_cut_and_said(model, tmp_path, capsys):
    long = "a man " * 40
    said = run_verb(capsys, "sample", model, "--output", str(tmp_path), "--count", "1", "--prompt", long, "--quiet")
    assert ("tokens is cut at 24" in said) == (load_generator(model).synthesis.attention.keys() != set())


def test_a_strip_and_a_film_from_words_to_words(model, tmp_path, capsys):
    ways = ["--from", "a man", "--to", "a woman with red hair", "--guidance", "2"]
    run_verb(capsys, "interpolate", model, "--output", str(tmp_path / "a.png"), *ways, "--frames", "4", "--faces", "2")
    page = np.array(Image.open(tmp_path / "a.png"))
    assert page.shape == (24 + 2 * 128 + 2, 4 * 128 + 6, 3) and page[:24].min() < 60
    run_verb(capsys, "interpolate", model, "--output", str(tmp_path / "a.mp4"), *ways, "--frames", "6")
    assert imageio.imread(tmp_path / "a.mp4").shape == (6, 256, 256, 3)


@pytest.mark.parametrize(
    ("verb", "flags", "said"),
    [
        ("sample", ["--prompt", "a man"], "without words"),
        ("sample", ["--prompt", "a man", "--guidance", "2"], "without words"),
        ("interpolate", ["--from", "a man", "--to", ""], "without words"),
        ("sample", ["--guidance", "2"], "give --prompt or --prompts too"),
        ("sample", ["--encoder", "embedded"], "give --prompt or --prompts too"),
        ("sample", ["--guidance", "0.5", "--prompt", "a"], "--guidance 0.5: give a number, at least 1"),
        ("sample", ["--prompt", "a man", "--prompts", "file"], "give one of them"),
        ("sample", ["--prompt", "a \udcff"], "--prompt: cannot be read as UTF-8"),
        ("interpolate", ["--from", "a man"], "give both --from and --to"),
        ("interpolate", ["--to", "a man"], "give both --from and --to"),
        ("interpolate", ["--guidance", "2"], "give --from and --to too"),
        ("interpolate", ["--from", "", "--to", "a", "--faces", "3", "--output", "a.gif"], "shows one face"),
    ],
)
def test_words_that_cannot_be_used_are_refused_before_anything_is_written(
    plain, capsys, monkeypatch, verb, flags, said
):
    monkeypatch.chdir(plain.parent)
    err = run_verb(capsys, verb, plain, *flags, code=2)
    assert err.count("\n") == 1 and said in err
    assert [path.name for path in plain.parent.iterdir()] == [plain.name]


def test_guidance_that_was_not_learned_is_refused_before_anything_is_written(tmp_path, capsys):
    for number, (learned, given, said) in enumerate(
        ((1.0, "2", "no guidance"), (2.5, "inf", "guidance from 1 to 2.5"))
    ):
        save_worded(tmp_path / str(number), "embedded", guidance=learned)
        ways = ["--guidance", given, "--output", str(tmp_path / "out.png")]
        for verb, words in (("sample", ["--prompt", "a"]), ("interpolate", ["--from", "a", "--to", "b"])):
            err = run_verb(capsys, verb, tmp_path / str(number), *words, *ways, code=2)
            assert f"guidance {given}: this model has learned {said}" in err.splitlines()[-1]
        assert not (tmp_path / "out.png").exists()


def test_titles_are_broken_into_lines_and_end():
    lines = lines_of("a woman with red hair and " * 12, 300, 16)
    assert len(lines) == 6 and lines[-1].endswith(" …") and lines[0].startswith("a woman with red hair")
    assert lines_of("x" * 10**6, 300, 16)[0].startswith("xxx")
    assert lines_of("short", 300, 16) == ["short"] and lines_of("", 300, 16) == [""]
    with pytest.raises(ValueError, match="zip"):
        titled([Image.new("RGB", (9, 9))], [])
