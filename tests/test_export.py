"""dinogen export: files that draw what dinogen draws, without dinogen."""

import ast
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from dinogen import Generator
from dinogen.export import about_model
from dinogen.opening import load_generator
from helpers.text_models import save_clip
from helpers.worded import save_worded
from launch.export import main

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "docs" / "draw_with_onnx.py"
PROMPTS = ["a woman with red hair", "", "a bald man"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A judged run whose generator looks at the tokens of words."""
    folder = tmp_path_factory.mktemp("run")
    save_clip(folder / "clip")
    save_worded(folder / "snapshots" / "kimg000001.000", str(folder / "clip"))
    spec = {"teacher": "/home/me/dino", "teacher_sha256": "0123456789abcdef", "input_size": 16, "patch_size": 8}
    spec |= {"width": 8, "layers": [1], "levels": [1, 2], "fine_layers": []}
    (folder / "config.yaml").write_text("data: shards\n")
    (folder / "teacher.json").write_text(json.dumps({"16": spec}))
    (folder / "report.json").write_text(json.dumps({"verdict": ["faces"], "model": "m", "face_rate": 0.9}))
    return folder


@pytest.fixture(scope="module")
def generator(run: Path) -> Generator:
    return Generator.from_pretrained(run, device="cpu")


def export(run: Path, output: Path, *flags: str) -> dict[str, np.ndarray]:
    """The inputs beside what was exported."""
    assert main(["--model", str(run), "--output", str(output), "--prompt", *PROMPTS, *flags]) == 0
    return dict(np.load(output.with_suffix(".npz")))


def apart(some: np.ndarray, images: torch.Tensor) -> int:
    """Grey levels between images `[N, R, R, 3]` and images `[N, 3, R, R]` where they differ most."""
    return int(np.abs(some.astype(int) - images.permute(0, 2, 3, 1).numpy()).max())


@pytest.mark.parametrize(("start", "precision"), [("z", "fp16"), ("w", "fp32")])
def test_an_onnx_file_draws_the_same_faces_without_torch(run, generator, tmp_path, start, precision):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="pip install 'dinogen[export]'")
    import onnxruntime

    flags = ["--start", start, "--precision", precision, "--licence", "cc-by-4.0"]
    inputs = export(run, tmp_path / "faces.onnx", *flags)
    nothing = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, EXAMPLE, "faces.onnx"], cwd=tmp_path, check=True, env=nothing)
    faces = np.stack([np.array(Image.open(tmp_path / f"face{number}.png")) for number in range(8)])
    assert apart(faces, generator.sample(8, prompt=PROMPTS, output="pt")) <= (1 if precision == "fp32" else 4)
    session = onnxruntime.InferenceSession(tmp_path / "faces.onnx")
    about = session.get_modelmeta().custom_metadata_map
    assert about["licence"] == "cc-by-4.0" and about["teacher"] == "dino (0123456789abcdef)"
    assert json.loads(about["figures"]) == {"face_rate": 0.9} and about["resolution"] == "16"
    first = {name: value[2:3] if value.ndim else value for name, value in inputs.items()}
    first |= {"truncation_psi": np.array(0.5, np.float32), "guidance": np.array([2.0], np.float32)}
    expected = generator.sample(3, prompt=PROMPTS, truncation_psi=0.5, guidance=2.0, output="pt")[2:]
    assert apart(session.run(None, first)[0], expected) <= (1 if precision == "fp32" else 4)
    payload = (tmp_path / "faces.onnx").read_bytes()
    weights = sum(value.numel() for value in generator.network.state_dict().values())
    assert len(payload) < weights * (2 if precision == "fp16" else 4) + 50_000
    for folder in (ROOT, run):
        assert str(folder).encode() not in payload, "folders of this machine"


@pytest.mark.slow
def test_an_onnx_file_draws_the_same_faces_where_only_three_packages_are(run, generator, tmp_path):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="pip install 'dinogen[export]'")
    export(run, tmp_path / "faces.onnx")
    nothing = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "fresh"], check=True, env=nothing, timeout=300)
    python = tmp_path / "fresh" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries=1", "--timeout=15"]
    brought = subprocess.run([*pip, "onnxruntime", "numpy", "pillow"], env=nothing, capture_output=True, text=True)
    if brought.returncode != 0:
        pytest.skip(f"pip has no index here that gives the three packages: {brought.stderr.strip()[-200:]}")
    found = "import importlib.util as u; print([u.find_spec(n) is not None for n in ('torch', 'dinogen', 'onnx')])"
    answer = subprocess.run(
        [python, "-c", found], cwd=tmp_path, env=nothing, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[False, False, False]"
    subprocess.run([python, EXAMPLE, "faces.onnx"], cwd=tmp_path, check=True, env=nothing, timeout=300)
    faces = np.stack([np.array(Image.open(tmp_path / f"face{number}.png")) for number in range(8)])
    assert faces.std() > 20, "something is drawn"
    assert apart(faces, generator.sample(8, prompt=PROMPTS, output="pt")) <= 1


def test_the_example_is_short_and_needs_three_packages():
    source = EXAMPLE.read_text()
    imported = {node.names[0].name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import)}
    imported |= {node.module or "" for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)}
    assert imported == {"sys", "pathlib", "numpy", "onnxruntime", "PIL"}
    assert len([line for line in source.partition('"""\n\nimport')[2].splitlines() if line.strip()]) <= 20


def test_a_torch_program_draws_the_same_faces(run, generator, tmp_path):
    inputs = export(run, tmp_path / "faces.pt2", "--format", "torch", "--precision", "fp16")
    with zipfile.ZipFile(tmp_path / "faces.pt2") as file:
        assert not any(str(ROOT).encode() in file.read(name) for name in file.namelist()), "folders of this machine"
    extra = {"dinogen.json": ""}
    program = torch.export.load(tmp_path / "faces.pt2", extra_files=extra).module()
    assert json.loads(extra["dinogen.json"])["generator"] == generator.network.fingerprint
    for count in (1, 5):
        some = [torch.from_numpy(value[:count] if value.ndim else value) for value in inputs.values()]
        assert apart(program(*some).numpy(), generator.sample(count, prompt=PROMPTS, output="pt")) <= 4
    kinds = {value.dtype for value in torch.export.load(tmp_path / "faces.pt2").state_dict.values()}
    assert kinds == {torch.float16}


@pytest.mark.parametrize(("precision", "most"), [("fp32", 0), ("fp16", 4)])
def test_a_snapshot_in_16_bits_is_half_as_large_and_opens(run, generator, tmp_path, precision, most):
    folder = tmp_path / "small"
    flags = ["--format", "safetensors", "--precision", precision, "--licence", "mit"]
    assert main(["--model", str(run), "--output", str(folder), *flags]) == 0
    opened = Generator.from_pretrained(folder, device="cpu")
    drawn, expected = (each.sample(8, prompt=PROMPTS, output="pt").int() for each in (opened, generator))
    assert (drawn - expected).abs().max() <= most
    assert {value.dtype for value in load_generator(folder).state_dict().values()} == {torch.float32}
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.metadata()["licence"] == "mit"
    about = about_model(opened, "not stated")
    assert about["licence"] == "mit" and about["teacher"] == "dino (0123456789abcdef)", "it hands on what was known"
    assert json.loads(about["figures"]) == {"face_rate": 0.9}
    assert about_model(opened, "cc-by-4.0")["licence"] == "cc-by-4.0"
    sizes = [(each / "model.safetensors").stat().st_size for each in (folder, run / "snapshots" / "kimg000001.000")]
    assert sizes[0] < sizes[1] * (0.7 if precision == "fp16" else 1.1)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--format", "onnx", "--output", "faces.pt2"], "--output faces.pt2: a file for onnx must end in .onnx"),
        (["--format", "torch", "--output", "faces"], "must end in .pt2"),
        (["--format", "safetensors", "--output", "."], "is there already"),
        (["--format", "tflite"], "--format tflite: give one of onnx, torch, safetensors, web"),
        (["--encoder", "no/encoder", "--prompt", "a"], "no/encoder"),
    ],
)
def test_what_cannot_be_exported_is_one_line(run, tmp_path, monkeypatch, capsys, flags, said):
    monkeypatch.chdir(tmp_path)
    assert main(["--model", str(run), *flags]) in (1, 2)
    lines = capsys.readouterr().err.splitlines()
    assert said in lines[-1] and "Traceback" not in "".join(lines)
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.chdir(tmp_path)
    assert main(["--model", str(run)]) == 2
    assert "--format onnx needs onnxruntime; pip install 'dinogen[export]'" in capsys.readouterr().err
