"""Judging a generator by figures and pictures that had no part in its training."""

from dinogen.evaluate.judge import evaluate_images
from dinogen.evaluate.model import compare_models, evaluate_model

__all__ = ["compare_models", "evaluate_images", "evaluate_model"]
