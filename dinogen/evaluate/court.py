"""Who judges whom, and on what terms."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dinogen.errors import UsageError
from dinogen.evaluate.attributes import Attribute
from dinogen.evaluate.detector import Detector
from dinogen.evaluate.extractors import ClipFeatures, Extractor, InceptionFeatures
from dinogen.evaluate.judge import Judges
from dinogen.evaluate.signal import find_teacher
from dinogen.evaluate.words import open_clip_texts
from dinogen.networks import Generator
from dinogen.opening import load_generator
from dinogen.reader import Reader, load_reader
from dinogen.teachers import Teacher
from dinogen.text import CaptionTable


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
        guidance: how far words are exaggerated, from 1 (not at all) up.
        sweep_guidance: draw the attributes' prompts with several values of guidance, up to the most that was learned.
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
    guidance: float = 1.0
    sweep_guidance: bool = False


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
                ask for some; or one has not learned the guidance.
        """
        generators = [load_generator(model, device) for model in models]
        if not any(generator.takes_words for generator in generators):
            asked = {
                "sweep-guidance": terms.sweep_guidance,
                "attributes": terms.attributes,
                "encoder": terms.encoder,
                "guidance": terms.guidance != 1,
            }
            for flag, given in asked.items():
                if given:
                    raise UsageError(f"--{flag}: {', '.join(models)}: trained without words; leave it out")
        readers = [
            load_reader(model, device, terms.encoder) if generator.takes_words else None
            for model, generator in zip(models, generators)
        ]
        for reader in readers:
            if reader is not None:
                reader([None], terms.guidance)  # refuses what was not learned before the work begins
                if terms.sweep_guidance and reader.guidance == 1:
                    raise UsageError(
                        "--sweep-guidance: this model has learned no guidance (words.guidance); leave it out"
                    )
        return [cls(*each) for each in zip(models, generators, readers)]


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
