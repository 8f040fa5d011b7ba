"""Judging trained generators: one by itself, or several beside each other."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dinogen.evaluate.curves import Curve, read_curves
from dinogen.evaluate.detector import Detector
from dinogen.evaluate.extractors import ClipFeatures, Extractor, InceptionFeatures
from dinogen.evaluate.judge import Judges, judge
from dinogen.evaluate.pages import comparison_page, report_page
from dinogen.evaluate.pictures import Pictures, draw_pictures
from dinogen.evaluate.reference import data_of, load_reference
from dinogen.evaluate.report import comparison_table, report_table
from dinogen.evaluate.signal import find_teacher, training_signal
from dinogen.evaluate.verdict import verdict
from dinogen.evaluate.walks import measure_walks
from dinogen.files import write_bytes, write_json
from dinogen.images import save_png
from dinogen.networks import Generator
from dinogen.opening import choose_device, load_generator, run_of
from dinogen.sample import sample_images
from dinogen.teachers import Teacher

NEAREST_AMONG = 5_000  # reals searched for the nearest to each sample, at most


@dataclass(frozen=True)
class Terms:
    """What must be equal for two generators to be compared.

    Args:
        data: real images, see `load_reference`; None takes what the models were trained on, see `data_of`.
        count: samples to draw; twice as many reals are compared with.
        seed: of the samples.
        truncation_psi: 1 keeps all variety.
        inception: weights of the Inception network, see `InceptionFeatures`; None leaves it out.
        clip: a CLIP, see `ClipFeatures`; None leaves it out.
        teacher: whose view is reported as the training signal, see `find_teacher`.
    """

    data: str | Path | None
    count: int
    seed: int = 0
    truncation_psi: float = 1.0
    inception: str | None = None
    clip: str | None = None
    teacher: str = "auto"


@dataclass(frozen=True)
class Court:
    """Everybody who looks at images under the same terms.

    Args:
        judges: not used in training.
        teacher: used in training; None where it is not at hand.
    """

    judges: Judges
    teacher: Teacher | None

    @classmethod
    def under(cls, terms: Terms, device: torch.device) -> "Court":
        """Load all of them.

        Raises:
            UsageError, DinogenError: one that was asked for is not available.
        """
        others: list[Extractor] = []
        if terms.inception is not None:
            others.append(InceptionFeatures(terms.inception, device))
        if terms.clip is not None:
            others.append(ClipFeatures(terms.clip, device))
        return cls(Judges(Detector(device), others), find_teacher(terms.teacher, str(terms.data), device))


def evaluate_model(model: str | Path, terms: Terms, output: Path, device: str = "auto") -> dict[str, Any]:
    """Judge a snapshot; write the report, and `nearest.png` and a page for people (`.html`) beside it.

    Args:
        model: a run, a snapshot or a hub id, see `load_generator`.
        terms: by what and how.
        output: the report, a JSON file. The figures are also printed as a table.
        device: `auto`, `cpu`, `cuda` …

    Returns:
        What the report holds.

    Raises:
        UsageError, DinogenError: see `load_generator`, `load_reference`, `Court.under`, `evaluate_images`.
    """
    chosen = choose_device(device)
    generator = load_generator(model, chosen)
    terms = with_data(terms, [str(model)])
    reals = read_reals(terms, generator.trained_resolution)
    report, pictures = examine(str(model), generator, reals, terms, Court.under(terms, chosen))
    output = Path(output)
    save_png(pictures.nearest, output.with_name("nearest.png"))
    page = report_page(report, pictures, curves_of(str(model)))
    write_bytes(output.with_suffix(".html"), page.encode())
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
    terms = with_data(terms, models)
    reals = {size: read_reals(terms, size) for size in {generator.trained_resolution for generator in generators}}
    court = Court.under(terms, chosen)
    examined = []
    for model, generator in zip(models, generators):
        print(f"Judging {model}", file=sys.stderr)
        examined.append(examine(model, generator, reals[generator.trained_resolution], terms, court))
    reports = [report for report, _ in examined]
    page = comparison_page(reports, [pictures for _, pictures in examined], [curves_of(model) for model in models])
    write_bytes(output / "compare.html", page.encode())
    write_json(output / "compare.json", reports)
    print(comparison_table(reports))
    return reports


def with_data(terms: Terms, models: Sequence[str]) -> Terms:
    """Terms that name data: the ones given, or else those of the models' runs."""
    return replace(terms, data=terms.data or data_of(models))


def read_reals(terms: Terms, resolution: int) -> Tensor:
    """The reals to judge by, uint8 `[n, 3, resolution, resolution]`."""
    return load_reference(str(terms.data), max(2 * terms.count, NEAREST_AMONG), resolution)


def curves_of(model: str) -> dict[str, Curve]:
    """The logged scalars of a model that is a run; none of any other."""
    run = run_of(model)
    return read_curves(run) if run else {}


def examine(
    name: str, generator: Generator, reals: Tensor, terms: Terms, court: Court
) -> tuple[dict[str, Any], Pictures]:
    """Report and pictures of one generator."""
    samples = sample_images(generator, terms.count, terms.seed, terms.truncation_psi)
    judgement = judge(samples, reals, court.judges)
    walks = measure_walks(generator, samples, terms.seed)
    report = {
        "verdict": [],
        "model": name,
        "data": str(terms.data),
        "seed": terms.seed,
        "truncation_psi": terms.truncation_psi,
        **judgement.report,
        "walk_largest_step": walks.largest_step,
        "walk_ends": walks.ends,
    }
    report["verdict"] = verdict(report)
    nearest = judgement.nearest
    if court.teacher is not None:
        n = report["counts"]["compared_images_a_set"]
        signal, by_teacher = training_signal(samples[:n], reals[:n], reals[n : 2 * n], court.teacher)
        report["training_signal"], nearest = signal, nearest | {"teacher": by_teacher}
    return report, draw_pictures(generator, samples, reals, nearest, terms.seed)
