"""Who imports whom: reads the imports with `ast` and draws docs/imports.svg. Run: python docs/draw_imports.py"""

import ast
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "imports.svg"
PACKAGES = ("launch", "shards", "dinogen")
COLOURS = {"launch": "#f4d9b8", "shards": "#cfe3c8", "dinogen": "#cddcee", "package": "#a9c4e2"}
FONT, BOX_HEIGHT, ROW, GAP, MARGIN = 13, 28, 76, 22, 20  # pixels
CHARACTER = 7.4  # pixels that one character of the font takes
Chains = dict[tuple[str, str], list[str]]  # arrow → the names along it: its start, a bend in each row between, its end


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


def imports_of(path: Path) -> set[str]:
    """Modules of this project that a file imports: at its top, inside functions and under `TYPE_CHECKING`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            wholes = [f"{node.module}.{alias.name}" for alias in node.names]
            names |= {whole if whole in MODULES else node.module for whole in wholes}
    return {name for name in names if name.split(".")[0] in PACKAGES}


def module_graph() -> dict[str, set[str]]:
    return {name: imports_of(path) & MODULES.keys() - {name} for name, path in MODULES.items()}


def part_of(module: str) -> str:
    """The box of the picture that a module belongs to: launch, shards, or what lies directly in dinogen."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "dinogen" else parts[0]


def part_graph() -> dict[str, set[str]]:
    """The imports between parts. `dinogen/__init__.py` names what others hold, and is left out."""
    parts: dict[str, set[str]] = {part_of(name): set() for name in MODULES if name != "dinogen"}
    for name, imported in module_graph().items():
        if name != "dinogen":
            parts[part_of(name)] |= {part_of(other) for other in imported} - {part_of(name), "dinogen"}
    return parts


def find_circle(graph: dict[str, set[str]]) -> list[str]:
    """The first circle found, as the names along it; [] where there is none."""
    finished: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in finished:
            return []
        circles = (visit(other, [*path, name]) for other in sorted(graph[name]))
        circle = next((found for found in circles if found), [])
        finished.add(name)
        return circle

    return next((circle for name in sorted(graph) if (circle := visit(name, []))), [])


def without_shortcuts(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The graph without each arrow that a longer way replaces (its transitive reduction). It must have no circle."""

    def reached(name: str) -> set[str]:
        return graph[name].union(*(reached(other) for other in graph[name]))

    return {name: others - set().union(*(reached(other) for other in others)) for name, others in graph.items()}


def chains_of(graph: dict[str, set[str]]) -> tuple[list[list[str]], Chains]:
    """The parts in rows from top to bottom, so that every arrow points downwards, and the arrows' bends in the rows."""

    def height(name: str) -> int:
        return max((1 + height(other) for other in graph[name]), default=0)

    heights = {name: height(name) for name in graph}
    rows = [sorted(name for name in graph if heights[name] == row) for row in range(max(heights.values()) + 1)]
    chains: Chains = {}
    for name in sorted(graph):
        for other in sorted(graph[name]):
            bends = [(f"{name}>{other}@{row}", row) for row in range(heights[name] - 1, heights[other], -1)]
            for bend, row in bends:
                rows[row].append(bend)
            chains[name, other] = [name, *(bend for bend, _ in bends), other]
    return rows[::-1], chains


def untangle(rows: list[list[str]], chains: Chains) -> None:
    """Order each row so that few arrows cross: every name moves to the mean place of its neighbours."""
    neighbours: dict[str, list[str]] = {name: [] for row in rows for name in row}
    for chain in chains.values():
        for name, other in pairwise(chain):
            neighbours[name].append(other)
            neighbours[other].append(name)
    for _ in range(30):
        for row in rows:
            place = {name: (index + 0.5) / len(row) for row in rows for index, name in enumerate(row)}
            row.sort(key=lambda name: sum(place[other] for other in neighbours[name]) / max(len(neighbours[name]), 1))


def label(name: str) -> str:
    """A package ends with a slash, a module with `.py`; a bend says nothing."""
    inner = name.removeprefix("dinogen.")
    if ">" in name:
        return ""
    return f"{inner}.py" if name in MODULES and MODULES[name].name != "__init__.py" else f"{inner}/"


def box_width(name: str) -> float:
    return 20 + CHARACTER * len(label(name)) if label(name) else 1


def places_of(rows: list[list[str]], width: float) -> dict[str, tuple[float, float]]:
    """The centre of each box and bend, in pixels."""
    places = {}
    for index, row in enumerate(rows):
        gap = (width - 2 * MARGIN - sum(map(box_width, row))) / (len(row) + 1)
        x = float(MARGIN)
        for name in row:
            x += gap + box_width(name) / 2
            places[name] = (x, MARGIN + BOX_HEIGHT / 2 + index * ROW)
            x += box_width(name) / 2
    return places


def arrow(points: list[tuple[float, float]]) -> str:
    """A smooth line from the bottom of the first box through the bends to the top of the last box."""
    half = BOX_HEIGHT / 2
    x, y = points[0]
    path = f"M{x:.0f} {y + half:.0f}"
    for (x1, y1), (x2, y2) in pairwise(points):
        y1, y2 = y1 + half, y2 - half - 2
        path += f"L{x1:.0f} {y1:.0f}C{x1:.0f} {y1 + 24:.0f} {x2:.0f} {y2 - 24:.0f} {x2:.0f} {y2:.0f}"
    return f'<path d="{path}" fill="none" stroke="#667" stroke-width="1.2" marker-end="url(#tip)"/>'


def box(name: str, x: float, y: float) -> str:
    wide, kind = box_width(name), "package" if label(name).endswith("/") else "dinogen"
    return (
        f'<rect x="{x - wide / 2:.0f}" y="{y - BOX_HEIGHT / 2:.0f}" width="{wide:.0f}" height="{BOX_HEIGHT}" rx="5" '
        f'fill="{COLOURS.get(name, COLOURS[kind])}" stroke="#556"/>'
        f'<text x="{x:.0f}" y="{y + 4.5:.1f}" text-anchor="middle">{label(name)}</text>'
    )


def draw(graph: dict[str, set[str]]) -> str:
    """The picture as SVG text: the same imports give the same text."""
    rows, chains = chains_of(without_shortcuts(graph))
    untangle(rows, chains)
    width = 2 * MARGIN + max(sum(box_width(name) + GAP for name in row) + GAP for row in rows)
    height = 2 * MARGIN + BOX_HEIGHT + ROW * (len(rows) - 1)
    places = places_of(rows, width)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" '
        f'height="{height}" font-family="Helvetica, Arial, sans-serif" font-size="{FONT}">',
        "<title>Who imports whom in dinogen: arrows point from a part to what it imports</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#667"/></marker></defs>',
        '<rect width="100%" height="100%" fill="#fff"/>',
        *(arrow([places[name] for name in chain]) for chain in chains.values()),
        *(box(name, *place) for name, place in sorted(places.items()) if label(name)),
    ]
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(draw(part_graph()))
    print(f"Wrote {PICTURE.relative_to(ROOT)}.")
