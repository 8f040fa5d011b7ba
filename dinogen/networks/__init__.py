"""The networks that are trained."""

from dinogen.networks.generator import Generator
from dinogen.networks.words import Words

__all__ = ["Generator", "Words"]
