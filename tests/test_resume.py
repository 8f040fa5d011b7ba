"""A run that was stopped and goes on is the run that was not stopped."""

import pytest

from helpers import resuming
from helpers.ranks import ROOT, start_ranks, torchrun

# In the first stage, at a stage's border, inside a fade-in, in the middle of an epoch, between the batches of a step.
EVERYWHERE = ["0", "2", "3+", "4+", "9", "12+"]


def test_going_on_is_bitwise_equal_to_never_having_stopped(shards32, tmp_path):
    assert resuming.differences(str(shards32), tmp_path, ["4+"]) == []


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_going_on_from_anywhere_is_bitwise_equal(shards32, tmp_path, ranks):
    torchrun(ranks, ROOT / "tests" / "helpers" / "resuming.py", str(shards32), str(tmp_path), *EVERYWHERE)


@pytest.mark.slow
def test_another_number_of_ranks_goes_on_with_the_same_images_and_nearly_the_same_losses(shards32, tmp_path):
    flags = ["--data", str(shards32), *resuming.FLAGS, "--schedule.start_resolution=32", "--schedule.total_kimg=0.192"]

    def run(name: str, launches: list[tuple[int, int | None]]) -> list[dict]:
        """Steps of a run on changing numbers of ranks, each until a step; keys of all ranks together."""
        steps = []
        for number, (ranks, stop) in enumerate(launches):
            folder = tmp_path / name / str(number)
            output = ["--output", str(tmp_path / name / "run")]
            started = start_ranks(ranks, folder, [*flags, *output], {"stop_at": stop, "stop_within": True})
            ends = started.ends()
            assert [code for code, _ in ends] == [0 if stop is None else 143] * ranks, ends
            for parts in zip(*(started.steps(rank) for rank in range(ranks))):
                batches = zip(*(halves(part["keys"]) for part in parts))
                steps.append(parts[0] | {"keys": [key for batch in batches for part in batch for key in part]})
        return steps

    steady = run("steady", [(2, None)])
    changing = run("changing", [(2, 3), (1, 7), (2, None)])
    assert [step["step"] for step in changing] == [step["step"] for step in steady] == [*range(12)]
    for one, other in zip(steady, changing):
        assert one["keys"] == other["keys"]
        for name, value in one["scalars"].items():
            assert other["scalars"][name] == pytest.approx(value, rel=1e-3), f"{name} in step {one['step']}"


def halves(items: list) -> tuple[list, list]:
    """The keys of a step's two batches."""
    return items[: len(items) // 2], items[len(items) // 2 :]
