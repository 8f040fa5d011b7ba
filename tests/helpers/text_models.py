"""Text encoders of the real classes, tiny and with random weights, saved as published ones are."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    DistilBertConfig,
    DistilBertModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipModel,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

LENGTH = 24  # tokens that they read
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
LETTERS = "abcdefghijklmnopqrstuvwxyzäöü,.-'!"
CLIP_VOCABULARY = [letter + end for end in ("", "</w>") for letter in bytes_to_unicode().values()]
CLIP_VOCABULARY += ["ma", "man</w>"]
CLIP_START, CLIP_END = len(CLIP_VOCABULARY), len(CLIP_VOCABULARY) + 1


def save_clip(folder: Path, eos_token_id: int = CLIP_END, length: int = LENGTH, width: int = 12) -> CLIPModel:
    """A whole CLIP with the tokenizer's files of the published ones; the old configs have `eos_token_id` 2."""
    text = SIZES | {"vocab_size": CLIP_END + 1, "max_position_embeddings": length, "projection_dim": width,
                    "bos_token_id": CLIP_START, "eos_token_id": eos_token_id, "pad_token_id": 1}  # fmt: skip
    vision = SIZES | {"image_size": 16, "patch_size": 8, "projection_dim": width}
    model = saved(CLIPModel, CLIPConfig(text_config=text, vision_config=vision, projection_dim=width), folder)
    names = [*CLIP_VOCABULARY, "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({name: number for number, name in enumerate(names)}))
    (folder / "merges.txt").write_text("#version: 0.2\nm a\nma n</w>\n")
    write_settings(folder, tokenizer_class="CLIPTokenizer", model_max_length=length)
    return model


def save_clip_without_projection(folder: Path) -> None:
    """The text part alone, as image generators ship it."""
    save_clip(folder)
    config = CLIPTextConfig(**SIZES, vocab_size=CLIP_END + 1, max_position_embeddings=LENGTH)
    (folder / "model.safetensors").unlink()
    saved(CLIPTextModel, config, folder)


def save_siglip(folder: Path, second: bool = False) -> SiglipModel | Siglip2Model:
    """A whole SigLIP, or SigLIP 2, with a fast tokenizer that ends a text by </s> and does not lower its case."""
    tokenizer = make_tokenizer(["<pad>", "</s>", "<unk>"], end="</s>")
    text = SIZES | {"vocab_size": len(tokenizer), "max_position_embeddings": LENGTH, "projection_size": 12}
    vision = SIZES | ({"num_patches": 4, "patch_size": 8} if second else {"image_size": 16, "patch_size": 8})
    config = Siglip2Config if second else SiglipConfig
    model = saved(Siglip2Model if second else SiglipModel, config(text_config=text, vision_config=vision), folder)
    tokenizer.save_pretrained(folder)
    return model


def save_bert(folder: Path, seed: int = 1) -> BertModel:
    """A BERT with the tokenizer's files of the published ones."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "man", "woman", "with", "glasses", *LETTERS]
    words += [f"##{letter}" for letter in LETTERS]
    model = saved(BertModel, BertConfig(**SIZES, vocab_size=len(words), max_position_embeddings=LENGTH), folder, seed)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    write_settings(folder, tokenizer_class="BertTokenizer", model_max_length=512, do_lower_case=True)
    return model


def save_relative_of_bert(folder: Path, kind: str) -> PreTrainedModel:
    """A `distilbert`, `mpnet` or `roberta`; the last two count positions from behind the padding's id, 1."""
    tokenizer = make_tokenizer(["<s>", "<pad>", "</s>", "<unk>"], start="<s>", end="</s>")
    sizes = SIZES | {"vocab_size": len(tokenizer), "pad_token_id": 1, "max_position_embeddings": LENGTH + 2}
    if kind == "distilbert":
        config = DistilBertConfig(
            dim=16, hidden_dim=32, n_layers=2, n_heads=2, vocab_size=len(tokenizer), max_position_embeddings=LENGTH,
            pad_token_id=1,
        )  # fmt: skip
        model = saved(DistilBertModel, config, folder)
    elif kind == "mpnet":
        model = saved(MPNetModel, MPNetConfig(**sizes), folder)
    else:
        model = saved(RobertaModel, RobertaConfig(**sizes), folder)
    tokenizer.save_pretrained(folder)
    return model


def saved(kind, config, folder: Path, seed: int = 1):
    """A model with random weights of a size at which captions differ, saved into a folder."""
    torch.manual_seed(seed)
    model = kind(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3 if "embed" not in name else 1.0)
    model.save_pretrained(folder)
    return model


def make_tokenizer(specials: list[str], end: str, start: str = "") -> PreTrainedTokenizerFast:
    """A fast tokenizer that reads letters and adds tokens before and after."""
    names = [*specials, "▁", *LETTERS, *LETTERS[:26].upper()]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    around = [name for name in (start, end) if name]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}".strip(), special_tokens=[(name, vocabulary[name]) for name in around]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token=end, unk_token="<unk>")


def write_settings(folder: Path, **settings: object) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
