"""Crops of 512 pixels on their way: cut, packed, checked, shown, read, thinned out."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dinogen.data.loader import ShardLoader, load_crops
from dinogen.data.manifest import read_manifest
from dinogen.data.schema import CROP_SIZES
from dinogen.errors import DinogenError, UsageError
from helpers.crop_folder import make_crops
from helpers.drawn_face import draw_face
from launch import crop, inspect
from shards.crop import crop_folder
from shards.options import CropOptions
from shards.pack import pack_folder
from shards.remove import remove_samples
from shards.verify import verify_folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for index in range(3):
        draw_face((900, 900), height=500 + 20 * index, background=(60 * index, 90, 140)).save(folder / f"{index}.jpg")
    return folder


@pytest.fixture(scope="module")
def crops(photos: Path, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("crops")
    assert crop.main(["--input", str(photos), "--output", str(output), "--size", "512", "--workers", "0"]) == 0
    return output


@pytest.fixture
def data(crops: Path, tmp_path: Path) -> Path:
    pack_folder(crops, tmp_path / "data")
    return tmp_path / "data"


def test_a_larger_crop_shows_the_same_in_more_pixels(photos: Path, crops: Path, tmp_path: Path):
    crop_folder(photos, tmp_path, workers=0)
    for path in crops.glob("*.jpg"):
        large, small = Image.open(path), Image.open(tmp_path / path.name)
        assert (large.size, small.size) == ((512, 512), (256, 256))
        assert np.abs(np.asarray(large.reduce(2), float) - np.asarray(small, float)).mean() < 2
        described, other = (json.loads((folder / f"{path.stem}.json").read_text()) for folder in (crops, tmp_path))
        assert (described["crop_size"], other["crop_size"]) == (512, 256)
        for name in ("yaw", "pitch", "padding", "sharpness"):
            assert described[name] == pytest.approx(other[name], rel=0.1, abs=0.1)


def test_the_manifest_says_the_size_and_every_reader_follows(data: Path):
    manifest = read_manifest(data)
    assert manifest.crop_size == 512 and json.loads((data / "manifest.json").read_text())["crop_size"] == 512
    assert verify_folder(data).problems == []
    images = load_crops(data, 3, resolution=512)
    assert images.shape == (3, 3, 512, 512)
    for resolution in (256, 64):
        batch = next(ShardLoader(data, seed=0).batches(3, image_resolution=resolution, stage=None))
        exact = torch.nn.functional.avg_pool2d(images.float(), 512 // resolution)
        assert (batch.images.float() - exact).abs().mean() < 2


def test_256_is_not_written_and_taken_where_nothing_is_said(tmp_path: Path):
    make_crops(tmp_path / "crops", 2)
    assert pack_folder(tmp_path / "crops", tmp_path / "data").crop_size == 256
    assert "crop_size" not in json.loads((tmp_path / "data/manifest.json").read_text())
    assert read_manifest(tmp_path / "data").crop_size == 256


def test_more_than_the_crops_hold_is_refused_with_what_to_do(data: Path):
    with pytest.raises(UsageError, match="crops have 512 pixels a side; .*dinogen crop --size 1024"):
        load_crops(data, 1, resolution=1024)
    with pytest.raises(UsageError, match="take 4, 8, 16 … 512"):
        load_crops(data, 1, resolution=96)


def test_inspect_says_the_size(data: Path, tmp_path: Path, capsys):
    assert inspect.main(["--data", str(data), "--output", str(tmp_path / "look.png")]) == 0
    assert "crops of 512×512 pixels" in capsys.readouterr().out


def test_removing_keeps_the_size(data: Path):
    loader = ShardLoader(data, seed=0)
    remove_samples(data, keys=next(loader.batches(1, image_resolution=None, stage=None)).keys)
    assert read_manifest(data).crop_size == 512 and verify_folder(data).problems == []


def test_sizes_do_not_mix(crops: Path, tmp_path: Path):
    shutil.copytree(crops, tmp_path / "crops")
    make_crops(tmp_path / "crops", 1)
    with pytest.raises(DinogenError, match="pixels instead of"):
        pack_folder(tmp_path / "crops", tmp_path / "data")


@pytest.mark.parametrize("side", [300, 2048])
def test_a_size_that_crops_do_not_have_is_refused(tmp_path: Path, side: int):
    (key,) = make_crops(tmp_path / "crops", 1)
    Image.new("RGB", (side, side)).save(tmp_path / "crops" / f"{key}.jpg")
    with pytest.raises(DinogenError, match=f"is {side}×{side} pixels; crops are square, with a side of 256, 512, 1024"):
        pack_folder(tmp_path / "crops", tmp_path / "data")


def test_a_manifest_with_another_size_is_refused(data: Path):
    values = json.loads((data / "manifest.json").read_text()) | {"crop_size": 300}
    (data / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(DinogenError, match="crop_size 300 is not one of"):
        read_manifest(data)


def test_the_largest_size_can_be_cut(photos: Path, tmp_path: Path):
    shutil.copy(photos / "0.jpg", tmp_path)
    output = tmp_path.with_name("largest")
    crop_folder(tmp_path, output, CropOptions(size=max(CROP_SIZES)), workers=0)
    (path,) = output.glob("*-0.jpg")
    assert Image.open(path).size == (1024, 1024)
