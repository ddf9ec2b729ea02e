"""Draw the diagrams of the documents: `python -m docs.pictures.diagram` writes each SOURCE.txt of this folder as SOURCE.svg.

A source begins with `title: TEXT` and `kind: sequence` or `kind: graph`. A line with `#` is a comment. In a sequence:

    actors: engine | machine | DNS
    engine -> machine: create
    note machine: boots

In a graph, COLUMN and ROW count from 0, and ` / ` starts another line of the box:

    node up 0 0: pulumi up / one for each stack
    up -> dns: PTR, TXT
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from docs.pictures import svg

HERE = Path(__file__).parent
_EDGE = re.compile(r"(\S+) -> (\S+): (.*)")
_NOTE = re.compile(r"note (\S+): (.*)")
_NODE = re.compile(r"node (\S+) (\d+) (\d+): (.*)")
MARGIN_PX, STEP_PX, ACTOR_PX, LINE_PX = 20, 38, 180, 18
COLUMN_PX, ROW_PX, BOX_PX = 290, 120, 200


class SourceError(ValueError):
    """A line of a source is not in the form that this module reads."""


@dataclass(frozen=True)
class Box:
    """A node of a graph, at its place."""

    x: float
    y: float
    lines: tuple[str, ...]

    @property
    def height(self) -> float:
        return 16 + LINE_PX * len(self.lines)

    def edge_towards(self, other: Box) -> tuple[float, float]:
        """Return where the line from this box's middle to another's leaves this box."""
        dx, dy = other.x - self.x, other.y - self.y
        scale = min(BOX_PX / 2 / abs(dx) if dx else 9, self.height / 2 / abs(dy) if dy else 9)
        return self.x + dx * scale, self.y + dy * scale

    def draw(self) -> str:
        top = self.y - self.height / 2
        rows = (
            svg.text(self.x, top + 20 + LINE_PX * row, words, "text" if row else "text bold")
            for row, words in enumerate(self.lines)
        )
        return svg.box(self.x - BOX_PX / 2, top, BOX_PX, self.height) + "".join(rows)


def sequence(title: str, lines: list[str]) -> str:
    """Draw actors beside each other and messages below each other."""
    names = [each.strip() for each in lines[0].removeprefix("actors:").split("|")]
    at = {name: MARGIN_PX + ACTOR_PX * (0.5 + index) for index, name in enumerate(names)}
    height = MARGIN_PX * 2 + 30 + STEP_PX * len(lines)
    parts = [f'<path class="life" d="M{x:g} 50V{height - MARGIN_PX}"/>' for x in at.values()]
    parts += [svg.box(x - 75, 20, 150, 30) + svg.text(x, 40, name, "text bold") for name, x in at.items()]
    for row, line in enumerate(lines[1:], 1):
        y = 50 + STEP_PX * row
        if (note := _NOTE.fullmatch(line)) and note[1] in at:
            parts.append(svg.label(at[note[1]], y, note[2]))
        elif (edge := _EDGE.fullmatch(line)) and {edge[1], edge[2]} <= at.keys():
            start, end = at[edge[1]], at[edge[2]]
            parts += [svg.arrow((start, y), (end, y)), svg.label((start + end) / 2, y - 6, edge[3])]
        else:
            raise SourceError(f"{title}: cannot read {line!r}. Write `A -> B: TEXT` or `note A: TEXT`.")
    return svg.document(2 * MARGIN_PX + ACTOR_PX * len(names), height, title, parts)


def _named(words: str, start: tuple[float, float], end: tuple[float, float], paired: bool) -> str:
    """Return the label of an arrow: near its start where arrows cross, beside the line where another arrow comes back."""
    (x, y), (to_x, to_y) = start, end
    part = 0.3 if round(x - to_x) and round(y - to_y) else 0.5
    shift = 0 if not paired else 18 if x > to_x else -10
    return svg.label(x + (to_x - x) * part, y + (to_y - y) * part + 4 + shift, words)


def graph(title: str, lines: list[str]) -> str:
    """Draw boxes on a grid and arrows between them."""
    boxes: dict[str, Box] = {}
    arrows: list[str] = []
    for line in lines:
        if node := _NODE.fullmatch(line):
            x = MARGIN_PX + BOX_PX / 2 + COLUMN_PX * int(node[2])
            boxes[node[1]] = Box(x, MARGIN_PX + 50 + ROW_PX * int(node[3]), tuple(node[4].split(" / ")))
        elif (edge := _EDGE.fullmatch(line)) and {edge[1], edge[2]} <= boxes.keys():
            one, other = boxes[edge[1]], boxes[edge[2]]
            start, end = one.edge_towards(other), other.edge_towards(one)
            arrows += [
                svg.arrow(start, end),
                _named(edge[3], start, end, paired=f"{edge[2]} -> {edge[1]}:" in " ".join(lines)),
            ]
        else:
            raise SourceError(f"{title}: cannot read {line!r}. Write `node NAME COLUMN ROW: TEXT` or `A -> B: TEXT`.")
    width = max(each.x for each in boxes.values()) + BOX_PX / 2 + MARGIN_PX
    height = max(each.y + each.height / 2 for each in boxes.values()) + MARGIN_PX
    return svg.document(int(width), int(height), title, [*arrows, *(each.draw() for each in boxes.values())])


def draw(source: str) -> str:
    """Return the SVG of a source."""
    lines = [each.strip() for each in source.splitlines() if each.strip() and not each.startswith("#")]
    title, kind = lines[0].removeprefix("title: "), lines[1].removeprefix("kind: ")
    if kind not in ("sequence", "graph"):
        raise SourceError(f"{title}: kind {kind!r} is unknown. Write `kind: sequence` or `kind: graph`.")
    return (sequence if kind == "sequence" else graph)(title, lines[2:])


def sources() -> list[Path]:
    """Return the source of each diagram."""
    return sorted(each for each in HERE.glob("*.txt") if each.read_text().startswith("title: "))


if __name__ == "__main__":
    for each in sources():
        each.with_suffix(".svg").write_text(draw(each.read_text()))
