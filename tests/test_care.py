"""Looking after shards: verify, inspect, remove, card."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import DatasetCard
from PIL import Image
from safetensors.torch import load, save

import shards.remove
from dinogen.data.check import file_sha256
from dinogen.data.loader import ShardLoader
from dinogen.data.manifest import Manifest, ShardRecord, read_manifest
from dinogen.data.shard import Shard
from dinogen.errors import DinogenError, UsageError
from helpers.crop_folder import make_crops
from launch import card, inspect, remove, verify
from shards.card import licence_name, size_category
from shards.options import PackOptions
from shards.pack import pack_folder
from shards.remove import remove_samples
from shards.verify import verify_folder


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    crops, folder = tmp_path_factory.mktemp("crops"), tmp_path_factory.mktemp("packed")
    make_crops(crops, 20)
    make_crops(crops, 4, first=20, split="val")
    pack_folder(crops, folder, PackOptions(shard_size=8))
    return folder


@pytest.fixture
def data(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "data"))


def keys_in(data: Path) -> list[str]:
    return [key for shard in read_manifest(data).shards for key in Shard(data / shard.name).keys]


# --- verify ---


def test_whole_shards_pass(data: Path, capsys):
    assert verify_folder(data).problems == []
    assert verify.main(["--data", str(data)]) == 0
    assert "24 samples in 4 shards, all whole" in capsys.readouterr().out


def forge(data: Path, change) -> str:
    """Change the members of the second shard and make the manifest agree; the key of its first sample."""
    manifest = read_manifest(data)
    path = data / manifest.shards[1].name
    with tarfile.open(path) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
    first = min(members).partition(".")[0]
    change(members, first)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, payload in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            tar.addfile(info, io.BytesIO(payload))
    old = manifest.shards[1]
    new = ShardRecord(old.name, path.stat().st_size, file_sha256(path), old.samples, old.split, old.input_sha256)
    Manifest(manifest.specs, (manifest.shards[0], new, *manifest.shards[2:])).write(data)
    return first


def not_finite(members: dict[str, bytes], key: str) -> None:
    pyramid = load(members[f"{key}.pyramid.safetensors"])
    pyramid["32/l2_8x8"][0, 0, 0] = torch.inf
    members[f"{key}.pyramid.safetensors"] = save(pyramid)


def wrong_shape(members: dict[str, bytes], key: str) -> None:
    members[f"{key}.pyramid.safetensors"] = save({"cls": torch.zeros(3, dtype=torch.float16)})


def no_picture(members: dict[str, bytes], key: str) -> None:
    members[f"{key}.jpg"] = b"<html>"


def other_split(members: dict[str, bytes], key: str) -> None:
    members[f"{key}.json"] = json.dumps(json.loads(members[f"{key}.json"]) | {"split": "val"}).encode()


def no_record(members: dict[str, bytes], key: str) -> None:
    members[f"{key}.json"] = b"[]"


@pytest.mark.parametrize(
    "change, message",
    [
        (not_finite, "has infinite or undefined numbers in '32/l2_8x8'"),
        (wrong_shape, "holds cls instead of"),
        (no_picture, "cannot be decoded"),
        (other_split, "is of split 'val' in a shard of 'train'"),
        (no_record, "is not a JSON object"),
    ],
)
def test_a_sample_that_the_hashes_cannot_betray_is_found(data: Path, change, message: str):
    key = forge(data, change)
    (problem,) = verify_folder(data).problems
    assert f"shard-000001.tar: sample {key} " in problem and message in problem


def test_everything_wrong_gets_its_line_and_the_exit_code_says_so(data: Path, capsys):
    (data / "shard-000000.tar").write_bytes(b"")
    payload = bytearray((data / "shard-000001.tar").read_bytes())
    payload[3000] ^= 1
    (data / "shard-000001.tar").write_bytes(payload)
    (data / "shard-000002.tar").unlink()
    (data / "shard-000009.tar").write_bytes(b"")
    assert verify.main(["--data", str(data)]) == 1
    streams = capsys.readouterr()
    for number, what in ((0, "0 bytes"), (1, "sha256"), (2, "cannot be read"), (9, "not in the manifest")):
        assert sum(f"shard-00000{number}.tar: " in line and what in line for line in streams.out.splitlines()) == 1
    assert "4 problems; restore" in streams.err


def test_a_key_in_two_shards_is_found(data: Path):
    manifest = read_manifest(data)
    shutil.copy(data / "shard-000000.tar", data / "shard-000009.tar")
    twin = ShardRecord(**(manifest.shards[0].__dict__ | {"name": "shard-000009.tar"}))
    Manifest(manifest.specs, (*manifest.shards, twin)).write(data)
    problems = verify_folder(data).problems
    assert len(problems) == 8 and "is in shard-000000.tar too" in problems[0]


# --- inspect ---


def test_inspect_says_what_is_there_and_draws_it(data: Path, tmp_path: Path, capsys):
    picture = tmp_path / "look.png"
    assert inspect.main(["--data", str(data), "--output", str(picture), "--count", "3"]) == 0
    text = capsys.readouterr().out
    assert "24 (20 train, 4 val)" in text and "tiny" in text and "l3_16x16 128×16×16" in text
    image = np.asarray(Image.open(picture))
    one = 18 + 3 * 132 - 4  # of a stage: crop, three layers, colour, below their names
    assert image.shape == (7 * (one + 4) - 4, 5 * 132 - 4, 3)
    for column in range(5):
        assert image[:18, column * 132 : column * 132 + 128].min() < 100
        assert image[18:146, column * 132 : column * 132 + 128].std() > 10


# --- remove ---


def test_a_key_and_a_source_are_removed(data: Path):
    before = keys_in(data)
    goner = json.loads(Shard(data / "shard-000001.tar").read(3, "record"))["source"]
    expected = [before[0], Shard(data / "shard-000001.tar").keys[3]]
    removal = remove_samples(data, keys=[before[0]], sources=[goner])
    assert list(removal.keys) == expected
    assert keys_in(data) == [key for key in before if key not in expected]
    assert read_manifest(data).samples == 22
    assert verify_folder(data).problems == []
    payloads = b"".join(path.read_bytes() for path in data.iterdir())
    assert goner.encode() not in payloads and expected[0].encode() not in payloads


def test_shards_that_hold_nobody_of_those_are_not_touched(data: Path):
    before = {path.name: path.stat().st_mtime_ns for path in data.glob("*.tar")}
    remove_samples(data, keys=[Shard(data / "shard-000000.tar").keys[0]])
    after = {path.name: path.stat().st_mtime_ns for path in data.glob("*.tar")}
    assert set(before) - set(after) == {"shard-000000.tar"} and set(after) - set(before) == {"shard-000000-1.tar"}
    assert all(after[name] == before[name] for name in set(before) & set(after))


def test_removing_twice_and_a_whole_shard(data: Path):
    first = Shard(data / "shard-000000.tar").keys
    remove_samples(data, keys=first[:1])
    remove_samples(data, keys=first[1:2])
    assert (data / "shard-000000-2.tar").exists() and not (data / "shard-000000-1.tar").exists()
    remove_samples(data, keys=first[2:])
    assert [shard.name for shard in read_manifest(data).shards] == [f"shard-00000{n}.tar" for n in (1, 2, 3)]
    assert len(list(data.glob("*.tar"))) == 3
    ShardLoader(data, seed=0)


def test_what_is_not_there_is_an_error_and_nothing_changes(data: Path, capsys):
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    key = keys_in(data)[0]
    assert remove.main(["--data", str(data), "--key", key, "--source", "nobody.jpg"]) == 1
    assert "holds nothing of nobody.jpg; nothing was changed" in capsys.readouterr().err
    with pytest.raises(DinogenError, match="all of its samples would be removed"):
        remove_samples(data, keys=keys_in(data))
    with pytest.raises(UsageError, match="give --key or --source"):
        remove_samples(data)
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before


@pytest.mark.parametrize("step", ["shards", "manifest", "deletion"])
def test_an_interrupted_removal_goes_on(data: Path, monkeypatch, step: str):
    """Interrupted before the second shard, before the manifest is in force, and after."""
    keys = [Shard(data / f"shard-00000{number}.tar").keys[0] for number in (0, 1)]
    before = keys_in(data)

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    calls = []
    real = shards.remove.write_without

    def stop_at_the_second(*arguments):
        calls.append(1)
        return real(*arguments) if len(calls) == 1 else stop()

    with monkeypatch.context() as patch:
        if step == "shards":
            patch.setattr(shards.remove, "write_without", stop_at_the_second)
        elif step == "manifest":
            patch.setattr(Manifest, "write", stop)
        else:
            unlink = Path.unlink
            patch.setattr(
                Path, "unlink", lambda path, **options: stop() if path.suffix == ".tar" else unlink(path, **options)
            )
        with pytest.raises(KeyboardInterrupt):
            remove_samples(data, keys=keys)
    if step != "deletion":
        assert keys_in(data) == before
    remove_samples(data, keys=keys)
    assert keys_in(data) == [key for key in before if key not in keys]
    assert verify_folder(data).problems == []
    assert not (data / ".removal.json").exists()


# --- card ---


def written_card(data: Path) -> DatasetCard:
    assert card.main(["--data", str(data), "--contact", "faces@example.org"]) == 0
    return DatasetCard.load(data / "README.md")


def test_the_card_counts_licences_consent_and_names_the_way_out(data: Path):
    text = written_card(data).text
    for row in ("Crops | 24", "Crops in split val | 4", "Source pictures | 24", "CC0 | 24", "not stated | 24"):
        assert f"| {row} |" in text
    assert "Ask faces@example.org" in text and "`dinogen remove --data data --source photo.jpg`" in text


def test_the_cards_metadata_is_what_the_hub_reads(data: Path):
    found = written_card(data).data.to_dict()
    assert (found["license"], found["size_categories"]) == (["cc0-1.0"], ["n<1K"])
    assert found["pretty_name"] == "data" and "faces" in found["tags"] and found["contact"] == "faces@example.org"


@pytest.mark.parametrize(
    ("licence", "name"),
    [("CC BY 4.0", "cc-by-4.0"), ("cc0", "cc0-1.0"), ("Unsplash License", "other"), ("not stated", "unknown")],
)
def test_licences_get_the_hubs_names(licence: str, name: str):
    assert licence_name(licence) == name


@pytest.mark.parametrize(("samples", "name"), [(999, "n<1K"), (1000, "1K<n<10K"), (70_000, "10K<n<100K")])
def test_sizes_get_the_hubs_names(samples: int, name: str):
    assert size_category(samples) == name


def test_a_card_keeps_what_was_added_and_counts_anew(data: Path):
    written_card(data)
    path = data / "README.md"
    path.write_text(path.read_text().replace("---\n", "---\nlanguage: en\n", 1) + "\nAll of them drawn.\n")
    remove_samples(data, keys=keys_in(data)[:1])
    renewed = DatasetCard.load(path)
    assert "| Crops | 23 |" in renewed.text and "| CC0 | 23 |" in renewed.text and "| 24 |" not in renewed.text
    assert renewed.text.endswith("All of them drawn.\n") and "Ask faces@example.org" in renewed.text
    assert renewed.data.language == "en" and renewed.data.contact == "faces@example.org"


def test_an_interrupted_removal_does_not_forget_the_card(data: Path, monkeypatch):
    written_card(data)
    (key, *_) = keys_in(data)

    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shards.remove, "renew_cards", stop)
        with pytest.raises(KeyboardInterrupt):
            remove_samples(data, keys=[key])
    remove_samples(data, keys=[key])
    assert "| Crops | 23 |" in (data / "README.md").read_text()


def test_a_file_that_is_no_card_is_left_alone(data: Path, capsys):
    (data / "README.md").write_text("# My faces\n")
    assert card.main(["--data", str(data)]) == 1
    assert "README.md: not a card of dinogen card" in capsys.readouterr().err
    remove_samples(data, keys=keys_in(data)[:1])
    assert "look whether it still counts what is gone" in capsys.readouterr().err
    assert (data / "README.md").read_text() == "# My faces\n"


def test_a_damaged_record_of_a_removal_is_one_clear_line(data: Path, capsys):
    (data / ".removal.json").write_text('{"old": 3')
    assert remove.main(["--data", str(data), "--key", keys_in(data)[0]]) == 1
    err = capsys.readouterr().err
    assert (
        ".removal.json: the record of an interrupted removal is damaged; delete it" in err and "unexpected" not in err
    )
