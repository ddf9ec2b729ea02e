"""Run the `before` hook of a workload's release once, on one of all machines that run it (docs/decisions/0016).

A claim in the stack's bucket says which machine runs it, and how it ended. Machines change a claim only by conditional writes of S3, so one
of several machines succeeds: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from rollcall.aws import AwsRefusedError
from rollcall.bucket import Bucket
from rollcall.command_checks import Run, failure, run_command, shown
from rollcall.containers import secret_names
from rollcall.errors import FatalError, RollcallError, TransientError
from rollcall.files import write_whole
from rollcall.settings import Secrets

DEFINITIONS = Path("/opt/rollcall/workloads")
DONE = Path("/var/lib/rollcall/before")
# A hook ends after its timeout. So a claim that is the same for this much longer belongs to a machine that has crashed.
MARGIN_S = 60.0
ASK_S = 10.0
_SYSTEMD_S = 30.0
_LINES, _LINE_CHARS = 3, 120
log = logging.getLogger("rollcall")


def unit_of(workload: str) -> str:
    """Return the unit of a workload's hook. No unit of a workload itself has such a name."""
    return f"before-workload-{workload}.service"


def hooked(workloads: Iterable[str], definitions: Path = DEFINITIONS) -> tuple[Secrets, ...]:
    """Return the workloads that the agent starts because of their hook or their image, as workloads with no secrets."""
    found = []
    for name in workloads:
        file = definitions / name / "current/workload.json"
        definition = json.loads(file.read_text()) if file.is_file() else {}
        if ("before" in definition or "container" in definition) and not secret_names(definition):
            found.append(Secrets(workload=name, revision="none", turn=0, prefix=""))
    return tuple(found)


class Claims(Protocol):
    """Where claims are. Each method raises TransientError, and RollcallError for a refusal."""

    where: str

    def create(self, key: str, text: str) -> bool:
        """Write a claim if there is none. Return whether this machine has written it."""

    def read(self, key: str) -> str:
        """Return a claim."""

    def change(self, key: str, old: str, new: str) -> bool:
        """Replace a claim if it is still `old`. Return whether this machine has done it."""


class S3Claims(Bucket):
    """Claims in the stack's bucket."""

    def create(self, key: str, text: str) -> bool:
        return self._put(key, text, {"If-None-Match": "*"})

    def read(self, key: str) -> str:
        return self.call("GET", key).decode(errors="replace")

    def change(self, key: str, old: str, new: str) -> bool:
        # The ETag of an object with S3's own encryption is its MD5:
        # https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
        etag = hashlib.md5(old.encode(), usedforsecurity=False).hexdigest()
        return self._put(key, new, {"If-Match": f'"{etag}"'})

    def _put(self, key: str, text: str, condition: dict[str, str]) -> bool:
        try:
            self.call("PUT", key, text.encode(), {**condition, "Content-Type": "application/json"})
        except AwsRefusedError as refused:
            # 409: another write is under way, or the object has just been deleted. 404: it was deleted.
            if refused.status in (404, 409, 412):
                return False
            raise
        return True


