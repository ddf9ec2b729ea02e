"""Parts of a vendor's generated SDK, imported without the rest of it.

`import pulumi_cloudflare` runs each of its 700 modules, `pulumi_aws.ec2` each of its 400: over a second of processor time at each
preview. The modules that we use do not need their package to have run. Should another import of the package have come first, or come
later, it finds and gives the same classes.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any


class Part:
    """A package with only the names that are used, each imported when it is first asked for. `names`: name -> module."""

    def __init__(self, package: str, names: Mapping[str, str]) -> None:
        self._package, self._names = package, names

    def __getattr__(self, name: str) -> Any:
        if name not in self._names:
            raise AttributeError(f"the part of {self._package} that is used has no {name!r}")
        with _unopened(self._package):
            found = getattr(importlib.import_module(f"{self._package}.{self._names[name]}"), name)
        setattr(self, name, found)
        return found


@contextmanager
def _unopened(package: str) -> Iterator[None]:
    """The package's place on the path without its `__init__`; whoever imports it afterwards runs that."""
    there = sys.modules.get(package)
    # A module that is loaded at its first use (importlib.util.LazyLoader, which pulumi_aws has for its packages) is of another type.
    if type(there) is ModuleType:
        yield
        return
    spec = importlib.util.find_spec(package) if there is None else object.__getattribute__(there, "__spec__")
    if spec is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    sys.modules[package] = placeholder = ModuleType(package)
    placeholder.__path__ = list(spec.submodule_search_locations or ())
    try:
        yield
    finally:
        if there is None:
            del sys.modules[package]
        else:
            sys.modules[package] = there
