"""Judging a generator by figures and pictures that were not used in its training."""

from dinogen.evaluate.court import Terms
from dinogen.evaluate.judge import evaluate_images
from dinogen.evaluate.model import compare_models, evaluate_model

__all__ = ["Terms", "compare_models", "evaluate_images", "evaluate_model"]
