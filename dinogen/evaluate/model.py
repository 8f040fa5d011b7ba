"""Judging trained generators: one by itself, or several beside each other."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from dinogen.evaluate.attributes import METHOD as ATTRIBUTE_METHOD
from dinogen.evaluate.captions import Texts
from dinogen.evaluate.court import Candidate, Court, Terms
from dinogen.evaluate.curves import Curve, read_curves
from dinogen.evaluate.judge import ImageSet, Judgement, Judges, images_a_set, judge
from dinogen.evaluate.pages import comparison_page, report_page
from dinogen.evaluate.pictures import Pictures, draw_pictures, prompts_picture, told_pictures
from dinogen.evaluate.reference import Reals, data_of, load_reference
from dinogen.evaluate.report import comparison_table, figure_rows, report_table
from dinogen.evaluate.signal import training_signal
from dinogen.evaluate.verdict import verdict
from dinogen.evaluate.walks import measure_walks
from dinogen.evaluate.words import Told, attribute_report, texts_of_samples, words_report
from dinogen.files import write_bytes, write_json
from dinogen.folder_lock import FolderLock
from dinogen.images import save_png
from dinogen.model_card import write_figures
from dinogen.opening import WEIGHTS_FILE, choose_device, locate, run_of
from dinogen.sample import sample_images

SWEEP_STEPS = 4  # values of guidance in a sweep
NEAREST_AMONG = 5_000  # reals searched for the nearest to each sample, at most


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
        UsageError, DinogenError: see `Candidate.open_all`, `load_reference`, `Court.under`, `evaluate_images`.
    """
    chosen = choose_device(device)
    (candidate,) = Candidate.open_all([str(model)], terms, chosen)
    terms = with_data(terms, [str(model)])
    reals = read_reals(terms, candidate.generator.trained_resolution)
    court = Court.under(terms, chosen, candidate.reader is not None)
    report, pictures = examine(candidate, reals, terms, court)
    output = Path(output)
    save_png(pictures.nearest, output.with_name("nearest.png"))
    page = report_page(report, pictures, curves_of(str(model)))
    write_bytes(output.with_suffix(".html"), page.encode())
    write_json(output, report)
    note_in_card(model, report)
    print(report_table(report))
    return report


def note_in_card(model: str | Path, report: dict[str, Any]) -> None:
    """Write the figures into the model card of a snapshot that lies here."""
    if not Path(model).expanduser().is_dir():
        return
    (weights,) = locate(model, WEIGHTS_FILE)
    rows = [(row.name, row.values[0], row.real, row.what) for row in figure_rows([report])]
    remark = (
        f"By `dinogen evaluate` from {report['counts']['samples']} samples, drawn with truncation "
        f"{report['truncation_psi']:g}. *Real images* has other real images in the samples' place."
    )
    write_figures(weights.parent, rows, remark)


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
    candidates = Candidate.open_all(models, terms, chosen)  # a wrong name shows before the work begins
    terms = with_data(terms, models)
    sizes = {candidate.generator.trained_resolution for candidate in candidates}
    reals = {size: read_reals(terms, size) for size in sizes}
    court = Court.under(terms, chosen, any(candidate.reader for candidate in candidates))
    examined = []
    for candidate in candidates:
        print(f"Judging {candidate.name}", file=sys.stderr)
        examined.append(examine(candidate, reals[candidate.generator.trained_resolution], terms, court))
    reports = [report for report, _ in examined]
    page = comparison_page(reports, [pictures for _, pictures in examined], [curves_of(model) for model in models])
    with FolderLock(output, "is writing a comparison"):
        write_bytes(output / "compare.html", page.encode())
        write_json(output / "compare.json", reports)
    print(comparison_table(reports))
    return reports


def with_data(terms: Terms, models: Sequence[str]) -> Terms:
    """Terms that name data: the ones given, or else those of the models' runs."""
    return replace(terms, data=terms.data or data_of(models))


