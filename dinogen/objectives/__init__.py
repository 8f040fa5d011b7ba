"""What the generator is trained by: one file each, one interface."""

from dinogen.config import ObjectiveConfig
from dinogen.objectives.base import Objective, ObjectiveResult
from dinogen.objectives.kernel import KernelDrift
from dinogen.objectives.paired import PairedRegression
from dinogen.objectives.sinkhorn import SinkhornDrift

__all__ = ["Objective", "ObjectiveResult", "PairedRegression", "SinkhornDrift", "make_objective"]


def make_objective(config: ObjectiveConfig, name: str | None = None) -> Objective:
    """What a config trains by at some time: the objective that it names, `paired`, or `banded`: the named one in bands."""
    if (name or config.name) == "paired":
        return PairedRegression()
    bands = config.bands if name == "banded" else 1
    if config.name == "kernel":
        return KernelDrift(tuple(config.temperatures), bands)
    return SinkhornDrift(tuple(config.temperatures), config.iterations, bands)
