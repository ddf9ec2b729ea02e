"""What Pulumi writes of our dynamic providers into the state: a bare reference, however many resources there are."""

from __future__ import annotations

import importlib
import pickle
import pkgutil

import pytest
from pulumi.dynamic import ResourceProvider
from pulumi.dynamic.dynamic import serialize_provider

import components


def providers() -> list[type[ResourceProvider]]:
    """Every class of ours that Pulumi may be given."""
    for found in pkgutil.walk_packages(components.__path__, "components."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    known: list[type[ResourceProvider]] = []
    above = [ResourceProvider]
    while above:
        below = [each for each in above.pop().__subclasses__() if each.__module__.startswith("components.")]
        known += below
        above += below
    return sorted({each for each in known if not each.__name__.startswith("_")}, key=lambda each: each.__name__)


@pytest.fixture(autouse=True)
def others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Pulumi leaves in the pickler of this process is undone after each test."""
    monkeypatch.setattr(pickle._Pickler, "_batch_setitems", pickle._Pickler._batch_setitems)  # type: ignore[attr-defined]
    monkeypatch.setattr(pickle._Pickler, "save_dict", pickle._Pickler.save_dict)  # type: ignore[attr-defined]


def test_all_are_looked_at() -> None:
    names = {each.__name__ for each in providers()}
    assert {"MachineProvider", "RollCallProvider", "DeregistrationProvider", "RevocationProvider"} <= names, names


@pytest.mark.parametrize("kind", providers(), ids=lambda kind: kind.__name__)
def test_a_thousand_are_written_as_the_first(kind: type[ResourceProvider]) -> None:
    """With state of its own, a provider fills Python's stack at the 490th."""
    first = serialize_provider(kind())
    assert {serialize_provider(kind()) for _ in range(1500)} == {first}
