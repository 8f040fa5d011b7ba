"""Environment variables of accelerate and of dinogen: obeyed as a whole, or refused with one line."""

from collections.abc import Iterator

import pytest
from accelerate.state import AcceleratorState

from dinogen.config import BatchesConfig, RunConfig
from dinogen.data.folder import RemoteFolder
from dinogen.data.transfer import default_cache
from dinogen.errors import UsageError
from dinogen.train.launcher import make_accelerator, obey_environment
from launch.pack import main as pack


@pytest.fixture
def anew() -> Iterator[None]:
    """Accelerate begins from nothing, and what a refusal left of it is gone afterwards."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


def config(**changes) -> RunConfig:
    return RunConfig(data="d", output="o", **changes)


REFUSED = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ["4", "x"],
    "ACCELERATE_MIXED_PRECISION": ["fp8", "half"],
    "ACCELERATE_DYNAMO_BACKEND": ["eager", "AOT_EAGER", "x"],
    "ACCELERATE_USE_DEEPSPEED": ["true", "1"],
    "ACCELERATE_USE_FSDP": ["true", "True"],
    "ACCELERATE_USE_MEGATRON_LM": ["true"],
    "ACCELERATE_USE_PARALLELISM_CONFIG": ["true"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in REFUSED.items() for value in values])
def test_a_variable_that_dinogen_does_not_obey_is_refused(name, value):
    with pytest.raises(UsageError, match=f"{name}={value}"):
        obey_environment(config(), {name: value})


def test_what_the_launcher_always_says_is_fine():
    said = {
        "ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_DYNAMO_BACKEND": "no", "ACCELERATE_DYNAMO_MODE": "default",
        "ACCELERATE_DYNAMO_USE_FULLGRAPH": "False", "ACCELERATE_DYNAMO_USE_DYNAMIC": "False",
        "ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION": "False", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1",
        "ACCELERATE_USE_FSDP": "false", "ACCELERATE_USE_DEEPSPEED": "",
    }  # fmt: skip
    assert obey_environment(config(), said) == config()


def test_accumulation_may_be_asked_for_twice_alike(monkeypatch, anew):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    asked = config(batches=BatchesConfig(accumulation=4))
    assert obey_environment(asked) == asked
    assert make_accelerator("no").gradient_accumulation_steps == 1, "gradients would be divided twice"


def test_the_launchers_wish_to_compile_compiles_all(monkeypatch, anew):
    assert obey_environment(config(), {"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}).machine.compile
    with pytest.raises(UsageError, match="ACCELERATE_DYNAMO_MODE=max-autotune: dinogen compiles in its own way"):
        obey_environment(config(), {"ACCELERATE_DYNAMO_BACKEND": "inductor", "ACCELERATE_DYNAMO_MODE": "max-autotune"})
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "inductor")
    plugin = make_accelerator("no").state.dynamo_plugin
    assert plugin is not None and plugin.backend == "NO", "the generator would be compiled twice"


@pytest.mark.parametrize(
    ("name", "value"), [("ACCELERATE_USE_CPU", "perhaps"), ("ACCELERATE_DEBUG_MODE", "x"), ("LOCAL_RANK", "x")]
)
def test_what_accelerate_cannot_read_is_one_line(name, value, monkeypatch, anew):
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="do not start as the environment asks"):
        make_accelerator("no")


@pytest.mark.parametrize("given", ["50GB", "nan", "-1"])
def test_a_size_of_the_cache_that_is_no_number_is_refused(given, monkeypatch):
    monkeypatch.setenv("DINOGEN_CACHE_GB", given)
    with pytest.raises(UsageError, match=f"DINOGEN_CACHE_GB={given}: give a number of gigabytes"):
        RemoteFolder("https://example.invalid/x")


def test_the_cache_may_be_below_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("DINOGEN_CACHE", "~/cache")
    assert str(default_cache()) == "/home/me/cache"


@pytest.mark.parametrize(
    ("variables", "answer"),
    [
        ({"RANK": "x"}, "RANK=x: give a whole number, 0 at least"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0: give a whole number, 1 at least"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2: must be below WORLD_SIZE, which is 2"),
    ],
)
def test_a_launchers_number_that_cannot_be_is_one_line(variables, answer, monkeypatch, capsys):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert pack(["--input", "none", "--output", "none"]) == 2
    assert answer in capsys.readouterr().err
