"""Builds the one userdata text: `userdata/boot.sh` with the agent, the units and the workloads inside.

EC2 takes 16,384 bytes, compressed. So comments, docstrings, annotations and names stay in the repository, the agent's modules
become one, and the files are packed by bzip2, which gets them a tenth smaller than EC2's gzip could.
"""

from __future__ import annotations

import ast
import base64
import bz2
import contextlib
import functools
import hashlib
import importlib.metadata
import os
import re
import string
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent / "userdata"
LIMIT = 16_384
# What the program on a machine is written for. Debian 12 has Python 3.11, and pyproject.toml promises this one.
OLDEST_PYTHON = "3.10"
_LIB = "/usr/local/lib/rollcall"
_MARK = "#FILES\n"
# Types of settings.
_READ = ("int", "bool", "str")
# The window's size, and 16 for a gzip header, which holds no time.
_GZIP = 31
# Of the package, but not of the agent: docs/decisions/0004. A folder of modules is a package without the other one.
_NOT_SHIPPED = ("rollcall/resolve.py", "rollcall/console.py", "rollcall/__init__.py")
# What argparse says of a command, and where.
_HELP = ("help", "description")
_COMMANDS = ("ArgumentParser", "add_parser", "add_argument")


@functools.cache
def build() -> str:
    """The text that every machine of every cloud gets, to the byte. Packing it takes longer than the rest of the program, so it
    is kept in the user's cache folder, by what it was built from."""
    kept = _kept()
    with contextlib.suppress(OSError):
        return kept.read_text("utf-8")
    text = _built()
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=kept.parent, delete=False) as partial:
            partial.write(text)
        # Whole or not at all, whoever else builds it.
        Path(partial.name).rename(kept)
    return text


def _kept() -> Path:
    versions = [importlib.metadata.version(each) for each in ("python-minifier", "parso")]
    tools = f"{sys.version} {versions} {hashlib.sha256(Path(__file__).read_bytes()).hexdigest()}"
    built_from = hashlib.sha256(f"{sources_hash()} {tools}".encode()).hexdigest()[:16]
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return home / "rollcall" / f"userdata-{built_from}"


def _built() -> str:
    script = (HOME / "boot.sh").read_text("utf-8")
    if script.count(f"\n{_MARK}") != 1 or not script.endswith(_MARK):
        raise ValueError("userdata/boot.sh has no place for its files: its last line, and no other, must be `#FILES`.")
    # A line is indented by fours for its readers only.
    return re.sub(r"(?m)^(?: {4})+", "", _without_comments(script)) + _packed(files())


