"""The points that doctor checks, and how the checks run: all at once, each within a time limit."""

from __future__ import annotations

import contextlib
import contextvars
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

OK_CODE, WRONG_CODE, NOT_PROVEN_CODE = 0, 1, 2


class Verdict(Enum):
    OK = "ok"
    WRONG = "wrong"
    NOT_PROVEN = "not proven"


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point and its verdict. `text` of `ok` says what was found; of the others it is `WHERE: PROBLEM. FIX.`"""

    area: str
    name: str
    verdict: Verdict
    text: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check found: a point without its area. An empty `name` is the check's own."""

    verdict: Verdict
    text: str
    name: str = ""


def ok(text: str, name: str = "") -> Finding:
    return Finding(verdict=Verdict.OK, text=text, name=name)


def wrong(text: str, name: str = "") -> Finding:
    return Finding(verdict=Verdict.WRONG, text=text, name=name)


def not_proven(text: str, name: str = "") -> Finding:
    return Finding(verdict=Verdict.NOT_PROVEN, text=text, name=name)


@dataclass(frozen=True, kw_only=True)
class Check:
    """A check of one or more points. It runs when all checks that it `needs` have ended, and only if none of these found what is wrong."""

    area: str
    name: str
    run: Callable[[], Iterable[Finding]]
    needs: tuple[str, ...] = ()


def _is_usable(found: Iterable[Finding]) -> bool:
    """Return whether a check found nothing wrong, and proved a part at least."""
    verdicts = {each.verdict for each in found}
    return Verdict.WRONG not in verdicts and (Verdict.OK in verdicts or not verdicts)


def exit_code(points: Iterable[Point]) -> int:
    """Return 0 if all is ok, 1 if something is wrong, 2 if something is only not proven."""
    verdicts = {each.verdict for each in points}
    if Verdict.WRONG in verdicts:
        return WRONG_CODE
    return NOT_PROVEN_CODE if Verdict.NOT_PROVEN in verdicts else OK_CODE


class Processes:
    """The child processes of checks. They end with the checks, also with those that are late."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: list[subprocess.Popen[str]] = []
        self._ended = False

    def start(self, words: Sequence[str], **options: object) -> subprocess.Popen[str]:
        """Start a process with text pipes. Raises OSError."""
        with self._lock:
            if self._ended:
                raise OSError("doctor has ended")
            process: subprocess.Popen[str] = subprocess.Popen(  # type: ignore[call-overload]
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                **options,
            )
            self._running.append(process)
        return process

    def end(self) -> None:
        """End every process that is left."""
        with self._lock:
            self._ended = True
            left = list(self._running)
        for process in left:
            if process.poll() is None:
                process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)


class Run:
    """One run of checks. Each check runs in a context of its own, after `prepare` in it.

    `late` says whether a check still ran when the time was over. Its thread cannot be ended.
    """

    def __init__(
        self,
        limit_s: float,
        prepare: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit_s, self._prepare, self._clock = limit_s, prepare, clock
        self.late = False

    def points(self, checks: Sequence[Check]) -> list[Point]:
        """Return the points of all checks, in the order of the checks."""
        end = self._clock() + self.limit_s
        ended = {each.name: threading.Event() for each in checks}
        found: dict[str, list[Finding]] = {}

        def run(check: Check) -> None:
            for needed in check.needs:
                ended[needed].wait(max(0.0, end - self._clock()))
            # A check without an outcome is late.
            if all(needed in found for needed in check.needs):
                found[check.name] = self._outcome(check, found)
                ended[check.name].set()

        for check in checks:
            threading.Thread(target=run, args=(check,), name=f"doctor {check.name}", daemon=True).start()
        for check in checks:
            ended[check.name].wait(max(0.0, end - self._clock()))
        outcome = {each.name: found.get(each.name) for each in checks}
        self.late = any(each is None for each in outcome.values())
        return [point for each in checks for point in self._shown(each, outcome[each.name])]

    def _outcome(self, check: Check, found: dict[str, list[Finding]]) -> list[Finding]:
        lacking = [each for each in check.needs if not _is_usable(found[each])]
        if lacking:
            return [not_proven(f"{check.name}: cannot be checked before {' and '.join(lacking)}. Correct that first.")]
        try:
            return contextvars.copy_context().run(self._findings, check)
        except Exception as failed:  # noqa: BLE001 - one check that fails must not hide the others
            return [not_proven(f"{check.name}: the check failed ({type(failed).__name__}: {failed}). Report this.")]

    def _findings(self, check: Check) -> list[Finding]:
        self._prepare()
        return list(check.run())

    def _shown(self, check: Check, found: list[Finding] | None) -> list[Point]:
        late = f"{check.name}: did not end within {self.limit_s:.0f} s. Check the network, and run it again."
        findings = [not_proven(late)] if found is None else found
        return [
            Point(area=check.area, name=each.name or check.name, verdict=each.verdict, text=each.text)
            for each in findings
        ]
