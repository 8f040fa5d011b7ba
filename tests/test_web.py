"""dinogen export --format web: a folder with a page that draws what dinogen draws. No browser is needed here."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from dinogen import Generator
from dinogen.errors import DinogenError, UsageError
from dinogen.export import Made
from dinogen.markdown import blocks_of, section_of
from dinogen.networks import Generator as GeneratorNetwork
from dinogen.sample import latents
from dinogen.web import page as page_module
from dinogen.web import runtime
from helpers.web import PROMPTS, ROOT, save_run, save_wordless
from launch.export import main

PAGE = {"generator.onnx", "index.html", "mapping.onnx", "page.json", "page.mjs", "seeds.mjs", "runtime/LICENSE"}
TEMPLATES = ROOT / "dinogen" / "templates" / "web"
LEVELS = 4  # of grey: random weights lose more in 16 bits than trained ones


@pytest.fixture(autouse=True)
def _packages() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="pip install 'dinogen[export]'")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return save_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def wordless(tmp_path_factory) -> Path:
    return save_wordless(tmp_path_factory.mktemp("wordless"))


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """What stands for onnxruntime-web where nothing is drawn."""
    folder = tmp_path_factory.mktemp("stand-in")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(runtime.FILES):
            (folder / name).write_text(f"stands for {name}")
            patch.setitem(runtime.FILES, name, hashlib.sha256((folder / name).read_bytes()).hexdigest())
        yield folder


@pytest.fixture(scope="module")
def page(run, stand_in, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "page"
    flags = ["--runtime", str(stand_in), "--licence", "cc-by-4.0", "--prompt", *PROMPTS, PROMPTS[0]]
    assert main(["--model", str(run), "--format", "web", "--output", str(folder), *flags]) == 0
    return folder


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_holds_all_that_the_page_loads(page):
    served = {f"runtime/{name}" for name in runtime.FILES} | PAGE
    assert names_in(page) == served | {"words.bin", "model-card.txt"}
    script = (page / "page.mjs").read_text()
    loaded = set(re.findall(r'"(?:\./)?([\w./-]+\.(?:mjs|json|onnx|bin))"', script)) | {"page.mjs"}
    assert loaded <= names_in(page) and {"page.json", "words.bin", "seeds.mjs"} < loaded
    assert not list(page.parent.glob(".*")), "nothing half-written beside it"


def test_the_page_names_no_other_host_and_no_folder_of_this_machine(page, run):
    for name in ("index.html", "page.mjs", "seeds.mjs"):
        text = (page / name).read_text()
        assert not re.search(r"https?:|wss?:|[\"'(]//", text), f"{name} names another host"
    assert not re.search(r"\b(innerHTML|eval|document\.write)\b", (page / "page.mjs").read_text())
    html = (page / "index.html").read_text()
    assert "default-src 'self'" in html, "the browser refuses other hosts as well"
    for path in page.rglob("*"):
        if path.is_file():
            assert not any(str(folder).encode() in path.read_bytes() for folder in (ROOT, run))


def test_the_script_finds_its_controls(page):
    html = (page / "index.html").read_text()
    wanted = set(re.findall(r'find\("([\w-]+)"\)', (page / "page.mjs").read_text()))
    assert wanted and wanted <= set(re.findall(r'id="([\w-]+)"', html))
    labels = re.findall(r"<label>(.*?)</label>", html)
    assert len(labels) == html.count("<input") + html.count("<select"), "each field has a label"


def test_the_foot_says_what_the_model_is(page):
    import onnxruntime

    html = (page / "index.html").read_text()
    for fact in ("dino (0123456789abcdef)", "cc-by-4.0", "0.9", "onnxruntime-web 1.30.0, MIT", "clip"):
        assert fact in html
    assert "48 aligned crops" in html and "<td>cc0 &lt;b&gt;|x</td><td>40</td>" in html and "<th>Crops</th>" in html
    assert "<li>Some samples are broken" in html and "Not for imitating a person" in html
    assert "ask@example" in html and "MIT License" in (page / "runtime" / "LICENSE").read_text()
    about = onnxruntime.InferenceSession(page / "generator.onnx").get_modelmeta().custom_metadata_map
    assert about["licence"] == "cc-by-4.0" and about["teacher"] == "dino (0123456789abcdef)"


def test_the_two_models_draw_what_dinogen_draws(page, run):
    """As page.mjs does it: styles by one model, straight lines between them, pictures by the other."""
    import onnxruntime

    generator = Generator.from_pretrained(run, device="cpu")
    settings = json.loads((page / "page.json").read_text())
    assert settings["prompts"] == ["", *PROMPTS], "each once, and first that of no words"
    values = torch.from_numpy(np.fromfile(page / "words.bin", "<f4"))
    count, size, tokens, width = 3, settings["textDim"], settings["tokens"], settings["tokenDim"]
    texts, told, mask = values.split([count * size, count * tokens * width, count * tokens])
    mapping, drawing = (onnxruntime.InferenceSession(page / f"{name}.onnx") for name in ("mapping", "generator"))
    (w,) = mapping.run(None, {"z": latents(9, 4, 2, settings["zDim"]).numpy()})
    w = np.stack([w[0], 0.5 * (w[0] + w[1]), w[1]])[:, None].repeat(settings["blocks"], 1)
    inputs = {
        "w": w, "truncation_psi": np.array(0.7, np.float32), "guidance": np.full(3, 2, np.float32),
        "text": texts.view(count, size)[[2] * 3].numpy(), "mask": mask.view(count, tokens)[[2] * 3].bool().numpy(),
        "tokens": told.view(count, tokens, width)[[2] * 3].numpy(),
    }  # fmt: skip
    (images,) = drawing.run(None, inputs)
    ends = [generator.style(1, 9, PROMPTS[1], truncation_psi=0.7, guidance=2.0, first=number)[0] for number in (4, 5)]
    expected = generator.interpolate(*ends, frames=3, prompt=PROMPTS[1], guidance=2.0, output="pt")
    off = np.abs(images.astype(int) - expected.permute(0, 2, 3, 1).numpy()).max()
    assert off <= LEVELS
    seed, number, z = settings["check"].values()
    assert torch.equal(latents(seed, number, 1, 16)[0], torch.tensor(z))


@pytest.mark.parametrize("size", [16, 17, 100, 128])
def test_seeds_of_the_page_are_those_of_dinogen(size, tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node runs the page's random numbers; install nodejs")
    wanted = [(0, 0), (7, 3), (2**32 - 1, 11), (2026, 123456)]
    script = tmp_path / "print.mjs"
    made = f"{json.dumps(wanted)}.map(([seed, number]) => [...latent(seed, number, {size})])"
    script.write_text(f"import {{ latent }} from '{TEMPLATES / 'seeds.mjs'}';\nconsole.log(JSON.stringify({made}));\n")
    done = subprocess.run([node, script], capture_output=True, text=True, check=True, timeout=60)
    expected = torch.cat([latents(seed, number, 1, size) for seed, number in wanted])
    assert (torch.tensor(json.loads(done.stdout)) - expected).abs().max() < 1e-5


@pytest.fixture
def untraced(monkeypatch):
    """Files that stand for the two models where it does not matter what they draw: tracing them takes long."""
    monkeypatch.setattr(page_module, "make_file", lambda *ignored: Made(b"draws", {}, 1))
    monkeypatch.setattr(page_module, "mapping_file", lambda *ignored: b"maps")


def test_a_model_without_words_and_without_a_card_of_dinogen(wordless, stand_in, untraced, tmp_path, capsys):
    folder = tmp_path / "my page"
    flags = ["--runtime", str(stand_in), "--precision", "fp32"]
    assert main(["--model", str(wordless), "--format", "web", "--output", str(folder), *flags]) == 0
    out = capsys.readouterr().out
    assert "at most 1 of 255 grey levels off" in out
    assert f"Next: python -m http.server --directory '{folder}'" in out
    assert "words.bin" not in names_in(folder) and "prompts" not in json.loads((folder / "page.json").read_text())
    html = (folder / "index.html").read_text()
    assert "<select" not in html and "What this model was trained on and what it is for is not stated" in html


def test_weights_of_a_page_are_in_16_bits(page, run):
    (snapshot,) = (run / "snapshots").iterdir()
    weights = (snapshot / "model.safetensors").stat().st_size // 4
    assert (page / "generator.onnx").stat().st_size < weights * 2 + 50_000


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--runtime", "other"], "is not that of onnxruntime-web@1.30.0; where npm and a network are, run `npm pack"),
        (["--runtime", "other.tgz"], "other.tgz: its ort.wasm.bundle.min.mjs is not that of"),
        (["--runtime", "cut.tgz"], "cut.tgz: not a whole package of onnxruntime-web@1.30.0"),
        (["--runtime", "empty.tgz"], "empty.tgz: not a whole package of onnxruntime-web@1.30.0"),
        (["--prompt", "a"], "was trained without words"),
    ],
)
def test_what_makes_no_page_is_one_line(wordless, stand_in, tmp_path, monkeypatch, capsys, flags, said):
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other" / "dist"
    other.mkdir(parents=True)
    for name in runtime.FILES:
        (other / name).write_text("of another version")
    pack(tmp_path / "other.tgz", other)
    (tmp_path / "cut.tgz").write_bytes((tmp_path / "other.tgz").read_bytes()[:60])
    with tarfile.open(tmp_path / "empty.tgz", "w:gz"):
        pass
    before = names_in(tmp_path)
    assert main(["--model", str(wordless), "--format", "web", "--output", "page", *flags]) == 2
    error = capsys.readouterr().err
    assert said in error.splitlines()[-1] and "Traceback" not in error
    assert names_in(tmp_path) == before and not (tmp_path / "page").exists()


def pack(path: Path, folder: Path) -> None:
    """Write files as npm pack does."""
    with tarfile.open(path, "w:gz") as archive:
        for name in runtime.FILES:
            archive.add(folder / name, f"package/dist/{name}")


def pretend_npm(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program that is called npm before all others."""
    npm = folder / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{npm.parent}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize("where", [".", "dist", "package/dist", "node_modules/onnxruntime-web/dist"])
