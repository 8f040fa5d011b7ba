"""A folder that means harm: every file gets its row with the right cause, memory stays bounded, nothing stops it."""

import csv
import io
import os
import re
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter, features

from helpers.drawn_face import add_face, draw_face
from helpers.files import EXIF_ORIENTATION, encoded, png_bomb, png_chunk
from shards.decode import heif_decoder
from shards.table import to_cell

ACCEPTED = {"accepted"}
# What the system says at a process's end of its largest memory has that of the process that started it in it.
AND_ITS_MEMORY = """
import shutil, sys
from launch.crop import main
code = main(sys.argv[2:])
shutil.copyfile("/proc/self/status", sys.argv[1])
sys.exit(code)
"""
MOST_MEMORY = 2000  # MiB: torch and the detector alone take 700, a 60-megapixel photo with transparency the rest


def face(number: int, **changes) -> Image.Image:
    """The drawn face, another one for every number."""
    rng = np.random.default_rng(number)
    options = {"height": 150 + int(rng.integers(60)), "background": tuple(rng.integers(60, 200, 3).tolist())}
    drawn = np.asarray(draw_face(**{**options, **changes}), dtype=np.int16)
    grain = rng.normal(0, 5, (6, 6, 3)).repeat(54, 0).repeat(54, 1)[: drawn.shape[0], : drawn.shape[1]]
    return Image.fromarray(np.uint8(np.clip(drawn + grain, 0, 255)))  # uneven, as light is


def png_with(image: Image.Image, chunk: bytes) -> bytes:
    """A PNG with one more chunk after its header."""
    payload = encoded(image, "PNG")
    return payload[:33] + chunk + payload[33:]


