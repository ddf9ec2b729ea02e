"""Draw what `make up` printed as a terminal: `make up 2>&1 | python -m docs.pictures.terminal` records a run and draws it."""

from __future__ import annotations

import sys
from pathlib import Path

from docs.pictures import svg

LOG = Path(__file__).parent / "make-up.log"
WIDTH_CHARACTERS, LINE_PX, CHARACTER_PX = 104, 17, 7.3
PARAGRAPH_LINES = 5


def cut(line: str) -> str:
    """Cut a line that is too long for the picture, with `…`."""
    return line if len(line) <= WIDTH_CHARACTERS else line[: WIDTH_CHARACTERS - 1] + "…"


def shown(log: str) -> list[str]:
    """Return the lines of the picture: the steps that ended, then each paragraph, cut with `…` after its first lines."""
    steps, *paragraphs = [each.splitlines() for each in log.strip().split("\n\n")]
    lines = ["$ make up", *(each for each in steps if each.startswith("==>") and ": " not in each)]
    for each in paragraphs:
        lines += ["", *each[:PARAGRAPH_LINES], *(["  …"] if len(each) > PARAGRAPH_LINES else [])]
    return [cut(each.rstrip()) for each in lines]


def draw(log: str) -> str:
    """Return the SVG of a run."""
    lines = shown(log)
    width, height = round(WIDTH_CHARACTERS * CHARACTER_PX) + 40, LINE_PX * len(lines) + 40
    parts = [
        svg.text(
            20, 30 + LINE_PX * row, each, "text mono bold" if each.startswith(("$", "==>")) else "text mono", "start"
        )
        for row, each in enumerate(lines)
    ]
    return svg.document(width, height, "What make up prints", parts)


def record(printed: str) -> str:
    """Return what a run printed, without the name of the user's home folder."""
    return printed.replace(str(Path.home()), "~")


if __name__ == "__main__":
    LOG.write_text(record(sys.stdin.read()))
    LOG.with_suffix(".svg").write_text(draw(LOG.read_text()))
