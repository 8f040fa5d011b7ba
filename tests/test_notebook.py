"""docs/dinogen.ipynb, the library in ten minutes: every cell runs, and shows what it should."""

from pathlib import Path
from typing import Any

import pytest
import torch

from dinogen.networks import Generator as GeneratorNetwork
from helpers.worded import NARROW, save_worded

nbformat = pytest.importorskip("nbformat", reason="pip install 'dinogen[dev]'")
nbclient = pytest.importorskip("nbclient", reason="pip install 'dinogen[dev]'")
pytest.importorskip("onnxruntime", reason="pip install 'dinogen[export]'")

NOTEBOOK = Path(__file__).parent.parent / "docs" / "dinogen.ipynb"


def executed(model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, until: str | None = None) -> Any:
    """The notebook after all its cells ran in `folder`, or those above the heading `until`."""
    monkeypatch.setenv("DINOGEN_MODEL", str(model))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    headings = [cell.source.partition("\n")[0] for cell in notebook.cells]
    notebook.cells = notebook.cells[: headings.index(until) if until else None]
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def pictures(notebook: Any) -> int:
    """How many pictures the cells show."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return sum(any(kind.startswith("image/") for kind in output.get("data", {})) for output in outputs)


def printed(notebook: Any) -> str:
    """What the cells print."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")


@pytest.mark.slow
def test_without_words_the_notebook_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = GeneratorNetwork(**NARROW)
    network.update_w_avg()
    network.save_pretrained(tmp_path / "faces", config=NARROW)
    notebook = executed(tmp_path / "faces", tmp_path, monkeypatch, until="## A file for other programs")
    assert pictures(notebook) == 6
    assert "16×16 pixels on cpu, without words" in printed(notebook)
    assert "trained without words" in printed(notebook)


def test_every_cell_of_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_worded(tmp_path / "faces", "embedded")
    notebook = executed(tmp_path / "faces", tmp_path, monkeypatch)
    assert pictures(notebook) == 9
    assert "16×16 pixels on cpu, with words" in printed(notebook)


def test_the_notebook_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not [cell for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")]
