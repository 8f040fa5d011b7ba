"""The generator: all stages to 256, fade-in, truncation, stable names, and snapshots."""

import pytest
import torch

from dinogen.networks import Generator


@pytest.fixture(scope="module")
def narrow():
    torch.manual_seed(0)
    return Generator(img_resolution=256, z_dim=16, w_dim=16, channel_base=512, channel_max=16)


@pytest.mark.parametrize("resolution", [4, 8, 16, 32, 64, 128, 256])
def test_every_resolution_up_to_256_is_drawn_and_trained(narrow, resolution):
    narrow.zero_grad()
    images = narrow(torch.randn(2, 16), resolution)
    assert images.shape == (2, 3, resolution, resolution)
    images.square().mean().backward()
    beyond = [name for name, parameter in narrow.named_parameters() if parameter.grad is None]
    trained = {f"b{r}" for r in (4, 8, 16, 32, 64, 128, 256) if r <= resolution}
    assert all(name.split(".")[2] not in trained for name in beyond if name.startswith("synthesis"))
    assert bool(beyond) == (resolution < 256)


def test_a_stage_fades_in_from_the_enlarged_image_of_the_one_before(narrow):
    z = torch.randn(2, 16)
    before = torch.nn.functional.interpolate(narrow(z, 16), scale_factor=2, mode="bilinear")
    torch.testing.assert_close(narrow(z, 32, alpha=0.0), before)
    half = narrow(z, 32, alpha=0.5)
    torch.testing.assert_close(half, (before + narrow(z, 32)) / 2)


def test_the_untrained_image_is_neither_constant_nor_the_same_for_all_latents(narrow):
    images = narrow(torch.randn(8, 16), 64)
    assert images.std(dim=(2, 3)).min() > 0.01
    assert images.std(dim=0).mean() > 0.01


def test_truncation_pulls_towards_the_average_style(narrow):
    narrow.update_w_avg()
    z = torch.randn(16, 16)
    full, half, none = (narrow(z, 32, truncation_psi=psi) for psi in (1.0, 0.5, 0.0))
    assert full.std(0).mean() > half.std(0).mean() > none.std(0).mean()
    assert none.std(0).max() < 1e-5


def test_a_sample_does_not_depend_on_its_batch(narrow):
    z = torch.randn(4, 16)
    torch.testing.assert_close(narrow(z, 32)[2:3], narrow(z[2:3], 32), rtol=1e-4, atol=1e-5)


def test_a_snapshot_opens_as_it_was_saved(narrow, tmp_path):
    narrow.update_w_avg()
    settings = {"img_resolution": 256, "z_dim": 16, "w_dim": 16, "channel_base": 512, "channel_max": 16}
    narrow.save_pretrained(tmp_path, config=settings | {"trained_resolution": 64, "trained_alpha": 0.25})
    opened = Generator.from_pretrained(str(tmp_path))
    z = torch.randn(2, 16)
    assert opened(z).shape[-1] == 64
    torch.testing.assert_close(opened(z, truncation_psi=0.7), narrow(z, 64, 0.25, truncation_psi=0.7))
    torch.testing.assert_close(opened(z, 32), narrow(z, 32))  # earlier stages have been faded in


def test_a_pickle_is_never_opened(narrow, tmp_path):
    narrow.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(narrow.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(Exception, match="safetensors"):
        Generator.from_pretrained(str(tmp_path))
