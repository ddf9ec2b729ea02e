"""Which tests run on one worker, and in what order: what shares a stack, or a file, stays together; what takes longest begins first."""

from __future__ import annotations

import gc
import re
from collections import Counter
from collections.abc import Iterator

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests import outside, timing, warm
from tests.groups import LONGEST, SHARED, group_of

# The vendors' SDKs and moto are millions of objects that stay. Looked through at Python's usual pace, they take a fourth of
# the tests' time. What is left of a test is found all the same: pytest collects at the end.
gc.set_threshold(50_000, 20, 20)
outside.watch()


# As in `<TarInfo 'link' at 0x7fb65dae34c0>`.
_ADDRESS = re.compile(r" at 0x[0-9a-f]{8,}")


class ByGroup(LoadScopeScheduling):  # type: ignore[misc]
    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def pytest_configure(config: pytest.Config) -> None:
    warm.use_in_tests(config)
    warm.share(config)
    timing.use_in_tests(config)


def pytest_unconfigure() -> None:
    warm.stop()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByGroup:
    # The order is ours, below.
    config.option.loadscopereorder = False
    return ByGroup(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest groups first, then files that boot machines, then those that run the engine, the larger ones of each kind first;
    then the rest in the order of its folders, which has the short ones last. Raises UsageError for a name that no other worker has."""
    if changing := [item.nodeid for item in items if _ADDRESS.search(item.nodeid)]:
        raise pytest.UsageError(f"{changing[0]}: its name has an object's address in it. Give its parameters ids.")
    sizes = Counter(group_of(item.nodeid) for item in items)
    kinds: dict[str, int] = {}
    order = {group: at for at, group in enumerate(LONGEST)}
    for item in items:
        group = group_of(item.nodeid)
        marks = [each for each in ("machines", "engine") if item.get_closest_marker(each)]
        kind = 0 if group in order else 1 if "machines" in marks else 2 if marks else 3
        kinds[group] = min(kind, kinds.get(group, kind))
    places = [*SHARED]

    def rank(item: pytest.Item) -> tuple[int, int, str, int]:
        group, file = group_of(item.nodeid), item.nodeid.partition("::")[0]
        if kinds[group] == 3:
            return 3, 0, "", 0
        return kinds[group], order.get(group, -sizes[group]), group, places.index(file) if file in SHARED else 0

    items.sort(key=rank)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Fail a test that would have sent something elsewhere, whatever the code under test made of the refusal."""
    try:
        yield
    finally:
        refused, outside.tried[:] = outside.tried[:], []
    if refused:
        pytest.fail(f"tried to leave this machine: {'; '.join(dict.fromkeys(refused))}")
