"""The frozen teacher: what it hands out, that it stays frozen, and how it is loaded without a network."""

import copy
import dataclasses
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.checkpoint import checkpoint
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
)

from dinogen.errors import DinogenError, UsageError
from dinogen.pyramid import StagedSpec, complete, pool
from dinogen.teachers import (
    FAMILIES,
    Backbone,
    Teacher,
    all_stages,
    default_view,
    make_teacher,
    teacher_of,
    wants_sharding,
)
from dinogen.teachers.base import hash_weights
from helpers.ranks import ROOT, torchrun


@pytest.fixture(scope="module")
def tiny():
    return make_teacher("tiny")


def test_the_pyramid_has_the_specs_shapes_and_completes_from_its_stored_part(tiny):
    pyramid = tiny(torch.rand(2, 3, 32, 32) * 2 - 1)
    assert {name: tuple(level.shape[1:]) for name, level in pyramid.items()} == tiny.specs[32].shapes()
    stored = {name: pyramid[name] for name in tiny.specs[32].stored_shapes()}
    torch.testing.assert_close(complete(stored, tiny.specs[32]), pyramid)


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
    code = "import torch; torch.manual_seed(7); from dinogen.teachers import make_teacher; "
    code += "print(make_teacher('tiny').specs.finest.teacher_sha256)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == tiny.specs[32].teacher_sha256
    assert "knows nothing about faces" in run.stderr


def test_tiny_has_the_weights_that_it_always_had(tiny):
    assert (tiny.specs[32].teacher_sha256, tiny.specs[32].fingerprint) == ("fff25d876406001c", "37d879a6748bad8c")


def test_each_stage_has_a_view_of_its_own(tiny):
    specs = make_teacher("tiny", all_stages(128)).specs
    assert {resolution: specs[resolution].input_size for resolution in specs} == {4: 32, 8: 32, 16: 32, 32: 32, 64: 64,
                                                                                128: 64}  # fmt: skip
    spec = specs[64]
    assert (spec.grid, spec.levels, spec.fine_layers) == (16, (1, 2, 4, 8, 16), (3,))
    assert {spec.teacher_sha256 for spec in specs.stages.values()} == {tiny.specs[32].teacher_sha256}
    assert [default_view(resolution, 14) for resolution in (4, 128, 256)] == [112, 112, 224]
    assert [default_view(resolution, 16) for resolution in (128, 256)] == [128, 256]


def test_images_are_seen_as_their_stage_sees_them():
    teacher = make_teacher("tiny", [16, 64])
    for resolution, seen_as in ((16, 16), (64, 64), (32, 64), (128, 64)):
        pyramid = teacher(torch.rand(1, 3, resolution, resolution) * 2 - 1)
        assert {name: tuple(level.shape[1:]) for name, level in pyramid.items()} == teacher.specs[seen_as].shapes()
    assert "l3_16x16" not in teacher.specs[16].shapes() and "l3_16x16" in teacher.specs[64].shapes()


def small_model(kind):
    """A real model of a family, narrow, with random weights."""
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "num_hidden_layers": 6, "num_attention_heads": 2}
    if kind == "dinov3":
        config = DINOv3ViTConfig(**sizes, intermediate_size=64, num_register_tokens=4, use_gated_mlp=True)
        return DINOv3ViTModel(config).eval()
    if kind == "giant":
        return Dinov2Model(Dinov2Config(**sizes, image_size=518, patch_size=14, use_swiglu_ffn=True)).eval()
    if kind == "registers":
        config = Dinov2WithRegistersConfig(**sizes, image_size=518, patch_size=14, num_register_tokens=4)
        return Dinov2WithRegistersModel(config).eval()
    return Dinov2Model(Dinov2Config(**sizes, image_size=518, patch_size=14)).eval()


@pytest.fixture(params=["dinov2", "registers", "dinov3"])
def saved(request, tmp_path):
    """A saved model of each family: its folder, the model itself and its number of tokens before the patches."""
    model = small_model(request.param)
    model.save_pretrained(tmp_path / "dino")
    return tmp_path / "dino", model, 1 if request.param == "dinov2" else 5