class Hook:
    """The hook of one release of a workload, on this machine.

    `step` returns an empty text if the workload may start, otherwise the reason why it waits. It never waits itself.
    """

    def __init__(
        self,
        workload: str,
        digest: str,
        timeout: float,
        claims: Claims,
        machine: str,
        *,
        done: Path = DONE,
        clock: Callable[[], float] = time.monotonic,
        run: Run | None = None,
    ) -> None:
        self.digest = digest
        self._workload, self._timeout, self._claims, self._machine = workload, timeout, claims, machine
        self._key, self._done_file = f"before/{workload}/{digest}", done / f"{workload}-{digest}"
        self._clock, self._run = clock, run or run_command
        self._thread: threading.Thread | None = None
        # The claim of this machine, and how its run ended: an empty text is success.
        self._mine = ""
        self._ended: str | None = None
        # The last claim of another machine, since when it is the same, when to ask again, and the last answer.
        self._seen, self._since, self._next, self._waits = "", 0.0, 0.0, ""

    def step(self) -> str:
        if self._done_file.is_file():
            return ""
        if self._thread is not None and self._thread.is_alive():
            return f"reason=before-runs workload={self._workload}"
        now = self._clock()
        if self._ended is None and now < self._next:
            return self._waits
        self._next = now + ASK_S
        self._waits = self._report() if self._ended is not None else self._take(now)
        return self._waits

    def _take(self, now: float) -> str:
        """Run the hook if its claim is free, or if the machine that has it has crashed."""
        mine = self._claim("runs")
        if self._claims.create(self._key, mine):
            return self._begin(mine)
        text = self._claims.read(self._key)
        claim = _parsed(text)
        if claim.get("state") == "done":
            return self._done()
        machine = str(claim.get("machine"))[:80]
        if claim.get("state") == "failed":
            result = str(claim.get("said"))[:500]
            fix = f"aws s3 rm {self._claims.where}/{self._key}"
            return f"reason=before-failed workload={self._workload} machine={machine} {result} fix='{fix}'"
        if machine == self._machine:
            # The agent was restarted. Its run may go on, may have ended, or has ended with the machine.
            return self._begin(text, again=True)
        if text != self._seen:
            self._seen, self._since = text, now
        elif now - self._since > self._timeout + MARGIN_S and self._claims.change(self._key, text, mine):
            return self._begin(mine)
        return f"reason=before-runs workload={self._workload} machine={machine}"

    def _begin(self, mine: str, *, again: bool = False) -> str:
        self._mine, self._ended = mine, None
        log.info("before: workload=%s release=%s", self._workload, self.digest[:12])
        self._thread = threading.Thread(target=self._work, args=(again,), daemon=True)
        self._thread.start()
        return f"reason=before-runs workload={self._workload}"

    def _work(self, again: bool) -> None:
        try:
            self._ended = self._why(again)
        except Exception as failed:  # noqa: BLE001 - whatever systemd answers
            self._ended = f"error={type(failed).__name__}"

    def _why(self, again: bool) -> str:
        """Run the unit to its end. Return why it failed; empty if it succeeded.

        A unit that has succeeded stays active, and one that has failed stays so, until the machine boots again.
        """
        unit, limit = unit_of(self._workload), self._timeout + _SYSTEMD_S
        if not again:
            self._run(["systemctl", "stop", unit], limit)
            self._run(["systemctl", "reset-failed", unit], limit)
        if (
            self._shown(unit).get("ActiveState") != "failed"
            and self._run(["systemctl", "start", unit], limit).returncode == 0
        ):
            return ""
        status = failure(self._shown(unit))
        self._run(["journalctl", "--sync"], limit)
        words = ["journalctl", "--output=cat", f"--lines={_LINES}", f"_SYSTEMD_UNIT={unit}", "_TRANSPORT=stdout"]
        lines = self._run(words, limit).stdout.splitlines()[-_LINES:]
        return f"{status} said={' / '.join(line.strip()[:_LINE_CHARS] for line in lines)!a}"

    def _shown(self, unit: str) -> dict[str, str]:
        return shown(self._run, unit, _SYSTEMD_S)

    def _report(self) -> str:
        """Write to the claim how the run has ended. If another machine has taken the claim meanwhile, its result counts."""
        ended = self._ended or ""
        log.info("before: workload=%s release=%s %s", self._workload, self.digest[:12], ended or "result=success")
        new = self._claim("failed" if ended else "done", ended)
        mine = self._claims.change(self._key, self._mine, new)
        self._ended = None
        return self._done() if mine and not ended else f"reason=before-ended workload={self._workload} {ended}"

    def _done(self) -> str:
        write_whole(self._done_file, "")
        return ""

    def _claim(self, state: str, result: str = "") -> str:
        """Return a claim. No two have the same text, so a machine that asks again sees whether it was changed."""
        return json.dumps({"state": state, "machine": self._machine, "said": result, "try": os.urandom(8).hex()})


class Hooks:
    """The hooks of this machine's workloads."""

    def __init__(
        self,
        settings: Callable[[], Mapping[str, str]],
        machine: Callable[[], str],
        secret: Callable[[str], str] = lambda name: "",
    ) -> None:
        self._settings, self._machine, self._secret = settings, machine, secret
        self._hooks: dict[str, Hook] = {}

    def waits(self, workload: str, definition: Mapping[str, Any], digest: str) -> str:
        """Return why a workload may not start yet; empty if it may. Raises RollcallError."""
        if "before" not in definition:
            return ""
        hook = self._hooks.get(workload)
        if hook is None or hook.digest != digest:
            claims = S3Claims(self._settings().get("rollcall-store", ""), self._secret)
            hook = Hook(workload, digest, definition["before"]["timeout"], claims, self._machine())
            self._hooks[workload] = hook
        try:
            return hook.step()
        except TransientError:
            raise
        except RollcallError as refused:
            raise TransientError(
                f"reason=before-claim-failed workload={workload} said={str(refused)[:200]!r}"
            ) from refused


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise FatalError(f"reason=garbled-claim said={text[:80]!r}")
    return found
