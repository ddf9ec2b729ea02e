"""Write the parts of an SVG that follows the reader's light or dark theme."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

STYLE = """\
svg{font-family:Helvetica,Arial,sans-serif;font-size:13px}
.page{fill:#fff}.box{fill:#eef3fb;stroke:#334}.line{stroke:#334;stroke-width:1.5;fill:none}.life{stroke:#99a;stroke-dasharray:4 4}
.text{fill:#112}.label{fill:#334}.head{fill:#334}.bold{font-weight:bold}.mono{font-family:Menlo,Consolas,monospace;white-space:pre}
@media (prefers-color-scheme:dark){.page{fill:#0d1117}.box{fill:#1c2733;stroke:#9fb3c8}.line{stroke:#9fb3c8}.life{stroke:#556}
.text{fill:#e6edf3}.label{fill:#c9d5e0}.head{fill:#9fb3c8}}"""
HEAD = (
    '<marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
    '<path class="head" d="M0 0L10 5L0 10z"/></marker>'
)


def document(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    """Return a whole SVG; `title` is what a screen reader says."""
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img" xml:space="preserve">'
    top = (opening, f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", f"<defs>{HEAD}</defs>")
    page = f'<rect class="page" width="{width}" height="{height}" rx="6"/>'
    return "\n".join((*top, page, *parts, "</svg>")) + "\n"


def text(x: float, y: float, words: str, classes: str = "text", anchor: str = "middle") -> str:
    """Return a line of text."""
    return f'<text class="{classes}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(words, quote=False)}</text>'


def box(x: float, y: float, width: float, height: float) -> str:
    """Return a rectangle with round corners."""
    return f'<rect class="box" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>'


def arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    """Return a straight arrow."""
    return f'<path class="line" d="M{start[0]:g} {start[1]:g}L{end[0]:g} {end[1]:g}" marker-end="url(#head)"/>'


def label(x: float, y: float, words: str) -> str:
    """Return a text on a strip of the page's colour, so that no line crosses it."""
    wide = 6.4 * len(words) + 6
    return f'<rect class="page" x="{x - wide / 2:g}" y="{y - 12:g}" width="{wide:g}" height="16"/>' + text(
        x, y, words, "label"
    )
