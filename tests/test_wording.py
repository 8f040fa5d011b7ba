"""Runs with words: captions in training, what a run keeps of them, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dinogen.images import to_uint8
from dinogen.opening import load_generator
from dinogen.reader import load_reader
from dinogen.train.trainer import Trainer
from helpers.text_models import save_bert, save_clip, save_siglip
from helpers.training import complaint, flags, newest
from launch.train import build_parser, main, make_config

SHORT = ["--schedule.start_resolution=16", "--generator.img_resolution=16", "--words.drop=0.25"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    save_bert(folder)
    return folder


def trainer_of(data: Path, output: Path, *more: str) -> Trainer:
    parser = build_parser()
    return Trainer(make_config(parser, parser.parse_args(flags(data, output, *SHORT, *more))))


def weights_at(run: Path, nimg: int) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"nimg{nimg:012d}" / "generator.safetensors")


@pytest.mark.parametrize("encoder", ["clip", pytest.param("siglip", marks=pytest.mark.slow), "embedded"])
def test_a_run_that_was_interrupted_continues_bitwise(captioned32, tmp_path, encoder):
    """Words also learn, in the style and, with an encoder that has tokens, in the attention; then prompts are read."""
    attention = encoder != "embedded"
    if attention:
        (tmp_path / encoder).mkdir()
        {"clip": save_clip, "siglip": save_siglip}[encoder](tmp_path / encoder)
    more = [f"--words.encoder={tmp_path / encoder if attention else encoder}"]
    trainer_of(captioned32, tmp_path / "whole", *more, "--schedule.total_kimg=0.064").train()
    for end in (0.032, 0.064):
        trainer_of(captioned32, tmp_path / "parts", *more, f"--schedule.total_kimg={end}").train()
    whole, parts = (weights_at(tmp_path / run, 64) for run in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert whole["caption.pooled.weight"].any(), "captions join the style"
    looks = [name for name in whole if name.startswith("synthesis.attention.") and name.endswith("out.weight")]
    assert bool(looks) == attention
    assert all(whole[name].any() for name in looks)
    snapshot = newest(tmp_path / "whole" / "snapshots", "kimg*")
    settings, notes = (json.loads((snapshot / name).read_text()) for name in ("config.json", "words.json"))
    assert settings["token_dim"] == (16 if attention else 0) and notes["encoder"] == more[0].partition("=")[2]
    generator, reader = load_generator(snapshot), load_reader(snapshot)
    z = torch.randn(2, 16)
    some, others = (generator(z, words=reader([prompt] * 2)) for prompt in ("a hat", "a beard"))
    assert not torch.equal(some, others), "prompts steer"


def test_images_of_the_step_before_are_kept_with_their_captions(captioned32, tmp_path):
    """So a run that was interrupted continues bitwise."""
    more = ["--words.encoder=embedded", "--objective.negatives=previous"]
    trainer_of(captioned32, tmp_path / "whole", *more, "--schedule.total_kimg=0.096").train()
    for end in (0.048, 0.096):
        trainer_of(captioned32, tmp_path / "parts", *more, f"--schedule.total_kimg={end}").train()
    kept = load_file(tmp_path / "parts" / "checkpoints" / "nimg000000000096" / "before_sinkhorn.safetensors")
    assert kept["captions/vectors"].any() and int(kept["stage/resolution"]) == 16
    assert {len(part) for name, part in kept.items() if name != "stage/resolution"} == {8}
    whole, parts = (weights_at(tmp_path / run, 96) for run in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    trainer_of(captioned32, tmp_path / "batch", more[0], "--schedule.total_kimg=0.096").train()
    assert not all(torch.equal(whole[name], value) for name, value in weights_at(tmp_path / "batch", 96).items())


def test_captions_of_generated_images_are_independent_of_the_reals(captioned32, tmp_path):
    trainer = trainer_of(captioned32, tmp_path, "--words.encoder=embedded")
    wording = trainer.wording
    assert wording is not None
    real = wording.captions[:16]
    state = wording.rng.get_state()
    words, captions = wording.of_step(real, 16)
    assert torch.equal(words.pooled, captions.generated)
    wording.rng.set_state(state)
    others, _ = wording.of_step(wording.captions[8:24], 16)
    assert torch.equal(words.pooled, others.pooled), "whatever the reals are"
    null = torch.cat([wording.of_step(real, 64)[0].pooled for _ in range(8)]).any(dim=1).logical_not().float().mean()
    assert 0.24 < null < 0.46, f"{null:.2f} have none: 1/8 of the data set's, and a quarter of the others"
    wording.settings.drop = 0.0
    kept = wording.of_step(real, 16)[1].real
    assert torch.equal(kept, wording.reader.vectors(real)) and torch.equal(kept, wording.of_reals(real).pooled)


def test_half_of_the_steps_are_guided(captioned32, tmp_path):
    wording = trainer_of(captioned32, tmp_path, "--words.encoder=embedded", "--words.guidance=2.5").wording
    assert wording is not None
    steps = [wording.of_step(wording.captions[:16], 16) for _ in range(60)]
    drawn = [words.guidance for words, _ in steps if words.guidance is not None]
    assert 20 <= len(drawn) <= 40, "in the others nothing is exaggerated"
    alphas = torch.stack([each.max() for each in drawn])
    assert alphas.min() > 1 and alphas.max() <= 2.5 and alphas.std() > 0.3, "from step to step another one"
    for words, captions in steps:
        assert captions.alphas is words.guidance
        if words.guidance is not None:
            assert (words.guidance[~words.pooled.any(dim=1)] == 1).all()


def test_an_image_of_the_warm_up_is_drawn_with_its_own_caption(captioned32, tmp_path):
    trainer = trainer_of(captioned32, tmp_path, "--words.drop=0", "--warmup.stage_kimg={16: 1}", "--warmup.batch=8")
    batches, stage = next(trainer.one_stage())
    drawn = []
    trainer.network.register_forward_pre_hook(lambda _, __, options: drawn.append(options["words"]), with_kwargs=True)
    trainer.train_step(batches, stage)
    assert trainer.wording is not None
    assert torch.equal(drawn[0].pooled, trainer.wording.reader.vectors(batches[0].captions))


def test_codes_of_the_warm_up_leave_out_what_any_caption_of_the_image_says(captioned32, tmp_path):
    """Else latents decide about what the drawn caption does not mention, and then also where one does."""
    trainer = trainer_of(captioned32, tmp_path, "--words.drop=0.5", "--warmup.stage_kimg={16: 1}", "--warmup.batch=8")
    batches, _ = next(trainer.one_stage())
    batch, wording, given = batches[0], trainer.wording, []
    assert wording is not None
    batch.all_captions[:3] = [(), ("a hat",), ("a hat", "a beard")]
    vectors = wording.reader.vectors(["a hat", "a beard"])
    wholes = wording.wholes(batch)
    torch.testing.assert_close(wholes[:3], torch.stack([torch.zeros_like(vectors[0]), vectors[0], vectors.mean(dim=0)]))
    trainer.comparer.coder = lambda stored, captions: given.append(captions) or torch.zeros(8, 4)  # type: ignore
    words = wording.of_reals(batch.captions)
    trainer.comparer.coded(batch, torch.zeros(8, 16), words)
    told = words.pooled.any(dim=1)
    assert torch.equal(given[0][told], wholes[told]) and not given[0][~told].any(), "or they tell all"
    assert 0 < told.sum() < 8


def test_pictures_are_drawn_with_the_captions_of_the_data(captioned32, tmp_path):
    trainer = trainer_of(captioned32, tmp_path, "--words.encoder=embedded")
    assert trainer.G_ema.caption is not None and trainer.wording is not None
    torch.nn.init.normal_(trainer.G_ema.caption.pooled.weight)
    preview = trainer.make_monitor().preview
    with_words, _ = preview.draw(trainer.G_ema, trainer.stage)
    preview.prompt_words = trainer.wording.reader(preview.prompts[:1] * len(preview.prompts))
    assert preview.table(trainer.G_ema, trainer.stage).tobytes() != with_words["5_prompts"].tobytes(), (
        "each row its own"
    )
    preview.words, preview.prompt_words = None, trainer.wording.reader([None] * len(preview.prompts))
    without, _ = preview.draw(trainer.G_ema, trainer.stage)
    for name in ("1_generated", "4_interpolation", "5_prompts"):
        assert with_words[name].tobytes() != without[name].tobytes()
    assert with_words["2_real"].tobytes() == without["2_real"].tobytes()


def test_captions_for_people_are_frequent_and_differ_most(captioned32, tmp_path):
    wording = trainer_of(captioned32, tmp_path, "--words.encoder=embedded").wording
    assert wording is not None
    alike = ["an old man in a hat", "an old man, in a hat", "an old man in a hat!", "an old man in a hat."]
    wording.captions = [*alike, "a smiling girl", None, "a bald man", "a smiling girl", None, None]
    assert set(wording.prompts(3)) == {"a smiling girl", "a bald man", wording.prompts(3)[1]}
    assert wording.prompts(3)[0] == "a smiling girl" and len(wording.prompts(9)) == 3, "the same ones once"


def test_impossible_words_are_refused_in_one_line(shards32, captioned32, bert, tmp_path, capsys):
    def refused(data: Path, *more: str, code: int) -> str:
        return complaint(capsys, flags(data, tmp_path / "new", *SHORT, *more), code)

    said = refused(shards32, "--words.encoder=embedded", code=1)
    assert str(shards32) in said and "pack --captions" in said
    for name in ("kernel", "paired"):
        said = refused(captioned32, "--words.encoder=embedded", f"--objective.name={name}", code=2)
        assert f"objective.name {name}" in said and "sinkhorn" in said
    assert "words.drop 1" in refused(captioned32, "--words.drop=1", code=2)
    assert "--words.encoder" in refused(captioned32, f"--words.encoder={tmp_path}", code=1)


def test_another_encoder_or_none_is_refused_when_a_run_resumes(captioned32, bert, tmp_path, capsys):
    run, other = tmp_path / "run", tmp_path / "other"
    other.mkdir()
    save_bert(other, seed=2)
    start = flags(captioned32, run, *SHORT, "--schedule.total_kimg=0.016")
    assert main([*start, f"--words.encoder={bert}"]) == 0
    longer = [*start[:-1], "--schedule.total_kimg=0.032"]
    said = complaint(capsys, [*longer, f"--words.encoder={other}"], 1)
    assert str(other) in said and "another --output" in said
    said = complaint(capsys, [*longer, f"--words.encoder={bert}", "--words.attention=false"], 1)
    assert "words.attention true" in said
    without = [flag for flag in longer if not flag.startswith("--words")]
    assert "was started with words" in complaint(capsys, without, 1)


def test_a_run_without_words_is_extended_by_words(captioned32, tmp_path, capsys):
    """With the null caption it begins with the same images."""
    plain = flags(captioned32, tmp_path / "plain", *SHORT[:2], "--schedule.total_kimg=0.016")
    assert main(plain) == 0
    assert "without words" in complaint(capsys, [*plain, "--words.encoder=embedded"], 1)
    trainer = trainer_of(captioned32, tmp_path / "worded", f"--init_from={tmp_path / 'plain'}")
    z = torch.randn(4, 16)
    before = load_generator(tmp_path / "plain")(z)
    assert trainer.wording is not None
    after = trainer.G_ema(z, words=trainer.wording.reader([None] * 4))
    assert torch.equal(to_uint8(before), to_uint8(after))