def test_a_saved_dino_opens_from_its_folder_and_sees_16_by_16_patches(saved):
    folder, model, prefix = saved
    teacher = make_teacher(str(folder), [256])
    spec = teacher.specs[256]
    assert spec.layers == (2, 3, 4, 6) and spec.grid == 16 and spec.levels == (1, 2, 4, 8, 16)
    assert len(teacher.blocks) == 6 and spec.patch_size == model.config.patch_size
    images = torch.rand(1, 3, spec.input_size, spec.input_size) * 2 - 1
    pyramid = teacher(images)
    with torch.no_grad():
        tokens = model((((images + 1) / 2) - teacher.mean) / teacher.std).last_hidden_state
    torch.testing.assert_close(pyramid["cls"], tokens[:, 0])
    patches = tokens[:, prefix:].transpose(1, 2).unflatten(2, (16, 16))
    torch.testing.assert_close(pyramid["l6_16x16"], patches)


@pytest.mark.parametrize("kind", ["dinov2", "giant", "registers", "dinov3"])
def test_the_hash_is_that_of_the_published_weights(tmp_path, kind):
    small_model(kind).save_pretrained(tmp_path)
    published = load_file(tmp_path / "model.safetensors").values()
    assert make_teacher(str(tmp_path)).specs.finest.teacher_sha256 == hash_weights(published)


def test_a_middle_layer_is_what_its_block_puts_out_normalised(saved):
    folder, _, prefix = saved
    teacher = make_teacher(str(folder), [256], layers=[3], levels=[8])
    outputs = []
    teacher.blocks[2].register_forward_hook(lambda block, inputs, output: outputs.append(output))
    pyramid = teacher(torch.rand(2, 3, 64, 64) * 2 - 1)
    tokens = outputs[0] if isinstance(outputs[0], torch.Tensor) else outputs[0][0]
    patches = torch.nn.functional.layer_norm(tokens[:, prefix:], (32,))
    torch.testing.assert_close(pyramid["l3_8x8"], pool(patches.transpose(1, 2).unflatten(2, (16, 16)), 8))


def test_recomputed_blocks_give_the_same_gradient(saved):
    folder, _, _ = saved
    gradients = []
    for recompute in (False, True):
        teacher = make_teacher(str(folder), input_size=2 * saved[1].config.patch_size)
        for block in teacher.blocks if recompute else []:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        images = torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32).requires_grad_()
        sum(level.square().sum() for level in teacher(images).values()).backward()
        gradients.append(images.grad)
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(*gradients)


def test_weights_in_bf16_see_nearly_the_same(saved):
    folder, _, _ = saved
    teacher = make_teacher(str(folder), levels=[1])
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    exact = teacher(images)["l6_1x1"]
    teacher.cast_weights(torch.bfloat16)
    assert {parameter.dtype for parameter in teacher.parameters()} == {torch.bfloat16}
    assert {buffer.dtype for buffer in teacher.buffers()} == {torch.float32}, "rotary frequencies stay exact"
    assert (teacher(images)["l6_1x1"] - exact).norm() < 0.03 * exact.norm()


def test_from_large_teachers_on_several_ranks_share_the_weights(tiny):
    large = Teacher(copy.copy(tiny.backbone), tiny.specs)
    large.backbone.width = 1024
    assert [wants_sharding(teacher, "auto", 2) for teacher in (tiny, large)] == [False, True]
    assert [wants_sharding(tiny, mode, 2) for mode in ("fsdp", "none")] == [True, False]
    assert not wants_sharding(large, "fsdp", 1), "one rank has nobody to share with"


@pytest.mark.slow  # the quick tests share one in test_oracle.py
def test_ranks_that_share_a_teacher_see_what_the_whole_one_sees(tmp_path):
    folders = [tmp_path / kind for kind in ("dinov2", "registers", "dinov3")]
    for folder in folders:
        small_model(folder.name).save_pretrained(folder)
    done = torchrun(2, ROOT / "tests" / "helpers" / "equal_shards.py", *map(str, folders))
    assert "Warning" not in done.stderr


