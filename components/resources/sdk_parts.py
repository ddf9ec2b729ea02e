"""Import parts of a vendor's generated SDK without the rest of it.

`import pulumi_cloudflare` runs each of its 700 modules, `pulumi_aws.ec2` each of its 400: over a second of processor
time at each preview. The modules that we use do not need their package to have run. Each of them imports the types of
all resources of its package (`outputs.py` and `_inputs.py`: 290,000 lines for Cloudflare). While a part is imported,
only the types that it names are there. Another import of the package, before or after, finds and gives the same
resources and functions.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

# The modules with the types of a package's resources. `_inputs` refers to `outputs`.
_TYPE_MODULES = ("outputs", "_inputs")
# How the generated code refers to a type: in quotes, so that it need not be defined yet.
_REFERENCE = re.compile(rb"'(?:outputs\.)?([A-Z]\w+)'")
_LISTED = re.compile(rb"'(\w+)'")
_NEXT = re.compile(rb"\n@|\nclass ")
_DECORATOR = re.compile(rb"@pulumi\.\w+\n\Z")


class Part:
    """A package with only the names that are used, each imported when it is first asked for. `names`: name -> module."""

    def __init__(self, package: str, names: Mapping[str, str]) -> None:
        self._package, self._names = package, names
        self._types: dict[str, ModuleType] | None = None

    def __getattr__(self, name: str) -> Any:
        if name not in self._names:
            raise AttributeError(f"the part of {self._package} that is used has no {name!r}")
        with _unopened(self._package) as placeholder, _importable(self._types_of(placeholder) if placeholder else {}):
            found = getattr(importlib.import_module(f"{self._package}.{self._names[name]}"), name)
        setattr(self, name, found)
        return found

    def _types_of(self, placeholder: ModuleType) -> dict[str, ModuleType]:
        if self._types is None:
            self._types = _reduced_types(placeholder, set(self._names.values()))
        return self._types


@contextmanager
def _unopened(package: str) -> Iterator[ModuleType | None]:
    """Put the package on the path without running its `__init__`, which a later import does.

    Yield its placeholder, or None if it has run.
    """
    there = sys.modules.get(package)
    # A module that is loaded at its first use (importlib.util.LazyLoader, which pulumi_aws has for its packages) is of another type.
    if type(there) is ModuleType:
        yield None
        return
    spec = importlib.util.find_spec(package) if there is None else object.__getattribute__(there, "__spec__")
    if spec is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    sys.modules[package] = placeholder = ModuleType(package)
    placeholder.__path__ = list(spec.submodule_search_locations or ())
    try:
        yield placeholder
    finally:
        if there is None:
            del sys.modules[package]
        else:
            sys.modules[package] = there


@contextmanager
def _importable(modules: Mapping[str, ModuleType]) -> Iterator[None]:
    """Give imports these modules, except for those that have been imported already."""
    added = [name for name in modules if name not in sys.modules]
    sys.modules.update({name: modules[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            del sys.modules[name]


def _reduced_types(package: ModuleType, modules: Iterable[str]) -> dict[str, ModuleType]:
    """Return the package's type modules, by full name, with only the types that `modules` refer to, directly or through other types.

    Return none at all where the generated code is not written as expected: then the whole modules are imported.
    """
    folder = Path(package.__path__[0])
    sources = {name: path.read_bytes() for name in _TYPE_MODULES if (path := folder / f"{name}.py").exists()}
    try:
        chosen = _definitions(sources, b"".join((folder / f"{name}.py").read_bytes() for name in modules))
        codes = {name: _reduced(sources[name], found) for name, found in chosen.items()}
    except (OSError, ValueError):
        return {}
    made = {f"{package.__name__}.{name}": ModuleType(f"{__name__} {package.__name__}.{name}") for name in codes}
    # `typing` searches here for what one of these classes refers to. By their own names the modules exist only while parts are imported.
    sys.modules.update({module.__name__: module for module in made.values()})
    with _importable(made):
        for (name, code), module in zip(codes.items(), made.values(), strict=True):
            module.__package__ = package.__name__
            module.__file__ = str(folder / f"{name}.py")
            exec(compile(code, f"<part of {module.__file__}>", "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    return made


def _definitions(sources: Mapping[str, bytes], referring: bytes) -> dict[str, dict[str, bytes]]:
    """Return, for each source, the definitions of the types that are referred to, by name. Raises ValueError if one is not found."""
    listed = {module: set(_LISTED.findall(_split(source)[1])) for module, source in sources.items()}
    found: dict[str, dict[str, bytes]] = {module: {} for module in sources}
    known: set[bytes] = set()
    left = set(_REFERENCE.findall(referring))
    while left:
        name = left.pop()
        known.add(name)
        for module in (each for each, names in listed.items() if name in names):
            code = found[module][name.decode()] = _definition(sources[module], name)
            left |= set(_REFERENCE.findall(code)) - known
    return found


def _definition(source: bytes, name: bytes) -> bytes:
    """Return the text of a class with its decorator. Raises ValueError if the source has no such class."""
    at = source.index(b"\nclass " + name + b"(" if b"\nclass " + name + b"(" in source else b"\nclass " + name + b":")
    decorator = _DECORATOR.search(source[max(0, at - 40) : at + 1])
    end = _NEXT.search(source, at + 1)
    return (decorator.group() if decorator else b"") + source[at + 1 : end.start() if end else None] + b"\n"


def _split(source: bytes) -> tuple[bytes, bytes]:
    """Return the text before the list of a module's names, and that list. Raises ValueError if there is none."""
    begin = source.index(b"\n__all__ = [")
    return source[:begin], source[begin : source.index(b"\n]", begin)]


def _reduced(source: bytes, definitions: Mapping[str, bytes]) -> bytes:
    """Return the module with these definitions only."""
    names = repr(sorted(definitions)).encode()
    return b"\n".join([_split(source)[0], b"__all__ = " + names, *definitions.values()])
