"""Judging a generator by figures and pictures that had no part in its training."""

from dinogen.evaluate.judge import evaluate_images, evaluate_model

__all__ = ["evaluate_images", "evaluate_model"]
