"""What holds the code together: imports go one way and never in a circle; functions are short; tests stand alone."""

import ast
from pathlib import Path

import pytest
from draw_imports import MODULES, find_circle, imports_of, module_graph, part_graph

TESTS = Path(__file__).parent
ALLOWED = {"launch": {"launch", "shards", "dinogen"}, "shards": {"shards", "dinogen"}, "dinogen": {"dinogen"}}
READS_SNAPSHOTS_ONLY = tuple(
    f"dinogen.{name}"
    for name in ("sample", "evaluate", "export", "library", "opening", "play", "project", "reader", "web")
)


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_one_way(name: str) -> None:
    package = name.split(".")[0]
    wrong = {other for other in imports_of(MODULES[name]) if other.split(".")[0] not in ALLOWED[package]}
    assert not wrong, f"{name} imports {wrong}"


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith(READS_SNAPSHOTS_ONLY)])
def test_what_reads_snapshots_never_imports_the_trainer(name: str) -> None:
    assert not {other for other in imports_of(MODULES[name]) if other.startswith("dinogen.train")}


def test_no_module_imports_itself_in_a_circle() -> None:
    """Counts every import: at the top, inside functions, under TYPE_CHECKING."""
    assert not find_circle(module_graph()), " → ".join(find_circle(module_graph()))


def test_no_part_imports_itself_in_a_circle() -> None:
    assert not find_circle(part_graph()), " → ".join(find_circle(part_graph()))


def test_a_circle_is_found() -> None:
    assert find_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


@pytest.mark.parametrize(
    "source",
    [
        "from dinogen import config",
        "def late():\n    import dinogen.config",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from dinogen.config import Config",
    ],
)
def test_every_kind_of_import_is_seen(source: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(source)
    assert imports_of(tmp_path / "module.py") == {"dinogen.config"}


@pytest.mark.parametrize("name", MODULES)
def test_no_function_is_longer_than_a_screen(name: str) -> None:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(MODULES[name].read_text())) if isinstance(node, functions)]
    lengths = {f"{name}.{node.name}": (node.end_lineno or 0) - node.lineno + 1 for node in nodes}
    assert not {function: lines for function, lines in lengths.items() if lines > 60}


@pytest.mark.parametrize("word", ["encoder.layer", "hidden_states", "num_hidden_layers", "register_tokens"])
def test_only_teachers_know_how_a_teacher_names_its_blocks(word: str) -> None:
    said = {name for name, path in MODULES.items() if word in path.read_text()}
    assert not {name for name in said if not name.startswith("dinogen.teachers.")}


def test_no_test_file_imports_another() -> None:
    """What tests share lies in tests/helpers."""
    names = {path.stem for path in TESTS.glob("test_*.py")} | {"conftest"}
    for path in sorted(TESTS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = getattr(node, "module", None) or node.names[0].name
                assert module.split(".")[0] not in names, f"{path.name} imports {module}"
