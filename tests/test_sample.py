"""Opening snapshots, drawing samples, walking between them."""

import json

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from PIL import Image

from dinogen.errors import DinogenError, UsageError
from dinogen.images import grid_columns, image_grid, save_film, to_uint8, viewing_scale
from dinogen.networks import Generator
from dinogen.opening import load_generator
from dinogen.sample import interpolation_loop, interpolation_strip, latents, sample_images, style_mixing
from helpers.drawn_face import draw_faces
from launch import interpolate, sample


def make_generator(seed: int = 0, **changes) -> Generator:
    torch.manual_seed(seed)
    settings = {"img_resolution": 16, "z_dim": 16, "w_dim": 16, "channel_base": 128, "channel_max": 16} | changes
    generator = Generator(**settings)
    generator.update_w_avg()
    return generator.eval()


@pytest.fixture(scope="module")
def generator() -> Generator:
    return make_generator()


@pytest.fixture
def run(tmp_path):
    """A run with two snapshots, of which a plain sort of names would take the older one."""
    folder = tmp_path / "run"
    make_generator(seed=1).save_pretrained(folder / "snapshots" / "kimg999999.936")
    make_generator(seed=2).save_pretrained(folder / "snapshots" / "kimg1000000.064")
    return folder


def fails_with(verb, capsys, *argv: str) -> tuple[int, str]:
    code = verb.main(list(argv))
    lines = capsys.readouterr().err.strip().splitlines()
    assert not any("Traceback" in line for line in lines)
    return code, lines[-1]


# Samples


def test_a_sample_depends_on_seed_and_number_alone(generator):
    eight = sample_images(generator, 8, seed=3)
    assert torch.equal(sample_images(generator, 3, seed=3), eight[:3])
    assert torch.equal(latents(3, 5, 2, 16), latents(3, 0, 8, 16)[5:7])


def test_batch_size_moves_a_sample_by_one_grey_level_at_most(generator):
    by_four, by_seven = (sample_images(generator, 9, seed=3, batch_size=size).int() for size in (4, 7))
    assert (by_four - by_seven).abs().max() <= 1


def test_samples_differ_between_numbers_and_seeds(generator):
    here, there = sample_images(generator, 4, seed=0), sample_images(generator, 4, seed=1)
    assert len({image.numpy().tobytes() for image in torch.cat([here, there])}) == 8


def test_latents_are_standard_normal():
    z = latents(0, 0, 400, 128)
    assert z.mean().abs() < 0.02 and (z.std() - 1).abs() < 0.02
    assert (z @ z.T / 128 - torch.eye(400)).abs().max() < 0.75  # neighbouring numbers are unrelated


def test_truncation_to_zero_draws_the_average_face_only(generator):
    images = sample_images(generator, 3, seed=0, truncation_psi=0.0)
    assert torch.equal(images[0], images[1]) and torch.equal(images[0], images[2])


def test_samples_are_drawn_at_the_trained_resolution():
    assert sample_images(make_generator(trained_resolution=8), 2, seed=0).shape == (2, 3, 8, 8)


# Walks


def test_a_strip_begins_and_ends_with_the_samples_of_the_seed(generator):
    strip = interpolation_strip(generator, rows=2, frames=5, seed=3).unflatten(0, (2, 5)).int()
    samples = sample_images(generator, 4, seed=3).int()
    assert (strip[:, 0] - samples[0::2]).abs().max() <= 1
    assert (strip[:, -1] - samples[1::2]).abs().max() <= 1


def test_steps_of_a_loop_are_even_and_it_closes(generator):
    frames = torch.stack(list(interpolation_loop(generator, faces=4, frames=60, seed=0))).float()
    steps = (torch.roll(frames, -1, 0) - frames).flatten(1).norm(dim=1)
    assert len(frames) == 60
    assert steps.max() <= 3 * steps.median()
    assert steps.min() > 0


def test_mixed_styles_take_the_coarse_blocks_from_the_row_and_the_rest_from_the_column(generator):
    table = style_mixing(generator, [0, 1], [2, 3, 4], seed=5).unflatten(0, (3, 4))
    w = generator.mapping(latents(5, 0, 5, 16))
    assert (table[0, 0] == 255).all()
    assert (table[1, 0].int() - to_uint8(generator.draw(w[:1])[0]).int()).abs().max() <= 1
    assert (table[0, 3].int() - to_uint8(generator.draw(w[4:])[0]).int()).abs().max() <= 1
    mixed = torch.stack([w[1], w[3], w[3]])[None]  # of the blocks 4, 8 and 16 the first is the coarse half
    assert (table[2, 2].int() - to_uint8(generator.draw(mixed)[0]).int()).abs().max() <= 1