def read_reals(terms: Terms, resolution: int) -> Reals:
    """The reals to judge by, `[n, 3, resolution, resolution]`.

    Raises:
        UsageError, DinogenError: see `load_reference`; or their captions do not speak of an attribute.
    """
    reals = load_reference(str(terms.data), max(2 * terms.count, NEAREST_AMONG), resolution)
    for attribute in terms.attributes:
        attribute.sides(reals.captions)
    return reals


def curves_of(model: str) -> dict[str, Curve]:
    """The logged scalars of a model that is a run; none of any other."""
    run = run_of(model)
    return read_curves(run) if run else {}


def examine(candidate: Candidate, reals: Reals, terms: Terms, court: Court) -> tuple[dict[str, Any], Pictures]:
    """Report and pictures of one generator. One that takes words draws with the captions of real images."""
    generator, reader, images = candidate.generator, candidate.reader, reals.images
    n = images_a_set(terms.count, len(images))
    texts = texts_of_samples(reals.texts(), n, terms.count) if reader else []
    words = reader.in_turn(texts, terms.guidance) if reader else None
    samples = sample_images(generator, terms.count, terms.seed, terms.truncation_psi, words=words)
    judgement = judge(samples, images, court.judges)
    walks = measure_walks(generator, samples, terms.seed, words)
    report = {
        "verdict": [],
        "model": candidate.name,
        "data": str(terms.data),
        "seed": terms.seed,
        "truncation_psi": terms.truncation_psi,
        **({"guidance": terms.guidance} if reader else {}),
        **judgement.report,
        "walk_largest_step": walks.largest_step,
        "walk_ends": walks.ends,
    }
    drawn = add_words(report, candidate, judgement, texts, reals, terms, court)
    report["verdict"] = verdict(report)
    nearest = judgement.nearest
    if court.teacher is not None:
        signal, by_teacher = training_signal(samples[:n], images[:n], images[n : 2 * n], court.teacher)
        report["training_signal"], nearest = signal, nearest | {"teacher": by_teacher}
    pictures = draw_pictures(generator, samples, images, nearest, terms.seed, words)
    return report, replace(pictures, told=told_pictures(samples, texts), prompts=prompts_picture(drawn))


def add_words(
    report: dict[str, Any],
    candidate: Candidate,
    judged: Judgement,
    texts: Texts,
    reals: Reals,
    terms: Terms,
    court: Court,
) -> dict[str, Tensor]:
    """Judge how well words steer, and put what comes of it into a report.

    Returns:
        Samples by prompt, uint8 `[n, 3, R, R]`.
    """
    reader = candidate.reader
    if reader is None:
        return {}
    n = report["counts"]["compared_images_a_set"]
    told, of_reals = Told(judged.samples, texts), Told(judged.reals, reals.texts())
    found = words_report(told, of_reals, reals.captions, n, court.clip_texts)
    if found is None:
        print(
            f"{terms.data}: too few captions to judge words by; samples are drawn with what there is", file=sys.stderr
        )
        return {}
    report["words"], method = found
    report["method"] |= method
    if not terms.attributes:
        return {}

    def draw(prompt: str, guidance: float) -> ImageSet:
        words = reader.in_turn([prompt], guidance)
        images = sample_images(candidate.generator, terms.count, terms.seed, terms.truncation_psi, words=words)
        return Judges(court.judges.detector).look_at(images)

    ours, real, drawn = attribute_report(
        terms.attributes,
        judged.reals,
        reals.captions,
        draw,
        terms.guidance,
        steps_to(reader.guidance) if terms.sweep_guidance else (),
    )
    report["words"] |= ours
    report["words"]["real_against_real"] |= real
    report["method"]["attributes"] = ATTRIBUTE_METHOD
    return drawn


def steps_to(most: float) -> list[float]:
    """Guidance from 1 to the most that a model has learned, in equal steps."""
    return [1 + (most - 1) * step / (SWEEP_STEPS - 1) for step in range(SWEEP_STEPS)]