def sources_hash() -> str:
    """Changes when a source of the userdata changes, and at nothing else: what replaces a machine."""
    digest = hashlib.sha256()
    for path in (HOME / "boot.sh", *_sources()):
        digest.update(f"{path.relative_to(HOME)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def gzipped() -> bytes:
    """Compressed, as EC2 gets it: cloud-init decompresses it. Raises ValueError over EC2's limit.

    In two members (RFC 1952 section 2.2): what is packed already repeats nothing, so it is coded by letter only.
    """
    script, files = _parts(build())
    packed = _member(script, zlib.Z_DEFAULT_STRATEGY) + _member(files, zlib.Z_HUFFMAN_ONLY)
    if len(packed) > LIMIT:
        raise ValueError(
            f"the userdata has {len(packed)} bytes compressed, EC2 takes {LIMIT}; shorten what is below userdata/"
        )
    return packed


def _parts(text: str) -> tuple[str, str]:
    """The script, and its last line: the packed files."""
    at = text.rindex("\n", 0, -1) + 1
    return text[:at], text[at:]


def _member(text: str, strategy: int) -> bytes:
    coder = zlib.compressobj(9, zlib.DEFLATED, _GZIP, 9, strategy)
    return coder.compress(text.encode()) + coder.flush()


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
    found = {f"{_LIB}/rollcall.py": minified(_shortened(bundled()), ())}
    for path in _sources():
        inside = path.relative_to(HOME)
        text = path.read_text("utf-8")
        if inside.parts[0] == "units":
            found[f"/etc/systemd/system/{path.name}"] = _without_comments(text)
        elif inside.parts[0] == "workloads":
            found[f"{_LIB}/{inside.relative_to('workloads')}"] = minified(text, ()) if path.suffix == ".py" else text
    return {place: _checked(place, text) if place.endswith(".py") else text for place, text in found.items()}


def minified(source: str, keep: Collection[str]) -> str:
    """Python source that does the same in fewer bytes. Global names that are not in `keep` get shorter ones, and so do arguments
    that are positional only, which they need not be any more then."""
    import python_minifier

    text = python_minifier.minify(
        _without_types(source),
        remove_literal_statements=True,
        hoist_literals=False,
        remove_asserts=True,
        rename_globals=True,
        preserve_globals=sorted(keep),
        convert_posargs_to_args=False,
    )
    smaller = ast.parse(text)
    annotations = [ast.unparse(each.annotation) for each in ast.walk(smaller) if isinstance(each, ast.AnnAssign)]
    if {*annotations} <= {"0", *_READ}:
        # That annotations are texts until somebody asks (PEP 563) matters to none of these.
        smaller.body = [each for each in smaller.body if getattr(each, "module", "") != "__future__"]
    for each in ast.walk(smaller):
        if isinstance(each, ast.arguments):
            each.args, each.posonlyargs = each.posonlyargs + each.args, []
    return str(python_minifier.unparse(_OldFormat().visit(smaller)))


class _OldFormat(ast.NodeTransformer):
    """Write f-strings that have a text inside of their braces as sums of texts and of calls of format().

    Python 3.12 and newer unparse them with quotes at which the f-string ends for an older Python
    (https://peps.python.org/pep-0701/), so each builder would make other bytes.
    """

    _CONVERSIONS = {-1: "", ord("s"): "str", ord("r"): "repr", ord("a"): "ascii"}

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.expr:
        # Some builds of Python 3.12 end a format with an empty text (https://github.com/python/cpython/issues/110309).
        node.values = [each for each in node.values if getattr(each, "value", "")]
        fields = [each for each in node.values if isinstance(each, ast.FormattedValue)]
        inside = [each for field in fields for each in ast.walk(field) if isinstance(each, ast.Constant)]
        if fields and not any(each.value for each in inside if isinstance(each.value, str | bytes)):
            return node
        parts = [self._text(each) if isinstance(each, ast.FormattedValue) else each for each in node.values]
        return functools.reduce(lambda left, right: ast.BinOp(left, ast.Add(), right), parts or [ast.Constant("")])

    def _text(self, field: ast.FormattedValue) -> ast.expr:
        value = self.visit(field.value)
        conversion = self._CONVERSIONS[field.conversion]
        if conversion:
            value = ast.Call(ast.Name(conversion, ast.Load()), [value], [])
        wanted = [self.visit(field.format_spec)] if field.format_spec else []
        return ast.Call(ast.Name("format", ast.Load()), [value, *wanted], [])

    def visit_arg(self, node: ast.arg) -> ast.arg:
        if node.arg in ("format", *self._CONVERSIONS.values()):
            raise ValueError(f"userdata: an argument is named {node.arg}, as a function is that is called. Rename it.")
        return node


def _checked(place: str, text: str) -> str:
    """Return a program as it is. Raise ValueError if the oldest guest's Python would not read it, whoever builds it."""
    from parso.grammar import load_grammar

    grammar = load_grammar(version=OLDEST_PYTHON)
    for fault in grammar.iter_errors(grammar.parse(text)):
        line, column = fault.start_pos
        near = text.splitlines()[line - 1][max(0, column - 30) : column + 30]
        raise ValueError(
            f"{place}: line {line} is not Python {OLDEST_PYTHON}, which machines may have ({fault.message}): {near!r}. "
            f"Write this place below userdata/ in the syntax of Python {OLDEST_PYTHON}."
        )
    return text


def _shortened(source: str) -> str:
    """A whole program, which nothing else knows, ready for shorter names: its classes' private attributes and methods have them,
    and the arguments of functions that it never gives by name are positional only. Its commands have no help: docs/ has it."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in _COMMANDS:
            node.keywords = [each for each in node.keywords if each.arg not in _HELP]
    given = {each.arg for each in ast.walk(tree) if isinstance(each, ast.keyword)}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            arguments = node.args.args
            at = next((at for at, each in enumerate(arguments) if each.arg in given), len(arguments))
            node.args.posonlyargs, node.args.args = arguments[:at], arguments[at:]
    methods = [each for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for each in node.body]
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    named = [each.name for each in methods if isinstance(each, ast.FunctionDef)]
    named += [each.attr for each in attributes if isinstance(each.ctx, ast.Store)]
    private = {each for each in named if each.startswith("_") and not each.startswith("__")}
    used = Counter(node.attr for node in attributes if node.attr in private)
    letters = string.ascii_letters
    short = (f"_{first}{second}" for first in ("", *letters) for second in letters)
    names = dict(zip((each for each, _ in used.most_common()), short, strict=False))
    for node in attributes:
        node.attr = names.get(node.attr, node.attr)
    for each in methods:
        if isinstance(each, ast.FunctionDef):
            each.name = names.get(each.name, each.name)
    return ast.unparse(tree)


def _without_types(source: str) -> str:
    """A program without what only a type checker reads: annotations of functions, protocols, and the imports for them.

    Of the annotations of classes it stays that there is one, since dataclasses are made of them, and those by which a machine reads its
    settings (_READ).
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
    for node in ast.walk(tree):
        for each in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(each, ast.AnnAssign) and ast.unparse(each.annotation) not in _READ:
                each.annotation = ast.Constant(0)
    told = [each for node in ast.walk(tree) if isinstance(node, ast.AnnAssign) for each in ast.walk(node.annotation)]
    unseen = {id(each) for each in told}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in unseen}
    for node in [*tree.body]:
        if isinstance(node, ast.Import | ast.ImportFrom) and getattr(node, "module", "") != "__future__":
            node.names = [each for each in node.names if (each.asname or each.name).partition(".")[0] in used]
            if not node.names:
                tree.body.remove(node)
    return ast.unparse(tree)


