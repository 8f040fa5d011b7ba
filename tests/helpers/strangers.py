"""Inputs of strangers: flags, files and variables of every command, right, nearly right and wrong, for a fuzz."""

import contextlib
import importlib
import io
import json
import os
import re
import shutil
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest import mock

from accelerate.state import AcceleratorState
from hypothesis import strategies as st

from dinogen.data import transfer
from helpers.crop_folder import make_crops
from helpers.files import photo
from helpers.training import SMALL
from launch.cli import main
from launch.train import main as train
from launch.wording import choices_of, takes_list
from shards.options import PackOptions
from shards.pack import pack_folder

SECONDS = 20  # after which an input counts as good: what works long has said nothing wrong
ENDINGS = re.compile(r"unexpected |Traceback \(most recent")
SHORT = {
    "train": [*SMALL, "--machine.max_minutes=0.001", "--generator.img_resolution=8", "--schedule.stage_kimg=0.032",
              "--schedule.fade_kimg=0.016", "--schedule.total_kimg=0.032"],
    "evaluate": ["--teacher=none", "--count=6"],
    "compare": ["--teacher=none", "--count=6"],
    "sample": ["--count=2"],
    "mix": ["--coarse=1", "--fine=2"],
    "interpolate": ["--faces=2", "--frames=2"],
    "synth": ["--count=1", "--workers=1", "--studio"],
    "crop": ["--workers=0"],
    "pack": ["--stages=16"],
    "demo": ["--minutes=nan"],
    "bench": ["--teachers=none-such", "--steps=1", "--batch-size=2", "--real-batch-size=2", "--crops=crops"],
}  # fmt: skip
GOOD = {
    "model": ["run", "run/snapshots", "run/config.yaml"],
    "data": ["shards"],
    "input": ["crops", "photos", "list.txt", "photos.zip"],
    "dataset": ["list.txt", "table.csv"],
    "output": ["out", "out.png", "out.json", "out.mp4", "out.md"],
    "config": ["keys.yaml", "faces32"],
    "captions": ["captions.csv", "captions.jsonl"],
    "prompts": ["list.txt"],
    "attributes": ["keys.yaml"],
    "init_from": ["run"],
    "device": ["cpu"],
    "split": ["train"],
    "key": ["x"],
}
PATHS = [
    "", ".", "..", "/", "~", "~/x", "nothing", "empty", "file", "broken-link", "/dev/null", "/proc/self/cmdline",
    "shards/manifest.json", "shards/shard-000000.tar", "run/snapshots", "run/config.yaml", "faces:v2", "x" * 300,
    "bad\udcff.jpg", "a\nb", "-", "--", "*", "name with (brackets) and 'quotes'", "photos/one.jpg",
    "Müller.jpg", "pipe:ls", "file/x",
    "http://127.0.0.1:1/x", "file:///nowhere", "memory://x", "datasets://a/b", "ftp://x/y", "hf:", "c:\\photos",
    "owner/name",
]  # fmt: skip
NUMBERS = [
    "0", "-1", "1", "2", "3", "16", "0.5", "1e3", "1e-9", "nan", "inf", "-inf", "1e400", "9" * 23, "-" + "9" * 23,
    "0x10", "1_0", "½", "٣", "1,5", " 1", "1 ", "+1", "", "null", "true", "[]", "[1, 2]", "{}", "{4: 2}", "[nan]",
]  # fmt: skip
VARIABLES = {
    "DINOGEN_CACHE_GB": NUMBERS,
    "DINOGEN_CACHE": ["file", "cache", "~", "/dev/null/x", ""],
    "XDG_CACHE_HOME": ["file", "~", ""],
    "HOME": ["/nowhere", "file", ""],
    "COLUMNS": ["0", "x", "1", "-5", "99999"],
    "IMAGEIO_FFMPEG_EXE": ["file", "/nowhere", "/bin/false", "/bin/true"],
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": NUMBERS,
    "ACCELERATE_MIXED_PRECISION": ["no", "fp16", "bf16", "fp8", "x", "", "NO"],
    "ACCELERATE_DYNAMO_BACKEND": ["no", "eager", "x", ""],
    "ACCELERATE_DYNAMO_MODE": ["x"],
    "ACCELERATE_DYNAMO_USE_DYNAMIC": ["x"],
    "ACCELERATE_USE_FSDP": ["true", "x"],
    "ACCELERATE_USE_DEEPSPEED": ["true", "x"],
    "ACCELERATE_USE_CPU": ["x", "true", "1"],
    "ACCELERATE_TORCH_DEVICE": ["x", "cpu"],
    "ACCELERATE_DEBUG_MODE": ["x"],
    "RANK": ["x", "-1", "3", ""],
    "LOCAL_RANK": ["x", "0", ""],
    "WORLD_SIZE": ["x", "0", ""],
    "TQDM_MININTERVAL": ["x", "1"],
}  # fmt: skip


