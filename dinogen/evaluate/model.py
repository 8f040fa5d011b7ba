"""Judging trained generators: one by itself, or several beside each other."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dinogen.evaluate.detector import SURE
from dinogen.evaluate.judge import judge
from dinogen.evaluate.page import comparison_page, report_page
from dinogen.evaluate.pictures import Pictures, draw_pictures
from dinogen.evaluate.reference import load_reference
from dinogen.evaluate.report import comparison_table, report_table
from dinogen.files import write_bytes, write_json
from dinogen.images import save_png
from dinogen.networks import Generator
from dinogen.sample import choose_device, load_generator, sample_images

NEAREST_AMONG = 5_000  # reals searched for the nearest to each sample, at most


@dataclass(frozen=True)
class Terms:
    """What must be equal for two generators to be compared.

    Args:
        reference: folder of shards or of face crops.
        count: samples to draw; twice as many reals are compared with.
        seed: of the samples.
        truncation_psi: 1 keeps all variety.
    """

    reference: Path
    count: int
    seed: int = 0
    truncation_psi: float = 1.0


def evaluate_model(
    model: str | Path,
    reference: Path,
    count: int,
    output: Path,
    seed: int = 0,
    truncation_psi: float = 1.0,
    device: str = "auto",
) -> dict[str, Any]:
    """Judge a snapshot; write the report, and `nearest.png` and a page for people (`.html`) beside it.

    Args:
        model: a run, a snapshot or a hub id, see `load_generator`.
        reference, count, seed, truncation_psi: see `Terms`.
        output: the report, a JSON file. The figures are also printed as a table.
        device: `auto`, `cpu`, `cuda` …

    Returns:
        What the report holds.

    Raises:
        UsageError, DinogenError: see `load_generator`, `load_reference`, `evaluate_images`.
    """
    terms = Terms(Path(reference), count, seed, truncation_psi)
    chosen = choose_device(device)
    generator = load_generator(model, chosen)
    report, pictures = examine(str(model), generator, read_reals(terms, generator.trained_resolution), terms, chosen)
    output = Path(output)
    save_png(pictures.nearest, output.with_name("nearest.png"))
    write_bytes(output.with_suffix(".html"), report_page(report, pictures).encode())
    write_json(output, report)
    print(report_table(report))
    return report


def compare_models(models: Sequence[str], terms: Terms, output: Path, device: str = "auto") -> list[dict[str, Any]]:
    """Judge several snapshots on the same terms; write `compare.json` and `compare.html` into a folder.

    Args:
        models: runs, snapshots or hub ids.
        terms: the same for all.
        output: the folder.
        device: `auto`, `cpu`, `cuda` …

    Returns:
        A report for each model, in their order.

    Raises:
        UsageError, DinogenError: as `evaluate_model`.
    """
    chosen = choose_device(device)
    generators = [load_generator(model, chosen) for model in models]  # a wrong name shows before the work begins
    reals = {size: read_reals(terms, size) for size in {generator.trained_resolution for generator in generators}}
    examined = []
    for model, generator in zip(models, generators):
        print(f"Judging {model}", file=sys.stderr)
        examined.append(examine(model, generator, reals[generator.trained_resolution], terms, chosen))
    reports = [report for report, _ in examined]
    write_bytes(output / "compare.html", comparison_page(reports, [pictures for _, pictures in examined]).encode())
    write_json(output / "compare.json", reports)
    print(comparison_table(reports))
    return reports


def read_reals(terms: Terms, resolution: int) -> Tensor:
    """The reals to judge by, uint8 `[n, 3, resolution, resolution]`."""
    return load_reference(terms.reference, max(2 * terms.count, NEAREST_AMONG), resolution)


def examine(
    name: str, generator: Generator, reals: Tensor, terms: Terms, device: torch.device
) -> tuple[dict[str, Any], Pictures]:
    """Report and pictures of one generator."""
    samples = sample_images(generator, terms.count, terms.seed, terms.truncation_psi)
    judgement = judge(samples, reals, device)
    report = {
        "model": name,
        "reference": str(terms.reference),
        "seed": terms.seed,
        "truncation_psi": terms.truncation_psi,
        **judgement.report,
    }
    if report["real_against_real"]["face_rate"] < SURE:
        print(f"{terms.reference}: the detector misses many of these faces; are they crops, upright and unmasked?")
    return report, draw_pictures(generator, samples, reals, judgement, terms.seed)
