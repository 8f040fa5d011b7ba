"""Several ranks must do what one process with the whole batch does."""

from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from helpers import oracle
from helpers.ranks import ROOT, torchrun

TOLERANCE = 1e-5  # of the norm
# Roots of covariances of fewer images than features have: they enlarge the last bits in which the teacher's features
# differ when it looks at two images instead of eight.
OF_FRECHET = 2e-4


def found_by(ranks: int, ways: list[str], data: Path, folder: Path) -> dict[str, Tensor]:
    """What so many ranks found, a loss and a gradient for each way to train."""
    result = folder / f"{ranks}.safetensors"
    arguments = [str(data), str(folder / f"runs{ranks}"), str(result), *ways]
    if ranks == 1:
        oracle.main(*arguments)
    else:
        torchrun(ranks, ROOT / "tests" / "helpers" / "oracle.py", *arguments)
    return load_file(result)


@pytest.mark.parametrize(
    ("ways", "counts"),
    [
        (["masked", "heads", "banded", "paired", "coded", "sliced", "text", "previous"], [2]),
        pytest.param([*oracle.WAYS], [2, 4], marks=pytest.mark.slow),
    ],
)
def test_loss_and_gradient_are_those_of_one_process(captioned32, tmp_path, ways, counts):
    alone = found_by(1, ways, captioned32, tmp_path)
    for ranks in counts:
        together = found_by(ranks, ways, captioned32, tmp_path)
        for way in ways:
            for shard in ("none", "fsdp"):
                for key in ("loss", "gradient"):
                    expected = alone[f"{way}-none/{key}"].double()
                    error = (together[f"{way}-{shard}/{key}"].double() - expected).norm() / expected.norm()
                    tolerance = OF_FRECHET if way == "frechet" else TOLERANCE
                    assert error < tolerance, f"{way}, {shard}, {ranks} ranks: {key} differs by {error:.1e}"
        whole, part = (float(together[f"masked-{shard}/teacher_bytes"]) for shard in ("none", "fsdp"))
        assert part / whole == pytest.approx(1 / ranks, rel=0.05), "each rank holds its share of the sharded teacher"
    gradients = [alone[f"{way}-none/gradient"] for way in ways]
    for i, one in enumerate(gradients):
        for other in gradients[:i]:
            common = min(len(one), len(other))  # the captions' parameters come first
            difference = one[-common:] - other[-common:]
            assert difference.norm() > 0.01 * one.norm(), "the ways to train are different"
