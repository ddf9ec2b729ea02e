"""The tables of DNS providers: each kind of membership has settings, a registry, and a place in the program."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.dns.registry import PLACES
from rollcall.providers import REGISTRIES
from rollcall.settings import KINDS, ServiceJoin, SiteJoin

ROOT = Path(__file__).resolve().parents[3]
# Where a provider's own classes are.
OWN_FILES = ("components/dns/", "userdata/rollcall/settings.py")


def test_each_kind_is_in_each_table() -> None:
    assert KINDS.keys() == REGISTRIES.keys() == PLACES.keys()


def test_each_kind_has_one_of_the_two_shapes() -> None:
    assert all(issubclass(each, SiteJoin) != issubclass(each, ServiceJoin) for each in KINDS.values())


def queried_types() -> Iterator[tuple[str, str]]:
    """The file and the text of each second argument of isinstance() in the program and on machines."""
    for path in [*ROOT.glob("components/**/*.py"), *ROOT.glob("userdata/**/*.py"), ROOT / "__main__.py"]:
        name = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
                yield name, ast.unparse(node.args[1])


# The first word of each provider's classes, as `Cloudflare` of `CloudflareJoin`.
NAMES = sorted({re.findall(r"[A-Z][a-z0-9]+", each.__name__)[0] for each in KINDS.values()})


@pytest.mark.parametrize("word", [*NAMES, "SitePlace", "ServicePlace", "SiteRecords"])
def test_no_code_outside_of_a_provider_asks_which_provider_it_is(word: str) -> None:
    found = [(file, used) for file, used in queried_types() if not file.startswith(OWN_FILES)]
    assert found
    assert [each for each in found if word in each[1]] == []
