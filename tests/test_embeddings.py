"""Shards with CLIP's embeddings of the crops: packed as reproducibly as pyramids, and read back."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save
from transformers import CLIPModel

from dinogen.clip import ClipImages
from dinogen.data.loader import ShardLoader, load_embeddings
from dinogen.data.manifest import read_manifest
from dinogen.data.shard import Shard
from dinogen.errors import DinogenError
from dinogen.text import make_text_encoder
from helpers.crop_folder import make_crops
from helpers.text_models import save_bert, save_clip, save_clip_without_projection
from launch.pack import main
from shards.card import write_card
from shards.options import PackOptions
from shards.overview import summary
from shards.pack import pack_folder
from shards.plan import Crop
from shards.remove import remove_samples
from shards.tar import write_tar
from shards.verify import verify_folder

COUNT = 20


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crops")
    make_crops(folder, COUNT)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    save_clip(folder)
    return folder


def pack(crops: Path, output: Path, clip: Path | None, **more) -> None:
    pack_folder(
        crops, output, PackOptions(stages=[16], shard_size=12, clip=None if clip is None else str(clip), **more)
    )


@pytest.fixture(scope="module")
def packed(crops: Path, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    pack(crops, folder, clip)
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


def refused(capsys, crops: Path, output: Path, *more: str) -> str:
    flags = ["--input", str(crops), "--output", str(output), "--stages", "16", "--shard-size", "12"]
    assert main([*flags, *more]) == 1
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "error:" in line)
    return line


def test_embeddings_are_those_of_the_crops_and_of_their_mirror_images(crops, clip, tmp_path):
    pack(crops, tmp_path, clip, mirror=True)
    batch = next(ShardLoader(tmp_path, seed=0, embeddings=True).batches(2 * COUNT, 256, None))
    assert batch.images is not None and batch.embeddings is not None and batch.embeddings.dtype == torch.float16
    pixels = F.interpolate(batch.images.float(), size=(16, 16), mode="bicubic", antialias=True).round().clamp(0, 255)
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    model = CLIPModel.from_pretrained(clip)
    with torch.no_grad():
        seen = model.visual_projection(
            model.vision_model((pixels / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)).pooler_output
        )
    torch.testing.assert_close(batch.embeddings.float(), F.normalize(seen), atol=2e-3, rtol=0)
    of = dict(zip(batch.keys, batch.embeddings))
    assert all(not torch.equal(of[key], of[f"{key}-m"]) for key in of if not key.endswith("-m"))


@pytest.mark.parametrize("options", [{"batch_size": 5}, {"batch_size": 1}])
def test_bytes_do_not_depend_on_how_it_was_packed(crops, clip, packed, tmp_path, options):
    pack(crops, tmp_path, clip, **options)
    assert contents(tmp_path) == contents(packed)


def test_packing_goes_on_after_the_last_whole_shard(crops, clip, packed, tmp_path, monkeypatch):
    forward, looks = ClipImages.forward, []

    def interrupted(self, images):
        looks.append(len(images))
        if len(looks) == 3:
            raise KeyboardInterrupt
        return forward(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(ClipImages, "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pack(crops, tmp_path, clip, batch_size=6)
    assert [path.name for path in tmp_path.glob("*.tar")] == ["shard-000000.tar"]
    pack(crops, tmp_path, clip)
    assert contents(tmp_path) == contents(packed)


def test_the_manifest_names_both_halves_of_the_clip(clip, packed):
    embedder = read_manifest(packed).embedder
    assert embedder is not None and (embedder.name, embedder.width) == (str(clip), 12)
    assert embedder.text_fingerprint == make_text_encoder(str(clip)).fingerprint != embedder.fingerprint
    assert f"clip      {clip} ({embedder.fingerprint}), 12 numbers a sample" in summary(read_manifest(packed))


def test_the_rest_of_the_shards_is_what_it_is_without(crops, packed, tmp_path):
    pack(crops, tmp_path, None)
    with_clip, without = (Shard(folder / "shard-000000.tar") for folder in (packed, tmp_path))
    assert with_clip.keys == without.keys
    for part in ("image", "record", "pyramid"):
        assert all(with_clip.read(row, part) == without.read(row, part) for row in range(12))
    assert "embedder" not in json.loads((tmp_path / "manifest.json").read_text())
    with pytest.raises(DinogenError, match=r"holds no embeddings .* pack --clip"):
        load_embeddings(tmp_path, 4)


def test_another_clip_or_none_is_refused_when_packing_again(crops, packed, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    model = save_clip(other)
    torch.nn.init.normal_(model.visual_projection.weight)
    model.save_pretrained(other)
    before = contents(packed)
    for more in (["--clip", str(other)], []):
        assert "--clip" in refused(capsys, crops, packed, *more)
    assert contents(packed) == before


def test_what_is_no_whole_clip_is_refused_in_one_line(crops, clip, tmp_path, capsys):
    save_bert(tmp_path / "bert")
    (tmp_path / "text").mkdir()
    save_clip_without_projection(tmp_path / "text")
    (tmp_path / "images").mkdir()
    CLIPModel.from_pretrained(clip).vision_model.save_pretrained(tmp_path / "images")
    for name, said in (
        ("bert", "is a bert; take a CLIP"),
        ("text", "is a clip_text_model; take a CLIP"),
        ("images", "take a whole CLIP"),
        ("nothing", "could not be loaded"),
    ):
        assert said in refused(capsys, crops, tmp_path / "out", "--clip", str(tmp_path / name))
    assert not list(tmp_path.glob("out/*.tar"))


def test_removal_keeps_the_embeddings_of_the_others(packed, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(packed, data)
    gone = Shard(data / "shard-000000.tar").keys[3]
    remove_samples(data, keys=[gone])
    assert read_manifest(data).embedder == read_manifest(packed).embedder
    assert not verify_folder(data).problems
    of = [dict(zip(batch.keys, batch.embeddings)) for batch in map(whole, (packed, data))]
    assert of[1].keys() == of[0].keys() - {gone}
    assert all(torch.equal(of[0][key], of[1][key]) for key in of[1])
    write_card(data, data / "README.md")
    assert "| Embeddings of the crops | CLIP " in (data / "README.md").read_text()


def whole(data: Path):
    loader = ShardLoader(data, seed=0, embeddings=True)
    return next(loader.batches(len(loader), None, None))


@pytest.mark.parametrize("spoil", ["long", "nan", "missing", "unlisted"])
def test_verify_finds_embeddings_that_are_not_right(packed, tmp_path, spoil):
    data = tmp_path / "data"
    shutil.copytree(packed, data)
    values = json.loads((data / "manifest.json").read_text())
    shard = Shard(data / "shard-000001.tar")
    tensor = torch.full((12,), {"long": 1.0, "nan": torch.nan}.get(spoil, 12**-0.5)).half()
    samples = []
    for row, key in enumerate(shard.keys):
        crop = Crop(key, "jpg", shard.read(row, "image"), shard.read(row, "record"))
        numbers = {"pyramid.safetensors": shard.read(row, "pyramid"), "clip.safetensors": save({"embedding": tensor})}
        if spoil == "missing":
            del numbers["clip.safetensors"]
        samples.append((crop, numbers))
    size, sha256 = write_tar(data / "shard-000001.tar", samples)
    values["shards"][1] |= {"bytes": size, "sha256": sha256}
    values["bytes"] = sum(each["bytes"] for each in values["shards"])
    if spoil == "unlisted":
        del values["embedder"]
    (data / "manifest.json").write_text(json.dumps(values))
    said = {"long": "not of length one", "nan": "undefined numbers in 'embedding'", "missing": "not a safetensors"}
    problems = verify_folder(data).problems
    assert len(problems) == (COUNT if spoil == "unlisted" else 8)
    assert all(said.get(spoil, "the manifest names no CLIP") in problem for problem in problems)


def test_a_smaller_number_of_embeddings_is_the_beginning_of_a_larger_one(packed):
    some, more = load_embeddings(packed, 5), load_embeddings(packed, 50)
    assert more.shape == (COUNT, 12) and torch.equal(some, more[:5])
    assert torch.equal(more, whole(packed).embeddings)


def test_a_manifest_with_a_strange_embedder_is_refused(packed, tmp_path):
    values = json.loads((packed / "manifest.json").read_text())
    for change in ({"width": "12"}, {"width": 0}, {"name": None}, {"more": 1}):
        (tmp_path / "manifest.json").write_text(json.dumps(values | {"embedder": values["embedder"] | change}))
        with pytest.raises(DinogenError, match=r"manifest.json: damaged"):
            read_manifest(tmp_path)
