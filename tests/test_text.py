"""Text encoders: what they make of captions, that it depends on nothing else, and how they are opened."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, CLIPTextModelWithProjection, Siglip2TextModel, SiglipTextModel

from dinogen.errors import DinogenError
from dinogen.text import CaptionTable, Encoded, Whitening, make_text_encoder, text_encoder_of
from dinogen.text.embedded import vector_of
from helpers.ranks import ROOT
from helpers.text_models import (
    CLIP_END,
    LENGTH,
    save_bert,
    save_clip,
    save_clip_without_projection,
    save_relative_of_bert,
    save_siglip,
)

MINILM = ROOT.parent / "shared" / "models" / "minilm"
CAPTIONS = ["a man", "a woman, smiling", "", "glasses", "ä-ö!"]
KINDS = ["clip", "old clip", "siglip", "siglip2", "bert", "distilbert", "mpnet", "roberta"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved model of each kind."""
    top = tmp_path_factory.mktemp("text")
    save_clip(top / "clip")
    save_clip(top / "old clip", eos_token_id=2)
    save_siglip(top / "siglip")
    save_siglip(top / "siglip2", second=True)
    save_bert(top / "bert")
    for kind in ("distilbert", "mpnet", "roberta"):
        save_relative_of_bert(top / kind, kind)
    return {kind: top / kind for kind in KINDS}


@pytest.fixture(scope="module", params=[*KINDS, "embedded"])
def encoder(request, folders: dict[str, Path]):
    return make_text_encoder(str(folders.get(request.param, request.param)))


def same(first: Encoded, second: Encoded) -> bool:
    return all(torch.equal(vars(first)[name], vars(second)[name]) for name in ("pooled", "tokens", "mask"))


# --- every encoder ---


def test_every_encoder_gives_vectors_of_length_one_and_zeros_for_the_null_caption(encoder):
    seen = encoder(CAPTIONS)
    assert seen.pooled.shape == (5, encoder.width) and seen.pooled.dtype == torch.float32
    torch.testing.assert_close(seen.pooled.norm(dim=1), torch.tensor([1.0, 1, 0, 1, 1]))
    assert seen.is_null.tolist() == [False, False, True, False, False]
    distances = torch.pdist(seen.pooled[~seen.is_null])
    assert distances.min() > 0.02, "different captions are different vectors"


def test_tokens_end_with_the_mask(encoder):
    seen = encoder(CAPTIONS)
    assert seen.tokens.shape == (*seen.mask.shape, encoder.token_width)
    assert not seen.mask[2].any() and not seen.tokens[~seen.mask].any()
    if encoder.token_width:
        assert seen.mask[[0, 1, 3, 4], 0].all() and seen.mask.any(dim=0).all()
        assert (seen.mask.int().diff(dim=1) <= 0).all(), "the padding is behind"
        assert seen.tokens[seen.mask].any(dim=1).all()
    else:
        assert seen.mask.shape == (5, 0)


def test_a_caption_is_the_same_to_the_last_bit_among_others(encoder):
    many = [f"{caption} {'again ' * k}" for k in range(4) for caption in CAPTIONS]
    seen = encoder(many)
    for i, caption in enumerate(many):
        alone = encoder([f" {caption}\n"])
        assert torch.equal(alone.pooled[0], seen.pooled[i])
        assert torch.equal(alone.tokens[0], seen.tokens[i, : alone.tokens.shape[1]])


