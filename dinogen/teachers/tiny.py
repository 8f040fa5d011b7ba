"""The embedded teacher: a small DINOv2 with seeded random weights, for demos and tests."""

import sys

import numpy as np
import scipy.fft
import torch
from transformers import Dinov2Config, Dinov2Model

from dinogen.teachers.dinov2 import Dinov2

TINY = "tiny"
TINY_SEED = 0
IMAGE_SIZE = 32  # of the position embeddings, which are interpolated to the input's


def make_tiny() -> Dinov2:
    """A DINOv2 of three blocks with random weights, the same on every machine, for input of any size."""
    print("Teacher 'tiny': random weights, it knows nothing about faces; for demos and tests.", file=sys.stderr)
    config = Dinov2Config(
        hidden_size=128, num_hidden_layers=3, num_attention_heads=4, mlp_ratio=4, patch_size=4, image_size=IMAGE_SIZE
    )
    model = Dinov2Model(config)
    # RandomState's stream is frozen for good, and coarse rounding hides the last bits in which two machines' libraries
    # differ: other weights would silently orphan everybody's shards.
    rng = np.random.RandomState(TINY_SEED)
    for name, parameter in sorted(model.named_parameters()):
        values = tiny_weights(name, tuple(parameter.shape), rng)
        parameter.data.copy_(torch.from_numpy(np.round(values * 2**16) / 2**16))
    return Dinov2(model)


def tiny_weights(name: str, shape: tuple[int, ...], rng: np.random.RandomState) -> np.ndarray:
    """Random weights for one parameter: activations keep their scale from layer to layer (LeCun's initialisation).

    The patch filters are random mixtures of cosines, the finer ones louder. In natural images amplitude falls as one
    over frequency (Field 1987), so plainly random filters see hardly more than each patch's mean colour.
    """
    if "norm" in name or "lambda" in name:
        return np.full(shape, 0.0 if name.endswith("bias") else 1.0)
    if name.endswith("bias"):
        return np.zeros(shape)
    if len(shape) == 3:  # class token, position embeddings
        return rng.standard_normal(shape) * (0.3 if "position" in name else 0.5)
    values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    if len(shape) == 4:
        cycles = np.arange(shape[-1])
        loudness = 1 + 2 * np.hypot(cycles[:, None], cycles)
        values = np.asarray(scipy.fft.idctn(values * loudness, axes=(2, 3), norm="ortho"))
    return values
