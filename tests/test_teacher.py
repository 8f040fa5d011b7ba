"""The frozen teacher: what it hands out, that it stays frozen, and how it is loaded without a network."""

import subprocess
import sys

import pytest
import torch
from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from dinogen.errors import DinogenError, UsageError
from dinogen.pyramid import complete
from dinogen.teacher import make_teacher


@pytest.fixture(scope="module")
def tiny():
    return make_teacher("tiny")


def test_the_pyramid_has_the_specs_shapes_and_completes_from_its_stored_part(tiny):
    pyramid = tiny(torch.rand(2, 3, 32, 32) * 2 - 1)
    assert {name: tuple(level.shape[1:]) for name, level in pyramid.items()} == tiny.spec.shapes()
    stored = {name: pyramid[name] for name in tiny.spec.stored_shapes()}
    torch.testing.assert_close(complete(stored, tiny.spec), pyramid)


def test_maps_keep_their_place(tiny):
    images = torch.zeros(2, 3, 32, 32)
    images[1, :, 0:4, 28:32] = 1
    change = (tiny(images)["l1_8x8"].diff(dim=0)[0]).norm(dim=0)
    assert change.argmax() == 7, "the top right patch changes most"


def test_gradients_reach_the_images_and_no_weight(tiny):
    images = torch.zeros(1, 3, 16, 16, requires_grad=True)
    sum(level.square().sum() for level in tiny(images).values()).backward()
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in tiny.parameters())


def test_it_cannot_leave_eval_mode(tiny):
    tiny.train()
    assert not any(module.training for module in tiny.modules())


def test_tiny_is_the_same_in_every_process_and_says_what_it_is(tiny):
    code = "from dinogen.teacher import make_teacher; import torch; torch.manual_seed(7); print(make_teacher('tiny').spec.teacher_sha256)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == tiny.spec.teacher_sha256
    assert "knows nothing about faces" in run.stderr


def test_tiny_at_64_pixels_has_a_finer_grid():
    spec = make_teacher("tiny", input_size=64).spec
    assert (spec.grid, spec.levels, spec.fine_layers) == (16, (1, 2, 4, 8, 16), (3,))
    with pytest.raises(UsageError, match="teacher.input_size 48: the tiny teacher takes 32 or 64"):
        make_teacher("tiny", input_size=48)


@pytest.mark.parametrize("registers", [0, 4])
def test_a_saved_dinov2_opens_from_its_folder(tmp_path, registers):
    sizes = {"hidden_size": 32, "num_hidden_layers": 6, "num_attention_heads": 2, "image_size": 518, "patch_size": 14}
    if registers:
        model = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**sizes, num_register_tokens=registers))
    else:
        model = Dinov2Model(Dinov2Config(**sizes))
    model.eval().save_pretrained(tmp_path / "dino")
    teacher = make_teacher(str(tmp_path / "dino"))
    assert teacher.spec.layers == (2, 3, 4, 6) and teacher.spec.grid == 16
    images = torch.rand(1, 3, 224, 224) * 2 - 1
    pyramid = teacher(images)
    with torch.no_grad():
        tokens = model((((images + 1) / 2) - teacher.mean) / teacher.std).last_hidden_state
    torch.testing.assert_close(pyramid["cls"], tokens[:, 0])
    patches = tokens[:, 1 + registers :].transpose(1, 2).unflatten(2, (16, 16))
    torch.testing.assert_close(pyramid["l6_16x16"], patches)


def test_a_folder_without_a_model_is_one_plain_line(tmp_path):
    with pytest.raises(DinogenError, match="no config.json here"):
        make_teacher(str(tmp_path))


def test_another_kind_of_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(DinogenError, match="is a vit; take a DINOv2"):
        make_teacher(str(tmp_path))


def test_a_hub_out_of_reach_says_what_to_do_offline(monkeypatch, tmp_path):
    code = "from dinogen.teacher import make_teacher; make_teacher('facebook/dinov2-base')"
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    last = run.stderr.strip().splitlines()[-1]
    assert "facebook/dinov2-base" in last and "--teacher DIR" in last


def test_layers_that_do_not_exist_are_refused():
    with pytest.raises(UsageError, match=r"teacher.layers \[4\]: 'tiny' has layers 1 to 3"):
        make_teacher("tiny", layers=[4])


def test_tiny_sees_the_detail_inside_a_patch_as_clearly_as_its_colour(tiny):
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    stripes = torch.where((columns // 2) % 2 == 0, 0.2, -0.2).expand(1, 3, 32, 32)
    grey, brighter = torch.zeros(1, 3, 32, 32), torch.full((1, 3, 32, 32), 0.2)
    flat, striped, lit = (tiny(images)["l1_8x8"] for images in (grey, stripes, brighter))
    assert (striped - flat).norm() > (lit - flat).norm()
