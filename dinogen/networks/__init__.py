"""The networks that are trained."""

from dinogen.networks.generator import Generator

__all__ = ["Generator"]
