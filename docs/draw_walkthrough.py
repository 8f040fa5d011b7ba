"""Runs the commands of docs/walkthrough.md in a folder, writes what they say into the page, and draws its pictures.

python docs/draw_walkthrough.py              in a temporary folder
python docs/draw_walkthrough.py FOLDER       in that one; what was run there before is not run again

On two CPU cores it takes about ten minutes. The two screenshots take Chromium; without it they stay as they are.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from dinogen import Generator
from dinogen.data.folder import open_folder
from dinogen.data.order import LoaderState, SampleOrder
from dinogen.data.store import SampleStore
from dinogen.images import image_grid, titled, to_float
from dinogen.pictures import pyramid_picture
from dinogen.pyramid import colour_name, complete, level_name

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "walkthrough.md"
PICTURES = ROOT / "docs" / "walkthrough"
BLOCK = re.compile(r"^```bash\n(?P<commands>.*?)^```\n(?:\n```text\n.*?^```\n)?", re.M | re.S)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, QUALITY = 720, 70  # of a picture, in pixels, and of its JPEG
SHOWN = 8  # photos and crops
SNAPSHOTS, SAMPLES = 5, 12  # in the picture of training
SAID = "said"  # folder with what each command printed


def commands_of(text: str) -> list[str]:
    """The dinogen commands of a page, or of one of its blocks, from top to bottom."""
    lines = [line for block in BLOCK.finditer(text) for line in block["commands"].splitlines()]
    return [line for line in lines if line.startswith("dinogen ")]


def run(command: str, folder: Path) -> str:
    """What a command prints; its progress is shown."""
    words = [sys.executable, "-m", "launch.cli", *shlex.split(command)[1:]]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(words, cwd=folder, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout


def run_all(folder: Path) -> dict[str, str]:
    """What each command of the page printed. What was run in this folder before is not run again."""
    (folder / SAID).mkdir(parents=True, exist_ok=True)
    said = {}
    for number, command in enumerate(commands_of(PAGE.read_text())):
        print(f"$ {command}", flush=True)
        kept = folder / SAID / f"{number:02}.txt"
        if not kept.is_file() or kept.read_text().partition("\n")[0] != command:
            kept.write_text(f"{command}\n{run(command, folder)}")
        said[command] = kept.read_text().partition("\n")[2]
    return said


def with_outputs(page: str, said: Mapping[str, str]) -> str:
    """The page with what was printed below each block of commands."""

    def answered(block: re.Match[str]) -> str:
        printed = "".join(said[command] for command in commands_of(block[0]))
        asked = f"```bash\n{block['commands']}```\n"
        return f"{asked}\n```text\n{printed.rstrip()}\n```\n" if printed else asked

    return BLOCK.sub(answered, page)


def in_a_row(paths: Sequence[Path]) -> Image.Image:
    """Square pictures side by side."""
    side = WIDTH // len(paths)
    page = Image.new("RGB", (side * len(paths), side), "white")
    for number, path in enumerate(paths):
        with Image.open(path) as picture:
            page.paste(picture.convert("RGB").resize((side - 2, side - 2)), (number * side, 0))
    return page


def photos(folder: Path) -> Image.Image:
    return in_a_row(sorted((folder / "data/photos").glob("*.jpg"))[:SHOWN])


def crops(folder: Path) -> Image.Image:
    """Those of the photos that are shown; every crop's record names its photo."""
    records = {re.findall(r'"source": "([^"]+)"', path.read_text())[0]: path for path in
               (folder / "data/crops").glob("*-*.json")}  # fmt: skip
    return in_a_row([records[name].with_suffix(".jpg") for name in sorted(records)[:SHOWN]])


def levels(folder: Path) -> Image.Image:
    """Three crops and their pyramids: the last layer's maps and the colours, from fine to coarse."""
    shards = open_folder(folder / "data/shards")
    manifest = shards.manifest()
    store, resolution = SampleStore(shards, manifest, "train"), max(manifest.specs)
    places = next(SampleOrder(store.counts, 0, len(store.shards)).batches(LoaderState(), 3))
    batch, spec = store.read(places, resolution, stage=resolution), manifest.specs.finest
    assert batch.images is not None and batch.pyramid is not None, "both were asked for"
    names = [level_name(spec.layers[-1], g) for g in reversed(spec.levels) if g > 1]
    names += [colour_name(g) for g in reversed(spec.colour_levels)]
    whole = complete(batch.pyramid, spec)
    return pyramid_picture(to_float(batch.images), {name: whole[name] for name in names}, {"crop": len(batch.images)})


def training(folder: Path) -> Image.Image:
    """The same samples of some of the snapshots."""
    found = sorted((folder / "runs/faces/snapshots").iterdir())
    some = [found[round(place * (len(found) - 1) / (SNAPSHOTS - 1))] for place in range(SNAPSHOTS)]
    some = list(dict.fromkeys(some))
    drawn = [Generator.from_pretrained(one, device="cpu").sample(SAMPLES, output="pt") for one in some]
    rows = [image_grid(images, SAMPLES, upscale=72 // images.shape[-1]) for images in drawn]
    return titled(rows, [f"{float(one.name.removeprefix('kimg')):g} kimg" for one in some])


def of_file(name: str) -> Callable[[Path], Image.Image]:
    """A picture that a command has written."""
    return lambda folder: Image.open(folder / name).convert("RGB")


DRAWN: dict[str, Callable[[Path], Image.Image]] = {
    "photos.jpg": photos,
    "crops.jpg": crops,
    "inspect.jpg": of_file("data/inspect.png"),
    "levels.jpg": levels,
    "training.jpg": training,
    "samples.jpg": of_file("runs/faces/samples/grid.png"),
    "mixed.jpg": of_file("runs/faces/mixed.png"),
    "walk.jpg": of_file("runs/faces/walk.png"),
    "projected.jpg": of_file("runs/faces/projected/pair.png"),
}
SHOTS = {  # pages, and how many pixels of them are shown
    "crop-report.jpg": ("data/crops/report.html", 800),
    "report.jpg": ("runs/faces/report.html", 900),
}


def save(picture: Image.Image, path: Path) -> None:
    """As a small JPEG."""
    picture = picture.convert("RGB")
    if picture.width > WIDTH:
        picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    picture.save(path, quality=QUALITY, optimize=True)


def shoot(browser: str, page: Path, height: int, target: Path) -> Image.Image:
    """The top of a page, as a browser shows it."""
    flags = [
        "--headless",
        "--no-sandbox",
        "--hide-scrollbars",
        f"--window-size=1100,{height}",
        f"--screenshot={target}",
    ]
    subprocess.run([browser, *flags, page.as_uri()], check=True, stderr=subprocess.DEVNULL, timeout=120)
    return Image.open(target)


def main(folder: Path) -> None:
    PICTURES.mkdir(exist_ok=True)
    said = run_all(folder)
    PAGE.write_text(with_outputs(PAGE.read_text(), said))
    for name, draw in DRAWN.items():
        save(draw(folder), PICTURES / name)
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    for name, (page, height) in SHOTS.items():
        if browser is None:
            print(f"{name} stays as it is: none of {', '.join(BROWSERS)} is here.")
        else:
            save(shoot(browser, folder / page, height, folder / "shot.png"), PICTURES / name)
    print(f"Wrote {PAGE.relative_to(ROOT)} and {PICTURES.relative_to(ROOT)}.")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]).resolve())
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