def bundled() -> str:
    """The agent's modules as one program: what they import of each other is there already. `python3 -m rollcall` runs it.

    Raises ValueError where two modules have different things of one name.
    """
    modules = {path.stem: path.read_text("utf-8") for path in _sources() if path.parent.name == "rollcall"}
    imports: dict[str, None] = {}
    known: dict[str, tuple[str, str]] = {}
    body: list[str] = []
    for name in _in_order(modules):
        tree = ast.parse(_without_types(modules[name]))
        theirs = _imported_modules(tree)
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                imports.update(dict.fromkeys(_foreign(node)))
                continue
            text = ast.unparse(_Unqualified(theirs).visit(node))
            fresh = [each for each in _bound(node) if known.setdefault(each, (name, text)) == (name, text)]
            other = [each for each in _bound(node) if known[each][1] != text]
            if other:
                raise ValueError(f"{name} and {known[other[0]][0]} both have a {other[0]}: rename one below userdata/")
            if fresh or not _bound(node):
                body.append(text)
    return "\n".join(["from __future__ import annotations", *imports, *_used(body)])


def _used(body: list[str]) -> list[str]:
    """Leave out the functions, classes and methods that nothing in the program refers to: the stack's own program does."""
    tree = ast.parse("\n".join(body))
    names = _names(tree)
    while True:
        for scope in [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef)]:
            scope.body = [node for node in scope.body if not _is_unused(node, names)] or [ast.Pass()]
        left = _names(tree)
        if left == names:
            return [ast.unparse(node) for node in tree.body]
        names = left


def _is_unused(node: ast.stmt, names: Collection[str]) -> bool:
    # What has two underscores is called by the language.
    return (
        isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name not in names and not node.name.startswith("__")
    )


def _names(tree: ast.Module) -> frozenset[str]:
    """Every name that a program refers to, and every word in its texts: one of them may be asked for by name."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.update(re.findall(r"\w+", node.value))
    return frozenset(found)


class _Unqualified(ast.NodeTransformer):
    """`plan.joining` becomes `joining` where `plan` is a module of the agent."""

    def __init__(self, modules: Collection[str]) -> None:
        self._modules = modules

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        if isinstance(node.value, ast.Name) and node.value.id in self._modules:
            return ast.copy_location(ast.Name(node.attr, node.ctx), node)
        self.generic_visit(node)
        return node


def _in_order(modules: Mapping[str, str]) -> list[str]:
    """Each module after those that it imports, `__main__` last."""
    found: list[str] = []

    def visit(name: str) -> None:
        if name not in found:
            for node in ast.parse(modules[name]).body:
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rollcall"):
                    inner = (node.module or "").partition(".")[2]
                    for each in [inner] if inner else [each.name for each in node.names]:
                        visit(each)
            found.append(name)

    for name in sorted(modules, key=lambda each: (each == "__main__", each)):
        visit(name)
    return found


def _imported_modules(tree: ast.Module) -> frozenset[str]:
    froms = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "rollcall"]
    return frozenset(each.name for node in froms for each in node.names)


def _foreign(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """One line for each name that is imported from elsewhere."""
    module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
    if module != "__future__" and module.partition(".")[0] != "rollcall":
        for each in node.names:
            line = ast.ImportFrom(module, [each], 0) if isinstance(node, ast.ImportFrom) else ast.Import([each])
            yield ast.unparse(line)


def _bound(node: ast.stmt) -> list[str]:
    """The names that a statement of a module gives something to."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]
    return []


def _packed(texts: dict[str, str]) -> str:
    """`PATH NUL TEXT NUL PATH …`, compressed."""
    packed = bz2.compress("\0".join(word for each in texts.items() for word in each).encode(), 9)
    return f"{base64.b64encode(packed).decode()}\n"


def _without_comments(text: str) -> str:
    """A shell script or unit without its full-line comments; `#!` stays."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if line.strip() and (line[0:2] == "#!" or not line.lstrip().startswith("#")))
