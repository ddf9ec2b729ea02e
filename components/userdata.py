"""Builds the one userdata text: `userdata/boot.sh` with the agent, the units and the workloads inside.

Comments and docstrings stay in the repository: EC2 takes 16,384 bytes, compressed.
"""

from __future__ import annotations

import ast
import base64
import functools
import gzip
import hashlib
import io
import tokenize
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent / "userdata"
LIMIT = 16_384
_LIB = "/usr/local/lib/rollcall"
_MARK = "    :\n    #FILES\n"
_END = "ROLLCALL_END_OF_FILE"


@functools.cache
def build() -> str:
    """The text that every machine of every cloud gets, to the byte."""
    script = (HOME / "boot.sh").read_text()
    if script.count(_MARK) != 1:
        raise ValueError("userdata/boot.sh has no place for its files (`:` and `#FILES` in put_files)")
    return _without_comments(script.replace(_MARK, "__FILES__\n")).replace(
        "__FILES__\n", "".join(_here(*each) for each in _files())
    )


def sources_hash() -> str:
    """Changes when a source of the userdata changes, and at nothing else: what replaces a machine."""
    digest = hashlib.sha256()
    for path in (HOME / "boot.sh", *_sources()):
        digest.update(f"{path.relative_to(HOME)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def gzipped() -> bytes:
    """Compressed, as EC2 gets it: cloud-init decompresses it. Raises ValueError over EC2's limit."""
    packed = gzip.compress(build().encode(), compresslevel=9, mtime=0)
    if len(packed) > LIMIT:
        raise ValueError(
            f"the userdata has {len(packed)} bytes compressed, EC2 takes {LIMIT}; shorten what is below userdata/"
        )
    return packed


def gzipped_base64() -> str:
    return base64.b64encode(gzipped()).decode()


def _sources() -> list[Path]:
    return sorted(
        path
        for path in HOME.rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".sh") and "egg-info" not in str(path)
    )


def _files() -> list[tuple[str, str]]:
    """Where each file goes on the machine, and its text."""
    found = []
    for path in _sources():
        inside = path.relative_to(HOME)
        text = strip(path.read_text()) if path.suffix == ".py" else path.read_text()
        if inside.parts[0] == "units":
            target = f"/etc/systemd/system/{path.name}"
            text = _without_comments(text)
        elif inside.parts[0] == "workloads":
            target = f"{_LIB}/{inside.relative_to('workloads')}"
        else:
            target = f"{_LIB}/{inside}"
        found.append((target, text))
    return found


def _here(target: str, text: str) -> str:
    if f"\n{_END}" in f"\n{text}":
        raise ValueError(f"{target} holds a line {_END}, which ends it in the userdata")
    return f"put {target} 644 <<'{_END}'\n{text if text.endswith(chr(10)) else text + chr(10)}{_END}\n"


def _without_comments(text: str) -> str:
    """A shell script or unit without its full-line comments; the first line (`#!`) stays."""
    first, *rest = text.splitlines(keepends=True)
    return first + "".join(line for line in rest if line.strip() and not line.lstrip().startswith("#"))


def strip(source: str) -> str:
    """Python source without comments, docstrings and blank lines; it compiles to the same but for `__doc__`."""
    lines = source.splitlines(keepends=True)
    drop: set[int] = set()
    inside: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not lines[token.start[0] - 1][: token.start[1]].strip():
            drop.add(token.start[0])
        if token.type == tokenize.STRING and token.end[0] > token.start[0]:
            inside.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if (
            not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            or ast.get_docstring(node) is None
        ):
            continue
        doc = node.body[0]
        drop.update(range(doc.lineno, (doc.end_lineno or doc.lineno) + 1))
        if len(node.body) == 1:
            lines[doc.lineno - 1] = f"{' ' * doc.col_offset}pass\n"
            drop.discard(doc.lineno)
    kept = [line for number, line in enumerate(lines, 1) if number not in drop and (line.strip() or number in inside)]
    return "".join(kept)