class MeanColour(Backbone):
    """A toy: its one block passes on each patch's normalised mean colour."""

    def __init__(self, patch_size):
        super().__init__()
        self.patch_size, self.width = patch_size, 3
        self.block = torch.nn.Linear(3, 3, bias=False)
        torch.nn.init.eye_(self.block.weight)

    @classmethod
    def load(cls, source):
        return cls(json.loads((Path(source) / "config.json").read_text())["patch_size"])

    @property
    def blocks(self):
        return [self.block]

    def look(self, pixels, layers):
        means = torch.nn.functional.avg_pool2d(pixels, self.patch_size)
        tokens = self.block(means.flatten(2).transpose(1, 2))
        return {layer: tokens for layer in layers}, tokens.mean(1)


def test_a_new_family_is_one_class_and_one_entry(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"model_type": "mean_colour", "patch_size": 2}')
    with pytest.raises(DinogenError, match="is a mean_colour; take a model of one of these types: dinov2, "):
        make_teacher(str(tmp_path))
    monkeypatch.setitem(FAMILIES, "mean_colour", MeanColour)
    teacher = make_teacher(str(tmp_path))
    assert teacher.specs[32].input_size == 32 and teacher.specs[32].layers == (1,)
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    pyramid = teacher(images)
    assert {name: tuple(level.shape[1:]) for name, level in pyramid.items()} == teacher.specs[32].shapes()
    torch.testing.assert_close(
        pyramid["l1_4x4"] * teacher.std + teacher.mean, (pyramid["rgb_4x4"][:, :3] + 1) / 2, rtol=1e-4, atol=1e-5
    )
    assert teacher_of(teacher.specs)(images).keys() == pyramid.keys()


# From the shards' manifest


def test_the_spec_finds_the_teacher_again(saved, tmp_path):
    folder, _, _ = saved
    packed = make_teacher(str(folder), [8, 64, 128], input_size=saved[1].config.patch_size * 4, layers=[2, 6])
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    specs = StagedSpec.from_dict(json.loads(json.dumps(packed.specs.to_dict(), sort_keys=True)))
    torch.testing.assert_close(teacher_of(specs)(images), packed(images), rtol=0, atol=0)
    folder.rename(tmp_path / "moved")
    with pytest.raises(DinogenError, match=r"dino: no teacher here \(no config.json\); pass --teacher.path DIR"):
        teacher_of(specs)
    again = teacher_of(specs, str(tmp_path / "moved"))
    torch.testing.assert_close(again(images), packed(images), rtol=0, atol=0)
    assert again.specs == specs, "the name stays that of the shards"


def test_other_weights_than_the_shards_were_packed_with_are_refused(tiny, tmp_path):
    small_model("dinov2").save_pretrained(tmp_path)
    with pytest.raises(
        DinogenError, match=f"has other weights.*{tiny.specs[32].teacher_sha256}.*pass --teacher.path DIR"
    ):
        teacher_of(tiny.specs, str(tmp_path))


def test_a_shards_teacher_on_a_hub_out_of_reach_asks_for_a_local_copy(tiny):
    specs = StagedSpec({32: dataclasses.replace(tiny.specs[32], teacher="nobody/nothing")})
    with pytest.raises(DinogenError, match="'nobody/nothing' could not be loaded .*; pass --teacher.path DIR"):
        teacher_of(specs)


# What is refused


def test_a_folder_without_a_model_is_one_plain_line(tmp_path):
    with pytest.raises(DinogenError, match=r"no teacher here \(no config.json\); --teacher takes 'tiny'"):
        make_teacher(str(tmp_path))


def test_a_hub_out_of_reach_says_what_to_do_offline(tmp_path):
    code = "from dinogen.teachers import make_teacher; make_teacher('facebook/dinov2-base')"
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    last = run.stderr.strip().splitlines()[-1]
    assert "facebook/dinov2-base" in last and "--teacher DIR" in last


def test_layers_that_do_not_exist_are_refused():
    with pytest.raises(UsageError, match="--layers 4: 'tiny' has layers 1 to 3"):
        make_teacher("tiny", layers=[4])


def test_tiny_sees_the_detail_inside_a_patch_as_clearly_as_its_colour(tiny):
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    stripes = torch.where((columns // 2) % 2 == 0, 0.2, -0.2).expand(1, 3, 32, 32)
    grey, brighter = torch.zeros(1, 3, 32, 32), torch.full((1, 3, 32, 32), 0.2)
    flat, striped, lit = (tiny(images)["l1_8x8"] for images in (grey, stripes, brighter))
    assert (striped - flat).norm() > (lit - flat).norm()
