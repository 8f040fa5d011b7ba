"""What is stated of photos, as other tools spell it; and files of theirs that must not stop anything."""

import json
from pathlib import Path

import pytest

from dinogen.data.schema import SampleRecord
from dinogen.errors import DinogenError
from helpers.drawn_face import draw_face
from shards.crop import crop_folder
from shards.decode import Rejected
from shards.download import read_list
from shards.stated import MOST_BYTES, MOST_CHARACTERS, read_sidecar


def read(**values: object) -> dict:
    return read_sidecar(json.dumps(values).encode())


@pytest.mark.parametrize("key", ["licence", "license", "License", " LICENCE "])
def test_a_licence_is_read_however_it_is_spelt(key):
    assert read(**{key: "CC0"})["licence"] == "CC0"


@pytest.mark.parametrize("key", ["address", "url", "URL", "source_url"])
def test_an_address_is_read_without_its_secrets(key):
    address = "https://user:word@example.org/a.jpg?w=3&X-Amz-Signature=1"
    assert read(**{key: address})["address"] == "https://example.org/a.jpg?w=3"
    assert read_sidecar(json.dumps({key: address}).encode(), "s3://b/a.jpg")["address"] == "s3://b/a.jpg"
    assert read(**{key: "http://[half"})["address"] == "http://[half"


@pytest.mark.parametrize("key", ["caption", "text", "Text"])
def test_captions_are_read_one_or_several(key):
    assert read(**{key: "a face"})["caption"] == "a face"
    assert read(**{key: ["a face", 3, None, "a man"]})["captions"] == ["a face", "a man"]


def test_the_first_spelling_that_says_something_counts():
    assert read(licence=None, license="CC0")["licence"] == "CC0"
    assert read(license="", licence="MIT")["licence"] == "MIT"
    assert read(address=float("nan"), url="https://example.org/")["address"] == "https://example.org/"
    assert read() == {"licence": None, "consent": None}


@pytest.mark.parametrize("nothing", ["NaN", "Infinity", "-Infinity", "1e999", "null", '""', "[]", "{}"])
def test_what_tools_write_where_they_know_nothing_is_nothing(nothing):
    payload = f'{{"license": {nothing}, "consent": {nothing}, "other": [{nothing}], "url": {nothing}}}'.encode()
    assert read_sidecar(payload) == {"licence": None, "consent": None}


def test_what_is_nested_becomes_a_text():
    assert read(license={"name": "CC0", "n": float("nan")})["licence"] == '{"name": "CC0", "n": null}'
    assert read(consent=True)["consent"] is True
    assert read(consent=["2024-05-01", "signed"])["consent"] == '["2024-05-01", "signed"]'


BAD = {
    "cut off": b'{"licence": ',
    "a list": b'["CC0"]',
    "nested deeply": b'{"licence": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a huge number": b'{"licence": ' + b"9" * 10_000 + b"}",
    "a huge text": b'{"consent": "' + b"x" * MOST_CHARACTERS + b'"}',
    "huge": b'{"other": "' + b"x" * MOST_BYTES + b'"}',
    "no text": b"\xff\xfe\xfd{}",
    "empty": b"",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_sidecar_is_told_as_such(kind):
    with pytest.raises(Rejected) as rejected:
        read_sidecar(BAD[kind])
    assert rejected.value.cause == "bad-sidecar" and len(rejected.value.detail) <= 200


def test_half_characters_are_replaced():
    assert read_sidecar(rb'{"licence": "a\ud800b"}')["licence"] == "a?b"


def test_bad_sidecars_cost_their_photos_only_and_leave_no_half_crop(tmp_path: Path):
    payloads = {"good": b'{"license": "CC0", "score": NaN}', "deep": BAD["nested deeply"], "cut": BAD["cut off"]}
    (tmp_path / "in").mkdir()
    for number, (name, payload) in enumerate(payloads.items()):
        draw_face(background=(50 * number, 120, 150)).save(tmp_path / "in" / f"{name}.jpg")
        (tmp_path / "in" / f"{name}.json").write_bytes(payload)
    summary = crop_folder(tmp_path / "in", tmp_path / "out", workers=0)
    assert (summary.crops, summary.causes) == (1, {"bad-sidecar": 2})
    (record,) = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")]
    assert record["licence"] == "CC0" and len(list((tmp_path / "out").glob("*.jpg"))) == 1


def test_a_sidecar_that_says_something_else_now_changes_the_record(tmp_path: Path):
    (tmp_path / "in").mkdir()
    draw_face().save(tmp_path / "in" / "a.jpg")
    for stated in ({"license": "CC0"}, {"license": "MIT", "consent": "withdrawn"}, {}):
        (tmp_path / "in" / "a.json").write_text(json.dumps(stated))
        summary = crop_folder(tmp_path / "in", tmp_path / "out", workers=0)
        (record,) = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")]
        assert (record["licence"], record["consent"]) == (stated.get("license"), stated.get("consent"))
    assert summary.resumed == 1, "the face was not searched again"


def test_lists_may_spell_alike(tmp_path: Path):
    (tmp_path / "list.csv").write_text("Source_URL,License,text\nhttps://example.org/a.jpg,CC0,a face\n")
    (picture,) = read_list(str(tmp_path / "list.csv"))
    assert (picture.address, picture.licence, picture.caption) == ("https://example.org/a.jpg", "CC0", "a face")


def test_records_with_nan_are_read_and_deep_ones_are_one_line():
    record = SampleRecord.from_bytes(b'{"source": "a", "source_sha256": "b", "score": NaN, "licence": "x\\ud800"}')
    assert record.score is None
    assert SampleRecord.from_bytes(record.to_bytes()) == record
    with pytest.raises(DinogenError, match="is not JSON"):
        SampleRecord.from_bytes(b"[" * 100_000)
