"""What the generator is trained by: a sum of terms, one file for each kind."""

from collections.abc import Callable, Iterable

from dinogen.config import RunConfig
from dinogen.objectives.base import Loss, ObjectiveResult, Seen, Surroundings, Term
from dinogen.objectives.captions import Captions
from dinogen.objectives.frechet import frechet_terms
from dinogen.objectives.heads import heads_terms
from dinogen.objectives.matching import matching_terms
from dinogen.objectives.octaves import OctaveRegression, warmup_terms
from dinogen.objectives.slices import slices_terms

__all__ = ["TERMS", "Captions", "Loss", "ObjectiveResult", "Seen", "Surroundings", "Term", "make_loss"]

# One line for each kind of term: what yields the terms of that kind that a config asks for, in the order of the sum.
TERMS: list[Callable[[RunConfig, Surroundings], Iterable[Term]]] = [
    warmup_terms,
    matching_terms,
    heads_terms,
    frechet_terms,
    slices_terms,
]


def make_loss(config: RunConfig, surroundings: Surroundings) -> Loss:
    """The loss that a config asks for. While the warm-up lasts, no other term is on."""
    terms = [term for make in TERMS for term in make(config, surroundings)]
    for term in terms:
        if not isinstance(term, OctaveRegression):
            term.begins = max(term.begins, config.warmup_nimg)
    return Loss(terms)
