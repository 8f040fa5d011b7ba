"""A folder that any web server can hand out: a generator, and a page that draws with it in the visitor's browser."""

import json
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dinogen.advice import counted
from dinogen.errors import DinogenError, UsageError
from dinogen.export import COUNT, ExportOptions, about_model, make_file, need_packages, onnx_file, rounded, trace
from dinogen.files import atomic_folder
from dinogen.library import Generator
from dinogen.markdown import blocks_of, section_of
from dinogen.model_card import CARD_NAME
from dinogen.networks import Generator as GeneratorNetwork
from dinogen.opening import CONFIG_FILE, locate
from dinogen.page import render
from dinogen.sample import latents
from dinogen.web.runtime import PACKAGE, read_runtime

LEAST_Z = 16  # numbers in a latent: torch makes shorter ones in another way, which seeds.mjs does not know
CHECKED = (7, 3)  # a seed and a number: the page compares this latent with its own
MOST_OFF = 1e-3  # in a style
CARD_PARTS = ("Data", "Intended use and limits", "Taking a person out")
COPIED = ("page.mjs", "seeds.mjs", "runtime/LICENSE")


def export_page(
    generator: Generator,
    path: Path,
    options: ExportOptions,
    prompts: Sequence[str] = (),
    runtime: Path | None = None,
) -> int:
    """Write a folder with a page that draws the samples of `dinogen sample`, for any seed, without a server's help.

    Args:
        generator: on the CPU.
        path: a folder that is not there yet.
        options: precision and licence. What the files are and what they draw from is settled.
        prompts: that the page offers, for a model that takes words. The page has no text encoder.
        runtime: where onnxruntime-web is, see `read_runtime`; None asks npm.

    Returns:
        Grey levels by which pixels differ at most from those of dinogen.

    Raises:
        UsageError: packages or onnxruntime-web are missing, prompts for a model that takes none, latents too short.
        DinogenError: a file draws something else, or npm fails. No folder is left.
    """
    need_packages("web")
    network = generator.network
    if network.z_dim < LEAST_Z:
        raise UsageError(f"--format web: latents need {LEAST_Z} numbers, and this model has z_dim {network.z_dim}")
    prompts = list(dict.fromkeys(filter(None, prompts)))
    if prompts:
        generator.words_of(prompts)  # refuses them before anything is fetched
    served = {f"runtime/{name}": payload for name, payload in read_runtime(runtime).items()}
    options = replace(options, format="onnx", start="w")
    made = make_file(generator, path, options, prompts)
    served |= {"generator.onnx": made.payload, "mapping.onnx": mapping_file(network, options.precision == "fp16")}
    about = page_settings(network)
    if network.takes_words:
        words, served["words.bin"] = words_file(generator, prompts)
        about |= words | {"mostGuidance": generator.reader.guidance}
    served["page.json"] = json.dumps(about, indent=1, allow_nan=False).encode()
    served |= {name: files("dinogen").joinpath("templates", "web", *name.split("/")).read_bytes() for name in COPIED}
    card = locate(generator.model, CONFIG_FILE)[0].parent / CARD_NAME
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    if text:
        served["model-card.txt"] = text.encode()  # a browser shows it, and would download Markdown
    megabytes = round(sum(map(len, served.values())) / 1e6)
    served["index.html"] = page_of(generator, options, text, len(prompts), megabytes).encode()
    with atomic_folder(path) as temporary:
        for name, payload in served.items():
            (temporary / name).parent.mkdir(exist_ok=True)
            (temporary / name).write_bytes(payload)
    return made.off


@torch.no_grad()
def mapping_file(network: GeneratorNetwork, halved: bool) -> bytes:
    """An ONNX model from `z` `[N, z_dim]` to `w` `[N, w_dim]`: apart from the drawing, as walks go between styles.

    Raises:
        DinogenError: it gives other styles than the network.
    """
    mapping = (rounded(network) if halved else network).mapping
    inputs = {"z": latents(0, 0, COUNT, network.z_dim)}
    payload, run = onnx_file(trace(mapping, inputs), inputs, {}, halved, output="w")
    off = float(np.abs(run(inputs) - mapping(inputs["z"]).numpy()).max())
    if off > MOST_OFF:
        raise DinogenError(f"mapping.onnx: would give styles that are {off:.2g} off; report this, with torch's version")
    return payload


def page_settings(network: GeneratorNetwork) -> dict[str, Any]:
    """What the page's script has to know of a network."""
    seed, number = CHECKED
    return {
        "side": network.trained_resolution,
        "zDim": network.z_dim,
        "wDim": network.w_dim,
        "blocks": len(network.synthesis.blocks),
        # A torch that makes other random numbers would make other faces of a seed. The page then says so.
        "check": {"seed": seed, "number": number, "z": latents(seed, number, 1, network.z_dim)[0].tolist()},
    }


def words_file(generator: Generator, prompts: Sequence[str]) -> tuple[dict[str, Any], bytes]:
    """The embeddings of prompts, the empty one first.

    Returns:
        What the script has to know of them, and floats in little-endian order: all embeddings, then all tokens, then
        how much each token counts.
    """
    words_of = generator.words_of(["", *prompts])
    assert words_of is not None
    words = words_of(0, 1 + len(prompts))
    parts, settings = [words.pooled], {"prompts": ["", *prompts], "textDim": words.pooled.shape[1]}
    if words.tokens is not None and words.mask is not None:
        parts += [words.tokens, words.mask]
        settings |= {"tokens": words.tokens.shape[1], "tokenDim": words.tokens.shape[2]}
    return settings, b"".join(part.numpy().astype("<f4").tobytes() for part in parts)


def page_of(generator: Generator, options: ExportOptions, card: str, prompts: int, megabytes: int) -> str:
    """The page itself, with what is known of the model at its foot.

    Args:
        generator: whose model it is.
        options: of the export.
        card: the model card's text; may be empty.
        prompts: their number.
        megabytes: of all that it loads.
    """
    about = about_model(generator, options.licence)
    facts = {
        "Picture": f"{about['resolution']}×{about['resolution']} pixels",
        "Teacher": about["teacher"],
        "Licence of the model": about["licence"],
        "Model": about["generator"],
        "Made by": about["made_by"],
        "Drawn by": f"{PACKAGE.replace('@', ' ')}, MIT licence",
    }
    if generator.takes_words:
        facts |= {"Text encoder": about["text_encoder"], "Words to choose from": counted(prompts, "text")}
    figures = {name: f"{value:.4g}" for name, value in json.loads(about["figures"]).items()}
    parts = {name: blocks_of(text) for name in CARD_PARTS if (text := section_of(card, name))}
    return render(
        "web/index.html",
        f"Faces of nobody at {about['resolution']} pixels",
        facts=facts,
        figures=figures,
        parts=parts,
        has_card=bool(card),
        takes_words=generator.takes_words and prompts > 0,
        guided=generator.takes_words and prompts > 0 and generator.reader.guidance > 1,
        megabytes=max(megabytes, 1),
    )