def test_encoders_are_frozen_and_never_train(encoder):
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert all(parameter.dtype == torch.float32 for parameter in encoder.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = encoder(CAPTIONS)
    assert same(mixed, encoder(CAPTIONS))


# --- each kind as the library does it ---


@pytest.mark.parametrize("kind", ["clip", "old clip"])
def test_clip_takes_the_projected_end_of_text_whatever_the_config_says(folders: dict[str, Path], kind: str):
    model = CLIPTextModelWithProjection.from_pretrained(folders["clip"])
    inputs = AutoTokenizer.from_pretrained(folders["clip"])(CAPTIONS[0], return_tensors="pt")
    assert inputs["input_ids"][0, -1] == CLIP_END
    seen = make_text_encoder(str(folders[kind]))([CAPTIONS[0]])
    output = model(**inputs)
    torch.testing.assert_close(seen.pooled, torch.nn.functional.normalize(output.text_embeds))
    torch.testing.assert_close(seen.tokens, output.last_hidden_state)
    assert seen.mask.all()


@pytest.mark.parametrize("kind, library", [("siglip", SiglipTextModel), ("siglip2", Siglip2TextModel)])
def test_siglip_sees_lower_case_padded_to_the_full_length(folders: dict[str, Path], kind: str, library):
    model = library.from_pretrained(folders[kind])
    tokenizer = AutoTokenizer.from_pretrained(folders[kind])
    ids = tokenizer("a man", padding="max_length", max_length=LENGTH, padding_side="right", return_tensors="pt")
    seen = make_text_encoder(str(folders[kind]))(["A Man"])
    output = model(input_ids=ids["input_ids"])
    torch.testing.assert_close(seen.pooled, torch.nn.functional.normalize(output.pooler_output))
    torch.testing.assert_close(seen.tokens[0], output.last_hidden_state[0, : seen.mask.sum()])


@pytest.mark.parametrize("kind", ["bert", "distilbert", "mpnet", "roberta"])
def test_sentence_encoders_take_the_mean_over_the_captions_tokens(folders: dict[str, Path], kind: str):
    encoder = make_text_encoder(str(folders[kind]))
    inputs = AutoTokenizer.from_pretrained(folders[kind])(CAPTIONS[1], return_tensors="pt")
    tokens = encoder.model(input_ids=inputs["input_ids"]).last_hidden_state
    seen = encoder(["", CAPTIONS[1]])
    torch.testing.assert_close(seen.tokens[1:], tokens)
    torch.testing.assert_close(seen.pooled[1:], torch.nn.functional.normalize(tokens.mean(dim=1)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_caption_that_is_too_long_is_cut_and_that_is_said_once(folders: dict[str, Path], kind: str, capsys):
    encoder = make_text_encoder(str(folders[kind]))
    seen = encoder([f"m{'x' * LENGTH}", "a man"])
    assert seen.mask.sum(dim=1)[0] == LENGTH
    encoder(["y" * 200])
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and f"is cut at {LENGTH}" in said[0] and said[0].endswith(f"'m{'x' * LENGTH}'")


# --- the embedded one ---


def test_the_embedded_encoder_says_what_it_is(capsys):
    make_text_encoder("embedded")
    assert "knows no meanings" in capsys.readouterr().err


def test_the_embedded_encoder_has_the_numbers_that_it_always_had():
    vector = vector_of("A man with glasses")
    assert make_text_encoder("embedded").fingerprint == "50e75111479c046d"
    np.testing.assert_allclose(vector[:4], [-0.024816, -0.037224, 0.002068, 0.0517], atol=1e-6)


def test_the_embedded_encoder_puts_texts_with_the_same_words_near_each_other():
    man, again, men, other = make_text_encoder("embedded")(
        ["a man with glasses", "A man, with glasses!", "a bearded man with glasses", "blond woman before a wall"]
    ).pooled
    assert man @ again > 0.999 and 0.6 < man @ men < 0.95 and man @ other < 0.3
    first, second = make_text_encoder("embedded")(["dark skin, light hair", "light skin, dark hair"]).pooled
    assert first @ second < 0.95, "the order of words counts"
    without, shorter = make_text_encoder("embedded")(["a man without a beard", "man without beard"]).pooled
    assert without @ shorter > 0.999, "articles do not part what belongs together"


def test_the_embedded_encoder_takes_any_text():
    seen = make_text_encoder("embedded")(["!?", "笑顔の女性", "\ud800", "the"])
    torch.testing.assert_close(seen.pooled.norm(dim=1), torch.ones(4))


# --- which one it is ---


def test_a_fingerprint_is_of_weights_and_ways(folders: dict[str, Path], tmp_path: Path):
    prints = {kind: make_text_encoder(str(folder)).fingerprint for kind, folder in folders.items()}
    assert prints.pop("old clip") == prints["clip"], "the config's mistake does not make it another one"
    assert prints.pop("siglip2") == prints["siglip"], "the same weights, read in the same way"
    assert len({*prints.values()}) == len(prints)
    save_bert(tmp_path / "other", seed=2)
    assert make_text_encoder(str(tmp_path / "other")).fingerprint != prints["bert"]
    assert text_encoder_of(str(folders["bert"]), prints["bert"]).fingerprint == prints["bert"]
    with pytest.raises(DinogenError, match=rf"\({prints['bert']}\) is not the one .*\({prints['clip']}\); pass --text"):
        text_encoder_of(str(folders["bert"]), prints["clip"])


def test_a_folder_without_a_model_is_refused(tmp_path: Path):
    with pytest.raises(DinogenError, match=r"no text encoder here \(no config.json\); --text.encoder takes 'embedded'"):
        make_text_encoder(str(tmp_path))


def test_a_hub_id_without_a_network_is_refused_with_the_remedy():
    with pytest.raises(DinogenError, match="text encoder 'some/encoder' could not be loaded .*hf download ID"):
        make_text_encoder("some/encoder")


def test_another_kind_of_model_is_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "dinov2"}')
    with pytest.raises(DinogenError, match="is a dinov2; take a model of one of these types: clip"):
        make_text_encoder(str(tmp_path))


def test_weights_that_are_missing_are_not_made_up(tmp_path: Path):
    save_clip_without_projection(tmp_path)
    with pytest.raises(DinogenError, match="its file has no weights for text_projection.weight"):
        make_text_encoder(str(tmp_path))


def test_pickled_weights_are_never_read(folders: dict[str, Path], tmp_path: Path):
    shutil.copytree(folders["bert"], tmp_path / "bert")
    state = make_text_encoder(str(folders["bert"])).model.state_dict()
    (tmp_path / "bert" / "model.safetensors").unlink()
    torch.save(state, tmp_path / "bert" / "pytorch_model.bin")
    with pytest.raises(DinogenError, match="could not be loaded"):
        make_text_encoder(str(tmp_path / "bert"))


def test_a_tokenizer_that_is_missing_is_said(folders: dict[str, Path], tmp_path: Path):
    shutil.copytree(folders["siglip"], tmp_path / "siglip")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "siglip" / name).unlink()
    with pytest.raises(DinogenError, match="text encoder .* could not be loaded"):
        make_text_encoder(str(tmp_path / "siglip"))


# --- a really pretrained one ---


@pytest.fixture(scope="module")
def minilm():
    if not MINILM.is_dir():
        pytest.skip(f"no pretrained sentence encoder in {MINILM}")
    return make_text_encoder(str(MINILM))


def test_a_pretrained_sentence_encoder_knows_words_that_mean_the_same(minilm):
    glasses, spectacles, beard = minilm(["a man with glasses", "a man wearing spectacles", "a man with a beard"]).pooled
    assert glasses @ spectacles > 0.75 > glasses @ beard
    assert (minilm.width, minilm.token_width, minilm.limit) == (384, 384, 512)


# --- the table ---


def test_the_table_gives_what_the_encoder_gives(encoder):
    table = CaptionTable(encoder)
    for captions in (CAPTIONS, ["a man", None, "new"], CAPTIONS[::-1]):
        assert same(table(captions), encoder([caption or "" for caption in captions]))
        assert torch.equal(table.pooled(captions), table(captions).pooled)
    assert len(table) == 5, "null captions are not kept"


def test_the_table_looks_at_a_caption_once(encoder, monkeypatch):
    table, seen = CaptionTable(encoder), []
    rows = encoder.rows
    monkeypatch.setattr(encoder, "rows", lambda texts: seen.extend(texts) or rows(texts))
    for captions in (["a man", "a man"], ["a  man", "glasses"], ["glasses"]):
        table(captions)
        table.pooled(captions)
    assert seen == ["a man", "glasses"]


def test_a_table_learns_what_another_one_has_looked_at(encoder, monkeypatch):
    there, here = CaptionTable(encoder), CaptionTable(encoder)
    texts, vectors = there.vectors_of(["a  man", "glasses", "", "a man"])
    assert texts == ["a man", "glasses"]
    monkeypatch.setattr(encoder, "rows", lambda texts: [] if not texts else pytest.fail(f"{texts} are known"))
    here.learn(texts, vectors)
    assert torch.equal(here.pooled(["glasses", "a man", ""]), there.pooled(["glasses", "a man", ""]))


def test_the_table_gives_up_tokens_that_take_too_much_memory(folders: dict[str, Path]):
    encoder = make_text_encoder(str(folders["bert"]))
    table = CaptionTable(encoder, token_bytes=3 * 1000)
    captions = [f"a {letter}" for letter in "abcdefghijklmnopqrst"]
    assert same(table(captions), encoder(captions))
    assert sum(tokens.nbytes for tokens in table._tokens.values()) <= 3000
    assert same(table(captions), encoder(captions))


# --- whitening ---


def vectors(count: int = 500, width: int = 96) -> torch.Tensor:
    """Vectors of length one that vary much in some directions and little in others, around a common one."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.logspace(0, -1.5, width)
    found = torch.randn(count, width, generator=generator) * scales + 0.5
    return torch.nn.functional.normalize(found, dim=1)


def test_whitened_vectors_have_length_one_and_at_most_64_numbers():
    white = Whitening.fit(vectors())(vectors())
    assert white.shape == (500, 64) and white.dtype == torch.float32
    torch.testing.assert_close(white.norm(dim=1), torch.ones(500))
    few = vectors()[:9].repeat(4, 1)
    assert Whitening.fit(few).width == 8


def test_whitening_makes_directions_vary_alike():
    def unevenness(rows: torch.Tensor) -> float:
        values = torch.linalg.eigvalsh(rows.T.cov())[-30:]
        return float(values[-1] / values[0])

    white = Whitening.fit(vectors())(vectors())
    assert unevenness(white) < 3 < 5 < unevenness(vectors())
    assert white.mean(dim=0).norm() < 0.05


def test_what_hardly_differs_stays_small():
    some = vectors(5000, 20)
    some[:, 7:] = some[:, 7:].mean(dim=0) + 0.01 * (some[:, 7:] - some[:, 7:].mean(dim=0))
    white = Whitening.fit(some)(some)
    assert white[:, 7:].square().sum(dim=1).mean() < 0.01


def test_the_null_caption_stays_null():
    pooled = torch.cat([vectors(), torch.zeros(200, 96)])
    whitening = Whitening.fit(pooled)
    assert whitening.fingerprint == Whitening.fit(vectors()).fingerprint
    assert not whitening(pooled)[500:].any() and whitening(pooled)[:500].any(dim=1).all()


def test_a_whitening_is_its_tensors():
    whitening = Whitening.fit(vectors())
    again = Whitening.restore(whitening.tensors())
    assert torch.equal(again(vectors()), whitening(vectors())) and again.fingerprint == whitening.fingerprint
    assert Whitening.fit(vectors()[:400]).fingerprint != whitening.fingerprint
    for name, (shape, dtype) in Whitening.expected(96).items():
        tensor = whitening.tensors()[name]
        assert tensor.dtype == dtype and tensor.shape[0] == shape[0]


def said_and_shown(count: int = 2000) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors in whose directions 20 to 23 alone lies what images show, in part; in 30 others lies more."""
    generator = torch.Generator().manual_seed(1)
    said = torch.randn(count, 96, generator=generator) * torch.logspace(0, -1.5, 96)
    shown = torch.randn(count, 40, generator=generator)
    shown[:, :4] = 0.6 * said[:, 20:24] / said[:, 20:24].std(dim=0) + 0.8 * shown[:, :4]
    return said, shown


def test_directions_that_images_do_not_show_are_left_out():
    said, shown = said_and_shown()
    whitening = Whitening.fit(said, shown=shown)
    assert whitening.width == 4, "six would be found by chance without its shrinkage"
    visible, all_of_it = whitening(said), Whitening.fit(said)(said)
    other = said.clone()
    other[:, 20:24] = said[:, 20:24].roll(1, 0)  # as if each caption said of its image what another one says
    alike = [
        float((rows * of(other)).sum(dim=1).mean())
        for rows, of in ((visible, whitening), (all_of_it, Whitening.fit(said)))
    ]
    assert alike[0] < 0.1 and alike[1] > 0.8
    null = torch.cat([said, torch.zeros(50, 96)]), torch.cat([shown, torch.full((50, 40), 9.0)])
    torch.testing.assert_close(Whitening.fit(null[0], shown=null[1]).directions, whitening.directions)


def test_a_direction_counts_by_how_well_images_show_it():
    said, shown = said_and_shown(20000)
    shown[:, 3] = said[:, 2] / said[:, 2].std()
    whitening = Whitening.fit(said, shown=shown)
    lengths = (said - said.mean(dim=0)) @ whitening.directions
    assert lengths.std(dim=0)[0] == pytest.approx(1, abs=0.1)
    torch.testing.assert_close(lengths.std(dim=0)[1:], torch.full((3,), 0.6), atol=0.05, rtol=0)


def test_captions_that_have_nothing_to_do_with_the_images_are_whitened_as_they_are():
    said, shown = said_and_shown()
    whitening = Whitening.fit(said, shown=shown[torch.randperm(2000, generator=torch.Generator().manual_seed(0))])
    assert torch.equal(whitening.directions, Whitening.fit(said).directions)


@pytest.mark.parametrize("different", [0, 1])
def test_too_few_captions_cannot_be_whitened(different: int):
    pooled = torch.cat([vectors()[:different].repeat(3, 1), torch.zeros(2, 96)])
    with pytest.raises(DinogenError, match=f"has {different} different captions; text needs at least two"):
        Whitening.fit(pooled)