def make_bed(folder: Path) -> None:
    """What most inputs name: photos, crops, shards, a trained run, and files of all kinds, in a folder."""
    (folder / "photos").mkdir(parents=True)
    (folder / "photos" / "one.jpg").write_bytes(photo(1))
    (folder / "photos" / "one.json").write_text('{"licence": "CC0"}')
    shutil.make_archive(str(folder / "photos"), "zip", folder / "photos")
    make_crops(folder / "crops", 16)
    pack_folder(folder / "crops", folder / "shards", PackOptions(stages=[4, 8, 16]))
    flags = ["--data", str(folder / "shards"), "--output", str(folder / "run"), *SHORT["train"]]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert train([*flags, "--quiet"]) == 0
    shutil.copytree(folder / "shards", folder / "faces:v2")
    (folder / "empty").mkdir()
    (folder / "broken-link").symlink_to("nowhere")
    texts = {
        "file": "hello", "list.txt": "photos/one.jpg\n", "keys.yaml": "seed: 1\n",
        "table.csv": "address\nhttp://127.0.0.1:1/x\n", "captions.csv": "file,caption\nphoto-0000.jpg,a face\n",
        "captions.jsonl": '{"file": "photo-0000.jpg", "caption": "x"}\n',
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_text(text)


@contextlib.contextmanager
def no_longer_than(seconds: int) -> Iterator[None]:
    """Interrupt what takes longer, as Ctrl-C does."""

    def interrupt(*ignored: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fault_of(argv: list[str], folder: Path, environment: Mapping[str, str] | None = None) -> str | None:
    """Run a command in this process, in a folder; what is wrong with how it ended, None if it ended as it should."""
    said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict", write_through=True)
    AcceleratorState._reset_state(True)
    before = Path.cwd()
    os.chdir(folder)
    try:
        with (
            mock.patch.dict(os.environ, environment or {}),
            mock.patch.object(transfer, "FIRST_PAUSE", 0.0),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
            no_longer_than(SECONDS),
        ):
            code: object = main(argv)
    except SystemExit as leaving:  # help
        code = leaving.code
    except KeyboardInterrupt:
        code = 130
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    finally:
        os.chdir(before)
        AcceleratorState._reset_state(True)
    said.flush()
    text = said.buffer.getvalue().decode("utf-8", "replace")  # pyright: ignore[reportAttributeAccessIssue]
    if code not in (0, None, 1, 2, 130, 143):
        return f"exit code {code}"
    found = ENDINGS.search(text)
    return text[found.start() :][:400] if found else None


def values_for(key: str, action: object) -> st.SearchStrategy[str]:
    """What may be typed after a flag: mostly its kind, sometimes anything."""
    words = choices_of(action)  # pyright: ignore[reportArgumentType]
    right = st.sampled_from([*GOOD.get(key.rpartition(".")[2], []), *words] or NUMBERS)
    odd = st.one_of(
        st.sampled_from(PATHS),
        st.sampled_from(NUMBERS),
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
    )
    return st.one_of(right, right, right, odd)


@st.composite
def command_lines(draw: st.DrawFn, verb: str) -> list[str]:
    """A command with a few of its flags, most of those that it needs, and values of all sorts."""
    parser = importlib.import_module(f"launch.{verb}").build_parser()
    flags = {key: flag for key, flag in parser.flags().items() if flag.option_strings and key not in ("help", "debug")}
    needed = [key for key, flag in flags.items() if getattr(flag, "required", False) and draw(st.integers(0, 9))]
    chosen = draw(st.lists(st.sampled_from(sorted(flags)), max_size=3, unique=True))
    argv = [verb, *SHORT.get(verb, [])]
    for key in dict.fromkeys([*needed, *chosen]):
        name = next(name for name in flags[key].option_strings if name.startswith("--"))
        if flags[key].nargs == 0:
            argv.append(name)
            continue
        several = takes_list(flags[key]) or flags[key].nargs == "+"
        values = draw(st.lists(values_for(key, flags[key]), min_size=0, max_size=3 if several else 1))
        argv += [f"{name}={values[0]}"] if len(values) == 1 and draw(st.booleans()) else [name, *values]
    if draw(st.integers(0, 19)) == 0:
        argv.append(draw(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)))
    return argv


plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**25), 10**25),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(PATHS + NUMBERS),
)
documents = st.recursive(
    plain,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def config_texts(draw: st.DrawFn, verb: str) -> str:
    """A file of keys of a command, with values of all sorts, as YAML or JSON, or of its blocks."""
    parser = importlib.import_module(f"launch.{verb}").build_parser()
    keys = draw(st.lists(st.sampled_from(sorted(parser.flags())), min_size=1, max_size=3, unique=True))
    content: dict = {}
    for key in keys:
        *groups, name = key.split(".")
        place = content
        for group in groups:
            place = place.setdefault(group, {})
            if not isinstance(place, dict):
                break
        else:
            place[name] = draw(documents)
    if draw(st.integers(0, 9)) == 0:
        content[draw(st.text(max_size=6))] = draw(documents)
    return json.dumps(content)


@st.composite
def damages(draw: st.DrawFn, payload: bytes) -> bytes:
    """The bytes of a file as they should not be."""
    size = len(payload)
    kind = draw(st.sampled_from(["cut", "flip", "text", "document", "bytes", "utf16", "doubled", "value"]))
    if kind == "cut":
        return payload[: draw(st.integers(0, size))]
    if kind == "flip" and size:
        place = draw(st.integers(0, size - 1))
        return payload[:place] + bytes([draw(st.integers(0, 255))]) + payload[place + 1 :]
    if kind == "text":
        return draw(st.text(max_size=40)).encode("utf-8", "replace")
    if kind == "document":
        return json.dumps(draw(documents)).encode()
    if kind == "bytes":
        return draw(st.binary(max_size=60))
    if kind == "utf16":
        return payload.decode("utf-8", "replace").encode("utf-16")
    if kind == "value":
        try:
            content = json.loads(payload)
            place = (
                content[draw(st.integers(0, len(content) - 1))] if isinstance(content, list) and content else content
            )
            if isinstance(place, dict) and place:
                place[draw(st.sampled_from(sorted(place)))] = draw(documents)
                return json.dumps(content).encode()
        except ValueError:
            pass
    return payload + payload


CROP, PACK = "crop --input photos --output out", "pack --input crops --output out"
ANEW, RESUME = "train --data shards --output out", "train --data shards --output run --schedule.total_kimg=0.064"
SAMPLE, JUDGE = "sample --model run --output out", "evaluate --model run --output out.json"
VERIFY, INSPECT, CARD = "verify --data shards", "inspect --data shards --output out.png", "card --data shards"
REMOVE = "remove --data shards --source photo-0001.jpg"
# Files that strangers hand over, or that a broken disk has changed, and commands that read them.
READERS = {
    "keys.yaml": [f"{ANEW} --config keys.yaml", "synth --config keys.yaml --output out"],
    "captions.csv": [f"{PACK} --captions captions.csv"],
    "captions.jsonl": [f"{PACK} --captions captions.jsonl"],
    "list.txt": ["crop --input list.txt --output out", "download --dataset list.txt --output out"],
    "table.csv": ["download --dataset table.csv --output out"],
    "photos/one.jpg": [CROP, f"{JUDGE} --data photos"],
    "photos/one.json": [CROP],
    "photos.zip": ["crop --input photos.zip --output out"],
    "crops/*.json": [PACK],
    "crops/*.jpg": [PACK, f"{JUDGE} --data crops"],
    "shards/manifest.json": [VERIFY, INSPECT, CARD, REMOVE, ANEW, "pack --input crops --output shards"],
    "shards/shard-000000.tar": [VERIFY, INSPECT, CARD, REMOVE, ANEW],
    "run/config.yaml": [RESUME, JUDGE],
    "run/environment.json": [RESUME],
    "run/teacher.json": [RESUME],
    "run/stats.jsonl": [RESUME],
    "run/snapshots/*/config.json": [SAMPLE, f"{ANEW} --init-from run"],
    "run/snapshots/*/model.safetensors": [SAMPLE, "interpolate --model run --output out.png", "mix --model run"],
    "run/checkpoints/*/*.json": [RESUME],
    "run/checkpoints/*/*.safetensors": [RESUME],
}


def kept_short(line: str) -> list[str]:
    """A command as words, with what keeps it short before its own flags."""
    verb, *words = line.split()
    return [verb, *SHORT.get(verb, []), *words]


READ = {name: [kept_short(line) for line in lines] for name, lines in READERS.items()}
