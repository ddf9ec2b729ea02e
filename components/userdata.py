"""Builds the one userdata text: `userdata/boot.sh` with the agent, the units and the workloads inside.

EC2 takes 16,384 bytes, compressed. So comments, docstrings, annotations and the names of locals stay in the repository, and
the files are packed by bzip2, which gets them a tenth smaller than EC2's gzip could.
"""

from __future__ import annotations

import ast
import base64
import bz2
import functools
import gzip
import hashlib
import textwrap
from collections.abc import Collection
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent / "userdata"
LIMIT = 16_384
_LIB = "/usr/local/lib/rollcall"
_MARK = "#FILES\n"
# Of the package, but not of the agent: docs/decisions/0004. A folder of modules is a package without the other one.
_NOT_SHIPPED = ("rollcall/resolve.py", "rollcall/__init__.py")


@functools.cache
def build() -> str:
    """The text that every machine of every cloud gets, to the byte."""
    script = (HOME / "boot.sh").read_text()
    if script.count(f"\n{_MARK}") != 1:
        raise ValueError("userdata/boot.sh has no place for its files (a line `#FILES` in put_files)")
    before, after = script.split(_MARK)
    return _without_comments(before) + _packed(files()) + _without_comments(after)


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
        if path.is_file()
        and path.suffix not in (".pyc", ".sh")
        and "egg-info" not in str(path)
        and str(path.relative_to(HOME)) not in _NOT_SHIPPED
    )


def files() -> dict[str, str]:
    """Where each file goes on the machine, and its text there."""
    found = {}
    for path in _sources():
        inside = path.relative_to(HOME)
        text = minified(path.read_text(), used_elsewhere()) if path.suffix == ".py" else path.read_text()
        if inside.parts[0] == "units":
            found[f"/etc/systemd/system/{path.name}"] = _without_comments(text)
        elif inside.parts[0] == "workloads":
            found[f"{_LIB}/{inside.relative_to('workloads')}"] = text
        else:
            found[f"{_LIB}/{inside}"] = text
    return found


def minified(source: str, keep: Collection[str]) -> str:
    """Python source that does the same in fewer bytes. Global names that are not in `keep` get shorter ones."""
    import python_minifier

    return python_minifier.minify(
        _without_types(source),
        remove_literal_statements=True,
        hoist_literals=False,
        rename_globals=True,
        preserve_globals=sorted(keep),
    )


def _without_types(source: str) -> str:
    """A program without what only a type checker reads: annotations of functions, protocols, and the imports for them.

    Annotations of classes stay, since dataclasses are made of them, but nobody looks up what they name.
    """
    tree = ast.parse(source)
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.ClassDef) and any(getattr(base, "id", "") == "Protocol" for base in node.bases))
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
            for at, inner in enumerate(node.body):
                if isinstance(inner, ast.AnnAssign) and inner.value is not None:
                    node.body[at] = ast.copy_location(ast.Assign([inner.target], inner.value), inner)
    told = [each for node in ast.walk(tree) if isinstance(node, ast.AnnAssign) for each in ast.walk(node.annotation)]
    unseen = {id(each) for each in told}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in unseen}
    for node in [*tree.body]:
        if isinstance(node, ast.Import | ast.ImportFrom) and getattr(node, "module", "") != "__future__":
            node.names = [each for each in node.names if (each.asname or each.name).partition(".")[0] in used]
            if not node.names:
                tree.body.remove(node)
    return ast.unparse(tree)


@functools.cache
def used_elsewhere() -> frozenset[str]:
    """Every name that a module of ours imports from another, or takes as another's attribute."""
    found: set[str] = set()
    for path in (each for each in _sources() if each.suffix == ".py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                found |= {each.name for each in node.names}
            elif isinstance(node, ast.Attribute):
                found.add(node.attr)
    return frozenset(found)


def _packed(texts: dict[str, str]) -> str:
    """`PATH NUL TEXT NUL PATH …`, compressed."""
    packed = bz2.compress("\0".join(word for each in texts.items() for word in each).encode(), 9)
    return "\n".join(textwrap.wrap(base64.b64encode(packed).decode(), 1000)) + "\n"


def _without_comments(text: str) -> str:
    """A shell script or unit without its full-line comments; `#!` stays."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if line.strip() and (line[0:2] == "#!" or not line.lstrip().startswith("#")))