def test_the_runtime_is_found_where_npm_puts_it(where, stand_in, tmp_path):
    shutil.copytree(stand_in, tmp_path / "here" / where, dirs_exist_ok=True)
    assert set(runtime.read_runtime(tmp_path / "here")) == set(runtime.FILES)
    pack(tmp_path / "package.tgz", stand_in)
    assert runtime.read_runtime(tmp_path / "package.tgz") == runtime.read_runtime(stand_in)


def test_the_runtime_comes_from_npm_in_the_version_that_is_known(stand_in, tmp_path, monkeypatch):
    pack(tmp_path / "made.tgz", stand_in)
    said = tmp_path / "said"
    pretend_npm(tmp_path, monkeypatch, f'echo "$@" > "{said}"; cp "{tmp_path}/made.tgz" onnxruntime-web-1.30.0.tgz')
    assert runtime.read_runtime() == runtime.read_runtime(stand_in)
    assert said.read_text().startswith("pack onnxruntime-web@1.30.0 --ignore-scripts")


def test_npm_that_fails_and_npm_that_is_missing(tmp_path, monkeypatch):
    lines = r"npm error code ENOTCACHED\nnpm error request to the registry failed: no network\nnpm error more\n"
    pretend_npm(tmp_path, monkeypatch, f"printf '{lines}' >&2; exit 1")
    with pytest.raises(DinogenError, match=r"\(request to the registry failed: no network\); where npm .* --runtime"):
        runtime.read_runtime()
    (tmp_path / "bin" / "npm").write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(DinogenError, match=r"\(it ended with code 3\)"):
        runtime.read_runtime()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="npm, which is not installed; install npm, or where npm"):
        runtime.read_runtime()


