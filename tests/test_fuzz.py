"""Whatever strangers hand over, a command ends with a plain line: never with a traceback or an "unexpected" error.

A few inputs of each kind here, and 2,000 and more with `-m slow`. The same ones each time: the seed is fixed.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from helpers import strangers
from launch.cli import VERBS

SEED = 16
FEW, MANY = 1, {"flags": 60, "keys": 25, "files": 20, "variables": 150}  # inputs for each verb, verb, file, and in all
SLOW = pytest.mark.slow
Fault = Callable[..., str | None]


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bed") / "bed"
    strangers.make_bed(folder)
    return folder


@pytest.fixture
def fault(bed: Path, tmp_path: Path) -> Fault:
    """What is wrong with how a command ends, in a fresh copy of the bed with some files changed."""

    def found(argv: list[str], files: Mapping[str, bytes] = {}, **variables: str) -> str | None:  # noqa: B006
        shutil.rmtree(tmp_path / "here", ignore_errors=True)
        here = shutil.copytree(bed, tmp_path / "here", symlinks=True)
        for name, payload in files.items():
            (here / name).write_bytes(payload)
        return strangers.fault_of(argv, here, variables)

    return found


def inputs(number: int) -> Callable:
    """That many inputs, without the search for smaller ones, which would take as long again."""
    chosen = settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    return lambda test: seed(SEED)(chosen(test))


def few_and_many(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("number", [FEW, pytest.param(MANY[kind], marks=SLOW)])


@pytest.mark.parametrize("verb", VERBS)
@few_and_many("flags")
def test_flags(fault: Fault, verb: str, number: int):
    @inputs(number)
    @given(strangers.command_lines(verb))
    def check(argv: list[str]) -> None:
        assert not fault(argv), argv

    check()


@pytest.mark.parametrize("verb", VERBS)
@few_and_many("keys")
def test_keys_of_a_file(fault: Fault, verb: str, number: int):
    needed = ["--data", "shards", "--output", "out"] if verb == "train" else []

    @inputs(number)
    @given(strangers.config_texts(verb))
    def check(text: str) -> None:
        argv = [verb, *strangers.SHORT.get(verb, []), "--config", "keys.yaml", *needed]
        assert not fault(argv, {"keys.yaml": text.encode()}), text

    check()


@pytest.mark.parametrize("name", strangers.READ)
@few_and_many("files")
def test_files(fault: Fault, bed: Path, name: str, number: int):
    paths = sorted(bed.glob(name))
    assert paths

    @inputs(number)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(paths))
        payload = data.draw(strangers.damages(path.read_bytes()))
        argv = data.draw(st.sampled_from(strangers.READ[name]))
        assert not fault(argv, {str(path.relative_to(bed)): payload}), (argv, payload)

    check()


@pytest.mark.parametrize("number", [8, pytest.param(MANY["variables"], marks=SLOW)])
def test_variables(fault: Fault, number: int):
    commands = [argv for commands in strangers.READ.values() for argv in commands]
    commands += [["crop", "--help"], ["verify", "--data", "http://127.0.0.1:1/x"]]
    commands += [["interpolate", "--model=run", "--faces=2", "--frames=2", "--output=out.mp4"]]

    @inputs(number)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        names = data.draw(st.lists(st.sampled_from(sorted(strangers.VARIABLES)), min_size=1, max_size=2, unique=True))
        variables = {name: data.draw(st.sampled_from(strangers.VARIABLES[name])) for name in names}
        argv = data.draw(st.sampled_from(commands))
        assert not fault(argv, **variables), (argv, variables)

    check()


def test_there_are_2000_inputs_and_more():
    each = {"flags": len(VERBS), "keys": len(VERBS), "files": len(strangers.READ), "variables": 1}
    assert sum(MANY[kind] * count for kind, count in each.items()) >= 2000


def test_a_fault_is_found(fault: Fault, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shards.card.write_card", lambda *ignored: 1 / 0)
    assert (fault(["card", "--data", "shards"]) or "").startswith("unexpected ZeroDivisionError")
