"""Draws docs/drift.svg: where the project's own transport would move some points, and the drift, their difference. Run:
python docs/draw_concepts.py
"""

from pathlib import Path

import torch
from torch import Tensor

from dinogen.objectives.sinkhorn import Transport

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "drift.svg"
COUNT = 48  # points of a kind
TEMPERATURE, ITERATIONS = 0.3, 3  # in the plane points are closer than embeddings are: more blur than in training
PANEL, GAP, TOP, FOOT = 300, 14, 30, 34  # pixels
SHORTEST = 3  # of an arrow; a shorter one would lie below its point
REAL, GENERATED, ARROW = "#c9a227", "#2f5fb5", "#b5482f"
TITLES = ("towards the real ones", "towards each other", "the drift: one minus the other")


def three_kinds(rng: torch.Generator) -> Tensor:
    """Points of three kinds, as faces are of many: `[COUNT, 2]` in [0, 1]."""
    centres = torch.tensor([[0.26, 0.3], [0.76, 0.34], [0.5, 0.78]])
    return centres.repeat_interleave(COUNT // 3, dim=0) + 0.055 * torch.randn(COUNT, 2, generator=rng)


def moves_of(points: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From each point to its target among the real ones and among the others, and the drift: `[COUNT, 2]` each."""
    h, p = points[None], real[None]
    to_real = Transport.between(h, p).barycentric(TEMPERATURE, ITERATIONS)[0]
    to_others = Transport.between(h, h.clone(), mask_diagonal=True).barycentric(TEMPERATURE, ITERATIONS)[0]
    return to_real - points, to_others - points, to_real - to_others


def panel(x: int, y: int, title: str, real: Tensor, points: Tensor, moves: Tensor) -> list[str]:
    """One square with all points, and an arrow from each generated one."""
    lines = [
        f'<rect x="{x}" y="{y}" width="{PANEL}" height="{PANEL}" rx="6" fill="#f6f8fb" stroke="#99a"/>',
        f'<text x="{x + 10}" y="{y + 22}" fill="#223">{title}</text>',
    ]
    for left, top in (PANEL * real).tolist():
        lines.append(f'<circle cx="{x + left:.0f}" cy="{y + top:.0f}" r="4.5" fill="{REAL}"/>')
    for (left, top), (right, down) in zip((PANEL * points).tolist(), (PANEL * moves).tolist()):
        if right**2 + down**2 > SHORTEST**2:
            lines.append(f'<path d="M{x + left:.0f} {y + top:.0f}l{right:.0f} {down:.0f}" class="move"/>')
    for left, top in (PANEL * points).tolist():
        lines.append(f'<circle cx="{x + left:.0f}" cy="{y + top:.0f}" r="3.5" fill="{GENERATED}"/>')
    return lines


def draw() -> str:
    """The picture as SVG text."""
    width, height = 3 * PANEL + 4 * GAP, 2 * (TOP + PANEL) + FOOT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="15">',
        "<title>The drift moves generated points to where real ones are and generated ones are not</title>",
        f"<style>.move{{stroke:{ARROW};stroke-width:1.3;fill:none;marker-end:url(#tip)}}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="5" markerHeight="5" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{ARROW}"/></marker></defs>',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    rng = torch.Generator().manual_seed(0)
    real = three_kinds(rng)
    of_one_kind = torch.tensor([0.36, 0.52]) + 0.08 * torch.randn(COUNT, 2, generator=rng)
    rows = {"While all samples are alike": of_one_kind, "When both distributions agree": three_kinds(rng)}
    for row, (name, points) in enumerate(rows.items()):
        y = TOP + row * (TOP + PANEL)
        lines.append(f'<text x="{GAP}" y="{y - 9}" fill="#222" font-weight="bold">{name}</text>')
        for column, (title, moves) in enumerate(zip(TITLES, moves_of(points, real))):
            lines += panel(GAP + column * (PANEL + GAP), y, title, real, points, moves)
    y = height - 12
    for x, colour, text in ((GAP + 6, REAL, "real"), (GAP + 76, GENERATED, "generated")):
        lines.append(f'<circle cx="{x}" cy="{y - 5}" r="4.5" fill="{colour}"/><text x="{x + 11}" y="{y}">{text}</text>')
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(draw())
    print(f"Wrote {PICTURE.relative_to(ROOT)}.")
