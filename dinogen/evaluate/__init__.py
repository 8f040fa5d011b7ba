"""Judging a generator by figures and pictures that were not used in its training."""

from dinogen.evaluate.judge import evaluate_images
from dinogen.evaluate.model import Terms, compare_models, evaluate_model

__all__ = ["Terms", "compare_models", "evaluate_images", "evaluate_model"]