def test_a_page_is_written_whole_or_not_at_all(wordless, stand_in, untraced, tmp_path, monkeypatch, capsys):
    write = Path.write_bytes

    def full(path: Path, payload: bytes) -> int:
        if path.name == "mapping.onnx":
            raise OSError(28, "No space left on device", str(path))
        return write(path, payload)

    monkeypatch.setattr(Path, "write_bytes", full)
    flags = ["--format", "web", "--output", str(tmp_path / "page"), "--runtime", str(stand_in)]
    assert main(["--model", str(wordless), *flags]) == 1
    assert "page: the disk is full" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_latents_that_are_too_short_are_refused(stand_in, tmp_path, capsys):
    GeneratorNetwork(img_resolution=8, z_dim=8, w_dim=8, channel_max=8).save_pretrained(
        tmp_path / "model", config={"img_resolution": 8, "z_dim": 8, "w_dim": 8, "channel_max": 8}
    )
    flags = ["--format", "web", "--output", str(tmp_path / "page"), "--runtime", str(stand_in)]
    assert main(["--model", str(tmp_path / "model"), *flags]) == 2
    assert "latents need 16 numbers, and this model has z_dim 8" in capsys.readouterr().err
    assert not (tmp_path / "page").exists()


def test_prompts_come_from_a_file(run, stand_in, untraced, tmp_path):
    (tmp_path / "prompts.txt").write_text("a bald  man\n\na woman\na bald man\n")
    flags = ["--prompts", str(tmp_path / "prompts.txt"), "--runtime", str(stand_in)]
    assert main(["--model", str(run), "--format", "web", "--output", str(tmp_path / "page"), *flags]) == 0
    assert json.loads((tmp_path / "page" / "page.json").read_text())["prompts"] == ["", "a bald man", "a woman"]


def test_parts_of_a_card_lose_the_signs_of_markdown():
    data = "Two `lines`\nhere.\n\n| a | b\\|c |\n| --- | --- |\n| 1 | 2 |\n\n- one\n  and more\n- two"
    text = f"# A\n\n## Data\n\n{data}\n\n## B\nno\n"
    assert blocks_of(section_of(text, "Data")) == [
        ("p", [["Two lines here."]]),
        ("table", [["a", "b|c"], ["1", "2"]]),
        ("ul", [["one and more"], ["two"]]),
    ]
    assert section_of(text, "B") == "no" and section_of(text, "C") == "" and blocks_of("<!-- x -->") == []
