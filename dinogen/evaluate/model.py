"""Judging trained generators: one by itself, or several beside each other."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dinogen.errors import UsageError
from dinogen.evaluate.attributes import METHOD as ATTRIBUTE_METHOD
from dinogen.evaluate.attributes import Attribute
from dinogen.evaluate.captions import Texts
from dinogen.evaluate.curves import Curve, read_curves
from dinogen.evaluate.detector import Detector
from dinogen.evaluate.extractors import ClipFeatures, Extractor, InceptionFeatures
from dinogen.evaluate.judge import ImageSet, Judgement, Judges, images_a_set, judge
from dinogen.evaluate.pages import comparison_page, report_page
from dinogen.evaluate.pictures import Pictures, draw_pictures, prompts_picture, told_pictures
from dinogen.evaluate.reference import Reals, data_of, load_reference
from dinogen.evaluate.report import comparison_table, report_table
from dinogen.evaluate.signal import find_teacher, training_signal
from dinogen.evaluate.verdict import verdict
from dinogen.evaluate.walks import measure_walks
from dinogen.evaluate.words import Told, attribute_report, open_clip_texts, texts_of_samples, words_report
from dinogen.files import write_bytes, write_json
from dinogen.images import save_png
from dinogen.networks import Generator
from dinogen.opening import choose_device, load_generator, run_of
from dinogen.reader import Reader, load_reader
from dinogen.sample import sample_images
from dinogen.teachers import Teacher
from dinogen.text import CaptionTable

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
        attributes: that prompts ask for, in models that take words.
        encoder: a folder or a hub id that has the models' text encoder now, see `load_reader`.
    """

    data: str | Path | None
    count: int
    seed: int = 0
    truncation_psi: float = 1.0
    inception: str | None = None
    clip: str | None = None
    teacher: str = "auto"
    attributes: Sequence[Attribute] = ()
    encoder: str | None = None


@dataclass(frozen=True)
class Candidate:
    """Who is judged.

    Args:
        name: as the user gave it.
        generator: draws.
        reader: of its captions; None for a generator that takes none.
    """

    name: str
    generator: Generator
    reader: Reader | None

    @classmethod
    def open_all(cls, models: Sequence[str], terms: Terms, device: torch.device) -> "list[Candidate]":
        """Open generators and what reads their captions.

        Raises:
            UsageError, DinogenError: see `load_generator` and `load_reader`; or none of them takes words, and terms
                ask for some.
        """
        generators = [load_generator(model, device) for model in models]
        if not any(generator.takes_words for generator in generators):
            for flag, given in (("attributes", terms.attributes), ("encoder", terms.encoder)):
                if given:
                    raise UsageError(f"--{flag}: {', '.join(models)}: trained without words; leave it out")
        return [
            cls(model, generator, load_reader(model, device, terms.encoder) if generator.takes_words else None)
            for model, generator in zip(models, generators)
        ]


@dataclass(frozen=True)
class Court:
    """Everybody who looks at images under the same terms.

    Args:
        judges: not used in training.
        teacher: used in training; None where it is not at hand.
        clip_texts: the half of a CLIP that reads; None where it is not at hand, or no model takes words.
    """

    judges: Judges
    teacher: Teacher | None
    clip_texts: CaptionTable | None = None

    @classmethod
    def under(cls, terms: Terms, device: torch.device, worded: bool = False) -> "Court":
        """Load all of them; `worded` says whether a model takes words.

        Raises:
            UsageError, DinogenError: one that was asked for is not available.
        """
        others: list[Extractor] = []
        texts = None
        if terms.inception is not None:
            others.append(InceptionFeatures(terms.inception, device))
        if terms.clip is not None:
            clip = ClipFeatures(terms.clip, device)
            others.append(clip)
            texts = open_clip_texts(terms.clip, device) if worded and clip.projected else None
        return cls(Judges(Detector(device), others), find_teacher(terms.teacher, str(terms.data), device), texts)


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
    words = reader.in_turn(texts) if reader else None
    samples = sample_images(generator, terms.count, terms.seed, terms.truncation_psi, words=words)
    judgement = judge(samples, images, court.judges)
    walks = measure_walks(generator, samples, terms.seed)
    report = {
        "verdict": [],
        "model": candidate.name,
        "data": str(terms.data),
        "seed": terms.seed,
        "truncation_psi": terms.truncation_psi,
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
    pictures = draw_pictures(generator, samples, images, nearest, terms.seed)
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

    def draw(prompt: str) -> ImageSet:
        images = sample_images(
            candidate.generator, terms.count, terms.seed, terms.truncation_psi, words=reader.in_turn([prompt])
        )
        return Judges(court.judges.detector).look_at(images)

    ours, real, drawn = attribute_report(terms.attributes, judged.reals, reals.captions, draw)
    report["words"] |= ours
    report["words"]["real_against_real"] |= real
    report["method"]["attributes"] = ATTRIBUTE_METHOD
    return drawn
