"""What the generator is trained by: one file each, one interface."""

from dinogen.config import ObjectiveConfig
from dinogen.objectives.base import Objective, ObjectiveResult
from dinogen.objectives.kernel import KernelDrift
from dinogen.objectives.paired import PairedRegression
from dinogen.objectives.sinkhorn import SinkhornDrift

__all__ = ["Objective", "ObjectiveResult", "PairedRegression", "SinkhornDrift", "make_objective"]


def make_objective(config: ObjectiveConfig, name: str | None = None) -> Objective:
    """The objective that a config names, or another one with its settings."""
    if (name or config.name) == "paired":
        return PairedRegression()
    if (name or config.name) == "kernel":
        return KernelDrift(tuple(config.temperatures))
    return SinkhornDrift(tuple(config.temperatures), config.iterations)
