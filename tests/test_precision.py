"""Ways to compute the same step: they come to (nearly) the same gradient, in the types that docs/training.md says."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.optim import Adam

from dinogen.doctor import examine_compiler
from dinogen.kept import KeptAdam
from dinogen.train import launcher
from dinogen.train.run_log import LOG
from helpers.ranks import ROOT, torchrun


def one_step(data: Path, folder: Path, *flags: str, **environment: str) -> tuple[Tensor, dict[str, str]]:
    """The gradient of a step, and the types of what leads to it."""
    result = folder / "result.safetensors"
    arguments = [str(data), str(folder / "run"), str(result), *flags]
    torchrun(1, ROOT / "tests" / "helpers" / "precise.py", *arguments, **environment)
    with safe_open(result, "pt") as file:
        return file.get_tensor("gradient"), file.metadata()


@pytest.fixture(scope="module")
def plain(shards32: Path, tmp_path_factory) -> tuple[Tensor, dict[str, str]]:
    return one_step(shards32, tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("has_units", [True, False])
def test_bf16_that_a_processor_emulates_is_said_to_be_slow(monkeypatch, caplog, has_units):
    monkeypatch.setattr(LOG, "propagate", True)
    monkeypatch.setattr(launcher, "cpu_has_bf16", lambda: has_units)
    launcher.warn_if_emulated(SimpleNamespace(mixed_precision="bf16", device=torch.device("cpu")))
    assert ("take --precision no" in caplog.text) == (not has_units)


def error(found: Tensor, expected: Tensor) -> float:
    assert found.isfinite().all()
    return float((found - expected).norm() / expected.norm())


def test_without_mixed_precision_all_but_the_stored_features_is_float32(plain):
    expected = dict.fromkeys(["teacher", "gradient", "images", "generated", "convolution", "product"], "float32")
    assert plain[1] == expected | {"real": "float16"}


def test_bf16_is_for_convolutions_and_products_alone(shards32, tmp_path, plain):
    gradient, types = one_step(shards32, tmp_path, ACCELERATE_MIXED_PRECISION="bf16")
    assert types == plain[1] | {"convolution": "bfloat16", "product": "bfloat16"}
    assert 0 < error(gradient, plain[0]) < 0.1


def test_a_teacher_in_bf16_hands_out_float32(shards32, tmp_path, plain):
    gradient, types = one_step(shards32, tmp_path, "--teacher.precision=bf16", ACCELERATE_MIXED_PRECISION="bf16")
    assert types == plain[1] | {"convolution": "bfloat16", "product": "bfloat16", "teacher": "bfloat16"}
    assert 0 < error(gradient, plain[0]) < 0.1


def test_activation_checkpointing_changes_nothing(shards32, tmp_path, plain):
    gradient, types = one_step(shards32, tmp_path, "--teacher.activation_checkpointing=true")
    assert types == plain[1]
    assert error(gradient, plain[0]) < 1e-6


@pytest.mark.slow
@pytest.mark.skipif(examine_compiler().verdict != "ok", reason="torch.compile needs a C compiler")
def test_compiled_a_step_comes_to_the_same(shards32, tmp_path, plain):
    gradient, _ = one_step(shards32, tmp_path, "--machine.compile=true")
    assert error(gradient, plain[0]) < 1e-4


def test_restored_moments_lie_as_their_parameters_do():
    module = torch.nn.Conv2d(3, 4, 2, bias=False).to(memory_format=torch.channels_last)
    optimizer = Adam(module.parameters())
    module.weight.sum().backward()
    optimizer.step()
    values = {f"weight/{key}": torch.rand(4, 3, 2, 2) for key in ("exp_avg", "exp_avg_sq")}
    KeptAdam("optimizer", optimizer, module).restore(values | {"weight/step": torch.tensor(1.0)})
    for name, value in values.items():
        restored = optimizer.state[module.weight][name.removeprefix("weight/")]
        assert restored.stride() == module.weight.stride() and torch.equal(restored, value)
