"""Local clouds of the tests' own, with a stack on them; never those of a running `make up`."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from localcloud.runtime import cli
from localcloud.runtime.sandbox import Sandbox, say
from tests import timing, warm
from tests.groups import group_of
from tests.patience import Deadline


def wait_until(what: str, true: Callable[[], object], seconds: float, every: float | None = None) -> float:
    """Poll until `true()` holds; the seconds it took. Fails the test after `seconds` with what was waited for; time in which
    processes waited for a processor does not count (tests.patience). Without `every` the polls are rarer the longer it takes."""
    began, deadline = time.monotonic(), Deadline(seconds)
    while not true():
        if deadline.passed:
            pytest.fail(
                f"not within {seconds:.0f} s (in fact {time.monotonic() - began:.0f} s, on a busy computer): {what}"
            )
        time.sleep(every or min(max((time.monotonic() - began) / 20, 0.25), 1.0))
    return time.monotonic() - began


@dataclass(frozen=True, kw_only=True)
class Timed(Sandbox):
    """A sandbox where agents have other times than on users' machines, where a test says so (rollcall.timers)."""

    timers: str = ""

    def localcloud(self, *words: str, capture: bool = False) -> str:
        if words[0] == "start" and self.timers:
            words = (*words, "--timers", self.timers)
        return super().localcloud(*words, capture=capture)


class Warmed(Timed):
    """A sandbox where the engine, with its stand-ins, finds the tests' own Python (tests/warm.py)."""

    def localcloud(self, *words: str, capture: bool = False) -> str:
        if words[0] == "start" and warm.prepare(self.state):
            words = (*words, "--no-plugins")
        return super().localcloud(*words, capture=capture)

    def run_localcloud(self, *words: str, capture: bool) -> subprocess.CompletedProcess[str]:
        if capture or words[0] not in ("start", "stop") or not warm.usable():
            return super().run_localcloud(*words, capture=capture)
        code = cli.main(["--instance", self.instance, *words], warm.start_daemon)
        return subprocess.CompletedProcess(words, code, "")

    def lay_out(self, tell: Callable[[str], None] = say) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        link = self.work / ".venv"
        if not link.is_symlink():
            # Hosts of dynamic resources are started from here, the program and the list of packages from the PATH.
            link.symlink_to(warm.environment())
        super().lay_out(tell)

    def engines_environment(self) -> dict[str, str]:
        found = super().engines_environment()
        return {**found, **warm.variables(found["PATH"])}


@contextmanager
def sandboxed(
    name: str,
    config: Path | None = None,
    *,
    machines: bool = True,
    stack: str = "local",
    warmed: bool = True,
    timers: str = timing.SHORT_STOP,
) -> Iterator[Sandbox]:
    """Local clouds named after this test run, stopped at the end whatever happened. The engine's Python is one that has imported
    the program already; with `warmed=False` the usual one. `timers` are those of agents, except in `make prove`."""
    kind = Warmed if warmed else Timed
    instance, times = f"{name}-{os.getpid()}", timing.timers(timers)
    sandbox = kind(stack=stack, instance=instance, config=config, machines=machines, timers=times)
    try:
        sandbox.start()
        sandbox.lay_out()
        yield sandbox
    finally:
        sandbox.stop()
        shutil.rmtree(sandbox.state, ignore_errors=True)


def machines(sandbox: Sandbox) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sandbox.ask("ps")
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """After the last test of a group its shared stacks end, so that they do not disturb later tests."""
    from tests.integration import shared_stacks

    try:
        yield
    finally:
        if nextitem is None or group_of(nextitem.nodeid) != group_of(item.nodeid):
            shared_stacks.close()