# Opening a snapshot


def test_a_run_gives_its_newest_snapshot(run):
    found = load_generator(run)
    assert torch.equal(found.w_avg, make_generator(seed=2).w_avg)
    assert not found.training


def test_a_snapshot_folder_gives_itself(run):
    assert torch.equal(load_generator(run / "snapshots" / "kimg999999.936").w_avg, make_generator(seed=1).w_avg)


def test_a_half_written_snapshot_is_not_taken(run):
    (run / "snapshots" / ".kimg2000000.tmp17").mkdir()
    assert torch.equal(load_generator(run).w_avg, make_generator(seed=2).w_avg)


def test_a_folder_without_a_snapshot_is_named(tmp_path):
    with pytest.raises(UsageError, match=f"{tmp_path}: no snapshot here"):
        load_generator(tmp_path)


def test_a_missing_folder_is_named_without_asking_the_hub(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        load_generator(tmp_path / "run")


def test_an_unreachable_hub_is_one_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DinogenError, match="nobody/nothing: .* the hub did not give config.json") as caught:
        load_generator("nobody/nothing")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "spoil", "message"),
    [
        ("model.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-100]), "model.safetensors: no whole"),
        ("model.safetensors", lambda path: path.write_bytes(b""), "model.safetensors: cut short"),
        ("model.safetensors", lambda path: path.unlink(), "no snapshot here"),
        ("config.json", lambda path: path.unlink(), "config.json is missing"),
        ("config.json", lambda path: path.write_text("{"), "config.json: not a generator's configuration"),
        ("config.json", lambda path: path.write_text('{"depth": 3}'), "config.json: not a generator's configuration"),
        (
            "config.json",
            lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | {"w_dim": 32})),
            "model.safetensors: .* has shape .* instead of .*; broken, or of another config.json",
        ),
    ],
    ids=["truncated", "empty", "no weights", "no config", "broken config", "strange config", "other shapes"],
)
def test_a_damaged_snapshot_is_one_line(run, file, spoil, message):
    snapshot = run / "snapshots" / "kimg1000000.064"
    spoil(snapshot / file)
    with pytest.raises(DinogenError, match=message) as caught:
        load_generator(snapshot)
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_not_read(run):
    snapshot = run / "snapshots" / "kimg1000000.064"
    torch.save(load_generator(snapshot).state_dict(), snapshot / "pytorch_model.bin")
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="no snapshot here"):
        load_generator(snapshot)


# Pictures


def test_white_and_black_are_the_ends_of_the_range():
    assert to_uint8(torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0])).tolist() == [0, 0, 128, 255, 255]


def test_a_grid_lays_images_out_row_by_row():
    shades = torch.tensor([10, 20, 30], dtype=torch.uint8)[:, None, None, None].expand(3, 3, 4, 4)
    page = np.array(image_grid(shades, columns=2, upscale=2))
    assert page.shape == (18, 18, 3)
    assert (page[:8, :8] == 10).all() and (page[:8, 10:] == 20).all() and (page[10:, :8] == 30).all()
    assert (page[10:, 10:] == 255).all()


def test_small_images_are_enlarged_by_whole_factors():
    assert [viewing_scale(side) for side in (4, 32, 64, 128, 256)] == [32, 4, 2, 1, 1]


# The verbs


def test_sample_writes_a_png_each_and_a_grid(run, tmp_path, capsys):
    assert sample.main(["--model", str(run), "--count", "5", "--output", str(tmp_path / "out"), "--seed", "4"]) == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["grid.png"] + [f"seed0004-{i:06d}.png" for i in range(5)]
    stored = np.array(Image.open(tmp_path / "out" / "seed0004-000002.png"))
    expected = sample_images(load_generator(run), 3, seed=4)[2].permute(1, 2, 0).numpy()
    assert (stored == expected).all()
    said = capsys.readouterr()
    assert said.out.startswith(f"Wrote {tmp_path / 'out'}: 5 faces and grid.png.") and "another seed" not in said.err


