"""The import direction: launch → shards → dinogen, launch → dinogen, and no cycles between modules."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {"launch": {"launch", "shards", "dinogen"}, "shards": {"shards", "dinogen"}, "dinogen": {"dinogen"}}
READS_SNAPSHOTS_ONLY = ("dinogen.sample", "dinogen.evaluate", "dinogen.export")


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {module_name(path): path for package in ALLOWED for path in sorted((ROOT / package).rglob("*.py"))}


def imports_of(path: Path, everywhere: bool = True) -> set[str]:
    """Modules of this project that a file imports; `everywhere` counts those inside functions too."""
    tree = ast.parse(path.read_text())
    checked_only = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    skipped = {inner for node in checked_only for inner in ast.walk(node)}
    names: set[str] = set()
    for node in ast.walk(tree) if everywhere else tree.body:
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                names.add(whole if whole in MODULES else node.module)
    return {name for name in names if name.split(".")[0] in ALLOWED}


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_one_way(name: str) -> None:
    package = name.split(".")[0]
    wrong = {other for other in imports_of(MODULES[name]) if other.split(".")[0] not in ALLOWED[package]}
    assert not wrong, f"{name} imports {wrong}"


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith(READS_SNAPSHOTS_ONLY)])
def test_what_reads_snapshots_never_imports_the_trainer(name: str) -> None:
    assert not {other for other in imports_of(MODULES[name]) if other.startswith("dinogen.train")}


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {name: imports_of(path, everywhere=False) & MODULES.keys() for name, path in MODULES.items()}
    finished: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join([*path, name])
        if name not in finished:
            for other in sorted(graph[name] - {name}):
                visit(other, (*path, name))
            finished.add(name)

    for name in graph:
        visit(name, ())
