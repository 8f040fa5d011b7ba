"""Trained text models: their reader is opened again, and prompts steer what is drawn."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dinogen.errors import DinogenError, UsageError
from dinogen.networks import Generator
from dinogen.opening import load_generator
from dinogen.reader import load_reader
from dinogen.sample import sample_images
from helpers.text_models import save_bert, save_clip
from helpers.worded import NARROW, save_worded

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
    assert apart(sample_images(generator, 5, 3, words=reader.in_turn(PROMPTS[:1], 3.0)), first) > 10


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


def test_a_model_without_words_has_no_reader(tmp_path):
    Generator(**NARROW).save_pretrained(tmp_path, config=NARROW)
    with pytest.raises(UsageError, match=f"{tmp_path}: .*without words"):
        load_reader(tmp_path)


def spoil_tensors(path: Path, **changes: Tensor) -> None:
    save_file({name: value.clone() for name, value in load_file(path).items()} | changes, path)


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
        "nan",
    ],
)
def test_words_that_are_broken_or_of_another_snapshot_are_one_line(snapshot, file, spoil, said):
    spoil(snapshot / file)
    with pytest.raises(DinogenError, match=said) as caught:
        load_reader(snapshot)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400 and "copy the whole snapshot again" in message