def test_samples_of_another_seed_or_model_in_the_folder_are_refused_or_replaced(run, tmp_path, capsys):
    out = tmp_path / "out"

    def draw(*flags: str, code: int = 0) -> str:
        assert sample.main(["--model", str(run), "--output", str(out), "--count", "3", *flags]) == code
        return capsys.readouterr().err

    assert "another" not in draw("--count", "5") + draw()
    found = "has 5 samples of another seed, model, truncation or prompt, such as seed0000-000000.png; choose another"
    assert found in draw("--seed", "7", code=2)
    older = str(run / "snapshots" / "kimg999999.936")
    assert "has 5 samples" in draw("--model", older, code=2)
    (out / "seed-of-mine.png").write_bytes((out / "grid.png").read_bytes())
    assert sorted(path.name for path in out.glob("seed0*")) == [f"seed0000-{i:06d}.png" for i in range(5)]
    draw("--seed", "7", "--replace")
    names = [f"seed0007-{i:06d}.png" for i in range(3)]
    assert sorted(path.name for path in out.iterdir()) == ["grid.png", "seed-of-mine.png", *names]


def test_columns_of_a_grid_leave_few_places_empty():
    assert {count: grid_columns(count) for count in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 64, 100)} == {
        1: 1, 2: 2, 3: 3, 4: 2, 5: 3, 6: 3, 7: 4, 8: 4, 9: 3, 10: 5, 12: 4, 16: 4, 64: 8, 100: 10,
    }  # fmt: skip
    assert all(-count % grid_columns(count) < 5 for count in range(1, 101))


def test_sample_explains_a_wrong_model(tmp_path, capsys):
    code, line = fails_with(sample, capsys, "--model", str(tmp_path), "--output", str(tmp_path / "out"))
    assert code == 2 and f"{tmp_path}: no snapshot here" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flag", [("--count", "0"), ("--seed", "-1"), ("--truncation-psi", "-1"), ("--device", "abc")])
def test_sample_refuses_impossible_values(run, capsys, flag):
    code, line = fails_with(sample, capsys, "--model", str(run), *flag)
    assert code == 2 and flag[0].removeprefix("--").replace("-", "_") in line.replace("-", "_")


def test_interpolate_writes_a_strip(run, tmp_path):
    out = tmp_path / "walk.png"
    assert interpolate.main(["--model", str(run), "--output", str(out), "--faces", "4", "--frames", "3"]) == 0
    assert Image.open(out).size == (3 * 128 + 2 * 2, 2 * 128 + 2)


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_interpolate_writes_a_film_of_a_pleasant_size(run, tmp_path, suffix):
    out = tmp_path / f"walk{suffix}"
    assert interpolate.main(["--model", str(run), "--output", str(out), "--faces", "2", "--frames", "10"]) == 0
    frames, *size = imageio.imread(out).shape
    assert size == [192, 192, 3] if suffix == ".gif" else [frames, *size] == [10, 256, 256, 3]
    assert [path.name for path in tmp_path.glob("*walk*")] == [out.name]


def test_a_gif_is_not_many_times_the_size_of_a_film(tmp_path):
    faces = draw_faces(4, side=64).float()
    blends = torch.cat([a.lerp(b, torch.arange(24)[:, None, None, None] / 24) for a, b in zip(faces, faces.roll(1, 0))])
    for suffix in (".gif", ".mp4"):
        save_film((blend.byte() for blend in blends), tmp_path / f"walk{suffix}")
    assert (tmp_path / "walk.gif").stat().st_size < 5 * (tmp_path / "walk.mp4").stat().st_size


def test_interpolate_names_the_three_kinds_of_output(run, tmp_path, capsys):
    code, line = fails_with(interpolate, capsys, "--model", str(run), "--output", str(tmp_path / "walk.webm"))
    assert code == 2 and ".png, .gif or .mp4" in line


@pytest.mark.parametrize("ffmpeg", [None, "exit 1", "exit 0", "echo Unknown encoder libx264 >&2; exit 1"])
def test_a_missing_or_broken_ffmpeg_is_one_line_and_leaves_nothing(ffmpeg, tmp_path, monkeypatch):
    path = tmp_path / "ffmpeg"
    if ffmpeg is not None:
        path.write_text(f"#!/bin/sh\n{ffmpeg}\n")
        path.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(path))
    frames = (torch.zeros(3, 8, 8, dtype=torch.uint8) for _ in range(3))
    with pytest.raises(DinogenError, match="no film: ffmpeg does not work here .*; give a .gif, or pip install"):
        save_film(frames, tmp_path / "out" / "walk.mp4")
    assert list((tmp_path / "out").iterdir()) == []