def tar_of(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, payload in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            tar.addfile(info, io.BytesIO(payload))
    return stream.getvalue()


def zip_of(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, payload in members.items():
            archive.writestr(name, payload)
    return stream.getvalue()


def twenty_faces() -> Image.Image:
    canvas = Image.new("RGB", (1000, 820), (120, 130, 140))
    for number in range(20):
        add_face(canvas, (110 + 195 * (number % 5), 110 + 200 * (number // 5)), 130 + 3 * number)
    return canvas


def pictures() -> Iterator[tuple[str, bytes, set[str]]]:
    """Files that show a face, in every form that must be understood: name, bytes, causes."""
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    transparent = face(2).convert("RGBA")
    transparent.putalpha(230)
    grey16 = Image.fromarray(np.asarray(face(5).convert("L")).astype(np.uint16) * 257)
    frames = [face(7), face(8)]
    plain = encoded(face(1), "JPEG")
    yield "plain.jpg", plain, ACCEPTED
    yield "transparent.png", encoded(transparent, "PNG"), ACCEPTED
    yield "modern.webp", encoded(face(3), "WEBP"), ACCEPTED
    yield "press.jpg", encoded(face(4).convert("CMYK"), "JPEG"), ACCEPTED
    yield "sixteen-bit.png", encoded(grey16, "PNG"), ACCEPTED
    yield "palette.png", encoded(face(6).convert("P"), "PNG"), ACCEPTED
    yield "animated.png", encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]), ACCEPTED
    yield "animated.webp", encoded(face(9), "WEBP", save_all=True, append_images=frames), ACCEPTED
    yield "two-pictures.jpg", encoded(face(31), "MPO", save_all=True, append_images=frames), ACCEPTED
    yield "grey.jpg", encoded(face(10).convert("L"), "JPEG"), ACCEPTED
    yield "lying.jpg", encoded(face(11).transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif), ACCEPTED
    yield "jpeg-in-truth.png", encoded(face(12), "JPEG"), ACCEPTED
    yield "no-suffix", encoded(face(13), "JPEG"), ACCEPTED
    yield "trailing.jpg", encoded(face(14), "JPEG") + b"\0garbage" * 99, ACCEPTED
    yield "broken-exif.jpg", encoded(face(15), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), ACCEPTED
    yield "progressive.jpg", encoded(face(16), "JPEG", progressive=True), ACCEPTED
    yield "crowd.jpg", encoded(twenty_faces(), "JPEG"), ACCEPTED
    if heif_decoder():
        yield "phone.heic", encoded(face(32), "HEIF", quality=95), ACCEPTED
    if features.check_module("avif"):
        yield "modern.avif", encoded(face(33), "AVIF", quality=95), ACCEPTED
    yield "folder.jpg/inside.jpg", encoded(face(17), "JPEG"), ACCEPTED
    yield "zz-copy.jpg", plain, {"duplicate"}
    yield "zz-recompressed.jpg", encoded(face(1), "JPEG", quality=40), ACCEPTED
    yield "zz-smaller.jpg", encoded(face(1).resize((240, 240)), "JPEG"), ACCEPTED


def names() -> Iterator[tuple[str, bytes, set[str]]]:
    """Faces under names that break careless programs."""
    careless = [
        "new\nline.jpg",
        "quote\"'`.jpg",
        "日本語 ünï 🙂.jpg",
        "n" * 246 + ".jpg",
        "-rf.jpg",
        " .jpg",
        "{0}.jpg",
    ]
    careless += ["<script>alert(1).jpg", "=1+1,2;3\t.jpg", "%2e%2e%2f.jpg", "$(touch x).jpg"]
    careless += [os.fsdecode(b"latin\xe9.jpg")]
    for number, name in enumerate(careless):
        yield name, encoded(face(40 + number), "JPEG"), ACCEPTED


def others() -> Iterator[tuple[str, bytes, set[str]]]:
    """Files that show no face, or nothing."""
    jpeg, png, webp = (encoded(face(20), format) for format in ("JPEG", "PNG", "WEBP"))
    yield "cut.jpg", jpeg[: len(jpeg) // 2], {"damaged"}
    yield "cut.png", png[: len(png) // 2], {"damaged"}
    yield "cut.webp", webp[: len(webp) // 2], {"damaged"}
    yield "checksum.png", png[:60] + bytes([png[60] ^ 255]) + png[61:], {"damaged"}
    text = png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(80_000_000)))
    yield "text-bomb.png", png_with(face(21), text), {"damaged"}
    yield "no-bytes.jpg", b"", {"empty-file"}
    yield "bomb.png", png_bomb(65_000, 65_000), {"too-many-pixels"}
    yield "just-too-large.png", png_bomb(9_000, 9_000), {"too-many-pixels"}
    yield "one-pixel.png", encoded(Image.new("RGB", (1, 1)), "PNG"), {"too-small"}
    yield "thread.png", encoded(Image.new("RGB", (3000, 2)), "PNG"), {"too-small"}
    yield "<script>page.jpg", b"<!doctype html><html><body>Not found</body></html>", {"not-an-image"}
    yield "drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", {"not-an-image"}
    yield "program.png", b"\x7fELF" + bytes(500), {"not-an-image"}
    yield "script.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nquit\n", {"not-an-image"}
    yield "film.heic", b"\0\0\0\x18ftypheic\0\0\0\0heic" + bytes(500), {"damaged", "needs-package"}
    yield "model.pkl", b"cos\nsystem\n(S'touch executed'\ntR.", {"not-an-image"}
    yield "animated.gif", encoded(face(22), "GIF", save_all=True, append_images=[face(23)]), {"not-an-image"}
    yield "old.bmp", encoded(face(24), "BMP"), {"not-an-image"}
    yield "scan.tiff", encoded(face(25), "TIFF"), {"not-an-image"}
    yield "wall.jpg", encoded(Image.new("RGB", (400, 300), (150, 140, 130)), "JPEG"), {"no-face"}
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    yield "noise.png", encoded(Image.fromarray(noise), "PNG"), {"no-face"}
    yield "statue.jpg", encoded(face(26, skin=(170, 170, 170)).convert("L"), "JPEG"), {"accepted", "no-face"}
    yield "blurred.jpg", encoded(face(27).filter(ImageFilter.GaussianBlur(7)), "JPEG"), {"blurred", "no-face"}
    yield "far.jpg", encoded(face(28, height=40), "JPEG"), {"face-too-small", "no-face"}
    yield "half.jpg", encoded(face(29).crop((155, 0, 320, 320)), "JPEG"), {"too-much-padding", "no-face"}
    yield "huge.png", encoded(Image.new("RGBA", (8000, 7500), (90, 99, 90, 128)), "PNG", compress_level=1), {"no-face"}
    yield "unclear.jpg", encoded(face(30), "JPEG"), {"bad-sidecar"}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> tuple[Path, dict[str, set[str]]]:
    """The folder, and for every source of it the causes that are right."""
    folder = tmp_path_factory.mktemp("hostile")
    expected = {}
    for name, payload, causes in [*pictures(), *names(), *others()]:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(payload)
        expected[name] = causes
    (folder / "unclear.json").write_text("{not json")
    good = encoded(face(60), "JPEG")
    (folder / "album.zip").write_bytes(zip_of({"../../evil.jpg": good, "a/empty.jpg": b"", "note.txt": b"hi"}))
    (folder / "broken.zip").write_bytes(b"PK\3\4 and nothing more")
    ok, cut = encoded(face(61), "JPEG"), encoded(face(62), "JPEG")
    whole = tar_of({"ok.jpg": ok, "x.pkl": b"cos\nsystem\n", "cut.jpg": cut})
    (folder / "cut.tar").write_bytes(whole[: whole.index(b"cut.jpg") + 2000])
    expected |= {"album.zip/../../evil.jpg": ACCEPTED, "album.zip/a/empty.jpg": {"empty-file"}}
    expected |= {"cut.tar/ok.jpg": ACCEPTED, "cut.tar/cut.jpg": {"damaged-archive"}}
    expected |= {"cut.tar": {"damaged-archive"}, "broken.zip": {"damaged-archive"}}
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    (folder / "round").symlink_to(folder, target_is_directory=True)
    os.mkfifo(folder / "pipe.jpg")
    expected |= dict.fromkeys(["loop.jpg", "dangling.jpg", "pipe.jpg"], {"unreadable"})
    (folder / ".DS_Store").write_bytes(b"\0")
    (folder / "captions.csv").write_text("file,caption\n")
    return folder, expected


@pytest.fixture(scope="module")
def run(hostile, tmp_path_factory) -> tuple[Path, int, str, int]:
    """Crop the folder in a process of its own: output, exit code, what it said, peak memory in MiB."""
    folder, _ = hostile
    output = tmp_path_factory.mktemp("out")
    status = tmp_path_factory.mktemp("memory") / "status"
    flags = ["--input", folder, "--output", output, "--workers", "0"]
    with (output / "said").open("w+") as said:
        command = [sys.executable, "-c", AND_ITS_MEMORY, status, *flags]
        done = subprocess.run(command, stdout=said, stderr=said, cwd=Path(__file__).parent.parent)
        said.seek(0)
        (peak,) = re.findall(r"VmHWM:\s*(\d+) kB", status.read_text())
        return output, done.returncode, said.read(), int(peak) // 1024


def rows(output: Path) -> dict[str, dict[str, str]]:
    with (output / "report.csv").open(newline="", encoding="utf-8") as file:
        return {row["source"]: row for row in csv.DictReader(file)}


def as_written(name: str) -> str:
    return to_cell(name).encode("utf-8", "backslashreplace").decode()


def test_it_ends_well_with_a_summary(run):
    _, code, said, _ = run
    assert code == 0, said
    assert "Wrote" in said.splitlines()[-1] and "Traceback" not in said


def test_every_file_has_its_row_with_the_right_cause(hostile, run):
    _, expected = hostile
    assert len(expected) > 60
    found = {name: row["cause"] for name, row in rows(run[0]).items()}
    wrong = {name: (found.get(as_written(name)), causes) for name, causes in expected.items()
             if found.get(as_written(name)) not in causes}  # fmt: skip
    assert not wrong
    assert set(found) == set(map(as_written, expected))


def test_memory_stays_bounded(run):
    assert run[3] < MOST_MEMORY


def test_nothing_is_executed_or_written_elsewhere(hostile, run):
    folder, _ = hostile
    assert not (folder.parent / "evil.jpg").exists() and not (folder.parent.parent / "evil.jpg").exists()
    assert not list(Path(__file__).parent.parent.glob("executed")) and not (folder / "executed").exists()
    assert {path.suffix for path in run[0].iterdir()} <= {".jpg", ".json", ".jsonl", ".csv", ".html", ""}


def test_near_duplicates_are_named(run):
    for name in ("zz-recompressed.jpg", "zz-smaller.jpg"):
        assert "plain.jpg" in rows(run[0])[name]["detail"]


def test_no_name_becomes_markup(run):
    page = (run[0] / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in page and "&lt;script&gt;" in page
