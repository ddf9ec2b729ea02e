"""Perform the releases in place of this machine's workloads: the actions and observations of `rollcall.release_transitions`.

A thread of the agent does this (docs/agents.md, docs/decisions/0020). What must outlive a restart of the agent or a power cut is in a file
for each workload.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import get_release
from rollcall import workloads
from rollcall.backoff import Backoff, as_error
from rollcall.clouds import Cloud, detect
from rollcall.containers import secret_names
from rollcall.errors import FatalError, TransientError
from rollcall.files import write_whole
from rollcall.health import Check, all_of, check_of
from rollcall.in_place import (
    FAILED,
    LOG_LINES,
    LONGEST_LINE,
    ReleaseReport,
    WantedRelease,
    WorkloadReport,
    parse_wanted,
)
from rollcall.release_transitions import (
    CHECKING,
    CLEAN_UP,
    DONE,
    FETCHING,
    JOINING,
    PREPARE,
    READ_LOG,
    SWITCH,
    Progress,
    Seen,
    advance,
)
from rollcall.settings import Secrets
from rollcall.wait_healthy import checks_of
from rollcall.workload_secrets import STEP_S, Hook, WorkloadSecrets
from rollcall.workload_units import DEFINITION, agent_starts

if TYPE_CHECKING:
    from rollcall.agent import Agent

STATE = Path("/var/lib/rollcall/in-place")
SCRIPT = "/usr/local/lib/rollcall/boot.sh"
# The last releases that stay on the disk, beside the one that runs, the wanted one and the last healthy one.
KEPT = 5
BUSY_S = 0.5
# A reason that changes all the time is not reported each time.
SAME_STEP_S = 15.0
_TRY_AGAIN_S, _REPORT_AGAIN_S, _SYSTEMD_S = 10.0, 60.0, 60.0
_KEPT_FIELDS = ("step", "good", "away", "failed_step", "reason", "log", "failed")
log = logging.getLogger("rollcall")


class _RefusedError(FatalError):
    """This machine cannot run a release."""


class Host:
    """What a release in place changes and reads on this machine."""

    def __init__(self, root: str = "", script: str = SCRIPT) -> None:
        self._root, self._script = root, script

    def runs(self, name: str) -> str:
        return workloads.running(workloads.home_of(name, self._root))

    def kept(self, name: str) -> tuple[str, ...]:
        """Return the digests on the disk, that of the last use first."""
        folder = workloads.home_of(name, self._root) / "releases"
        found = [each for each in folder.iterdir() if each.name[0] != "."] if folder.is_dir() else []
        return tuple(each.name for each in sorted(found, key=lambda each: each.stat().st_mtime_ns, reverse=True))

    def definition(self, name: str, digest: str) -> dict[str, Any]:
        file = workloads.home_of(name, self._root) / "releases" / digest / DEFINITION
        return dict(json.loads(file.read_text())) if file.is_file() else {}

    def prepare(self, name: str, instance: str, digest: str) -> subprocess.Popen[str]:
        """Start to get a release ready (rollcall.workloads.prepare), in a process that can be ended."""
        words = [sys.executable, "-m", "rollcall.workloads", name, self._script, self._root, instance, digest]
        return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def switch(self, name: str, instance: str, digest: str) -> None:
        """Point `current` at a release, and restart the workload. After a power cut at any step, another call does the rest."""
        home, service = workloads.home_of(name, self._root), _service(name)
        former = self.runs(name)
        was, new = self.definition(name, former), self.definition(name, digest)
        for each in {former, digest} - {""}:
            os.utime(home / "releases" / each)
        if "nginx" in new:
            get_release.switch(home, digest, clean_up=False)
            if was and "nginx" not in was:
                self._run("systemctl", "disable", "-q", "--now", service)
            verb = "verb=reload-or-restart" if "nginx" in was else "verb="
            words = ["/bin/sh", self._script, "serve_workload", name, str(workloads.root_of(name, new))]
            self._run("env", verb, f"instance={instance}", *words)
            return
        if "nginx" in was:
            Path(f"{self._root}/etc/nginx/conf.d/rollcall.conf").unlink(missing_ok=True)
            self._run("systemctl", "reload", "nginx.service")
        workloads.write_units(name, new, digest, self._root, instance)
        self._run("systemctl", "daemon-reload")
        get_release.switch(home, digest, clean_up=False)
        # Not waited for: `grace` may make the start of a workload long.
        self._run("systemctl", "restart", "--no-block", service)
        self._run("systemctl", "disable" if agent_starts(new) else "enable", "-q", "--no-reload", service)

    def unit(self, name: str) -> tuple[str, str]:
        """Return the state of the unit that serves a workload, and the id of its present run."""
        words = ["systemctl", "show", "--property=ActiveState,InvocationID", self._served_by(name)]
        found = dict(line.partition("=")[::2] for line in self._run(*words).splitlines())
        return found.get("ActiveState", ""), found.get("InvocationID", "")

    def log(self, name: str) -> tuple[str, ...]:
        self._run("journalctl", "--sync")
        words = ["journalctl", "--output=cat", "--no-pager", f"--lines={LOG_LINES}", "--unit", self._served_by(name)]
        return tuple(line[:LONGEST_LINE] for line in self._run(*words).splitlines()[-LOG_LINES:])

    def clean_up(self, name: str, needed: set[str]) -> None:
        get_release.keep(workloads.home_of(name, self._root), {*needed, *self.kept(name)[:KEPT]})

    def _served_by(self, name: str) -> str:
        return "nginx.service" if "nginx" in self.definition(name, self.runs(name)) else _service(name)

    def _run(self, *words: str) -> str:
        """Run a command. Raises TransientError."""
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, errors="replace", timeout=_SYSTEMD_S, check=False
            )
        except (OSError, subprocess.SubprocessError) as failed:
            raise TransientError(f"reason=command-failed command={words[0]} error={type(failed).__name__}") from failed
        if done.returncode:
            message = done.stderr.strip()[-200:]
            raise TransientError(f"reason=command-failed command='{' '.join(words)[:120]}' said={message!r}")
        return done.stdout


def _service(name: str) -> str:
    return f"workload-{name}.service"


@dataclass
class _Workload:
    """The progress of a workload, and the action under way."""

    progress: Progress
    tried: tuple[str, str] = ("", "")
    fault: str = ""
    is_refused: bool = False
    tries: Backoff = field(default_factory=lambda: Backoff(_TRY_AGAIN_S))
    job: tuple[str, subprocess.Popen[str]] | None = None
    fetched: str = ""
    # The checks of the release with this digest, and what they found last.
    checks: tuple[str, Check] | None = None
    why: str = ""


class Releases:
    """The releases in place of this machine. `waits` has the reason for each workload that waits or that went back."""

    def __init__(
        self,
        agent: Agent,
        *,
        host: Host | None = None,
        state: Path = STATE,
        clock: Callable[[], float] = time.monotonic,
        cloud_of: Callable[[], Cloud] = detect,
    ) -> None:
        self._agent, self._host, self._state = agent, host or Host(), state
        self._clock, self._cloud_of = clock, cloud_of
        self._all = {file.stem: _Workload(_read(file)) for file in sorted(state.glob("*.json"))}
        self._instance = ""
        self._reporter: threading.Thread | None = None
        self._reports, self._sent, self._sent_at = Backoff(_REPORT_AGAIN_S), ReleaseReport(instance=""), 0.0
        self.waits: dict[str, str] = {}
        agent.away, agent.releases = self.is_away, self.shown

    def is_away(self) -> bool:
        """Return whether a release keeps this machine out of DNS."""
        return any(each.progress.away for name in self._agent.in_place if (each := self._all.get(name)))

    def has(self, name: str) -> bool:
        """Return whether a workload has a release on this machine, or gets it at boot."""
        return name not in self._agent.in_place or bool(self._host.runs(name))

    def step(self, cloud: Cloud, keeper: WorkloadSecrets, hook: Hook) -> float:
        """Do what is due for each workload. Return after how many seconds to call again."""
        waits = dict[str, str]()
        self._instance = self._instance or cloud.instance()
        for name in self._agent.in_place:
            one = self._all.setdefault(name, _Workload(Progress()))
            try:
                self._advance(name, one, keeper, hook)
                progress = one.progress
                why = progress.waits or (
                    f"reason=release-failed step={progress.failed_step} {progress.reason}"
                    if progress.failed_step
                    else ""
                )
            except Exception as raised:  # noqa: BLE001 - the other workloads have their own releases
                why = str(as_error(raised))
            if why:
                waits[name] = why if "workload=" in why else f"{why} workload={name}"
        self.waits = waits
        self._report()
        steps = {self._all[name].progress.step for name in self._agent.in_place}
        return BUSY_S if steps - {DONE, FAILED} else STEP_S

    def _advance(self, name: str, one: _Workload, keeper: WorkloadSecrets, hook: Hook) -> None:
        """Advance until nothing changes. The progress is on the disk before an action of it begins."""
        for _ in range(len(_KEPT_FIELDS)):
            was = one.progress
            progress, actions = advance(was, self._seen(name, one))
            if READ_LOG in actions:
                progress = replace(progress, log=self._host.log(name))
            if progress.step != was.step or progress.wanted != was.wanted:
                log.info(
                    "release: workload=%s release=%s step=%s %s",
                    name,
                    progress.target[:12],
                    progress.step,
                    progress.reason,
                )
            if _words(progress) != _words(was):
                write_whole(self._state / f"{name}.json", _words(progress), lasting=True)
            one.progress = progress
            self._end_job(one)
            for action in actions:
                self._act(action, name, one, keeper, hook)
            if progress == was and not (SWITCH in actions or one.tried == (PREPARE, progress.target)):
                return
            if progress.step == FETCHING and one.fault:
                return

    def _seen(self, name: str, one: _Workload) -> Seen:
        agent, is_checked = self._agent, one.progress.step in (CHECKING, JOINING)
        why, run = self._health(name, one) if is_checked else ("", "")
        return Seen(
            now=self._clock(),
            wanted=agent.wanted.get(name),
            runs=self._host.runs(name),
            tried=one.tried,
            fault=one.fault,
            is_refused=one.is_refused,
            is_out=agent.is_out,
            is_drained=agent.is_forgotten,
            is_joined=agent.has_joined,
            dns=agent.dns_faults,
            unhealthy=why,
            run=run,
        )

    def _health(self, name: str, one: _Workload) -> tuple[str, str]:
        """Return why the release that runs is not healthy, and which run of its unit this is about."""
        active, run = self._host.unit(name)
        if active != "active":
            return f"unit={active}", run
        digest = self._host.runs(name)
        if one.checks is None or one.checks[0] != digest:
            # A release without checks is healthy if the machine may join with it.
            named = checks_of(self._host.definition(name, digest))
            texts = [f"workload:{name}"] if named else self._agent.checks
            one.checks, one.why = (digest, all_of(map(check_of, texts))), "reason=not-checked-yet"
        why = one.checks[1]()
        one.why = one.why if why is None else why
        return one.why, run

    def _act(self, action: str, name: str, one: _Workload, keeper: WorkloadSecrets, hook: Hook) -> None:
        progress, now = one.progress, self._clock()
        if action == CLEAN_UP:
            runs = self._host.runs(name)
            self._host.clean_up(name, {runs, progress.good, progress.wanted.digest if progress.wanted else ""})
            keeper.forget(name, secret_names(self._host.definition(name, runs)))
        if action not in (PREPARE, SWITCH) or (one.tried == (action, progress.target) and now < one.tries.not_before):
            return
        try:
            if action == PREPARE and not self._prepare(name, one, keeper, hook):
                return
            if action == SWITCH:
                self._switch(name, progress.target, keeper)
        except Exception as raised:  # noqa: BLE001 - whatever a machine answers
            fault = as_error(raised)
            one.tries.failed(fault, now)
            one.fault, one.is_refused = str(fault), isinstance(fault, _RefusedError)
        else:
            one.tries.worked()
            one.fault, one.is_refused = "", False
        one.tried = (action, progress.target)

    def _prepare(self, name: str, one: _Workload, keeper: WorkloadSecrets, hook: Hook) -> bool:
        """Return whether the target is ready. Raises _RefusedError if another try would fail too."""
        target = one.progress.target
        if one.fetched != target:
            if one.job is None:
                one.job = target, self._host.prepare(name, self._instance, target)
            code = one.job[1].poll()
            if code is None:
                return False
            message = one.job[1].communicate()[1].strip().rpartition("\n")[2]
            one.job = None
            if code:
                raise (_RefusedError if code == 2 else TransientError)(message or f"reason=not-prepared status={code}")
            one.fetched = target
        definition = self._host.definition(name, target)
        if agent_starts(definition) and keeper.ensure(self._secrets(name, definition), definition):
            return False
        if waits := hook(name, definition, target):
            raise (_RefusedError if "before-failed" in waits else TransientError)(waits)
        return True

    def _switch(self, name: str, target: str, keeper: WorkloadSecrets) -> None:
        began, definition = time.monotonic(), self._host.definition(name, target)
        own = self._secrets(name, definition) if agent_starts(definition) else None
        if own and (waits := keeper.ensure(own, definition)):
            raise TransientError(waits)
        self._host.switch(name, self._instance, target)
        if own:
            keeper.started(own)
        log.info("switched: workload=%s release=%s seconds=%.2f", name, target[:12], time.monotonic() - began)

    def _secrets(self, name: str, definition: Mapping[str, Any]) -> Secrets:
        found = next((each for each in self._agent.secrets if each.workload == name), None)
        if found is None and secret_names(definition):
            raise TransientError(f"reason=no-setting key=rollcall-secrets-{name}")
        return found or Secrets(workload=name, revision="none", turn=0, prefix="")

    def _end_job(self, one: _Workload) -> None:
        """End a process that gets another release ready than the wanted one."""
        if one.job and (one.progress.step != FETCHING or one.job[0] != one.progress.target):
            one.job[1].kill()
            one.job[1].communicate()
            one.job = None

    # What others read.

    def report(self) -> ReleaseReport:
        found = {name: self._reported(name) for name in self._agent.in_place if name in self._all}
        return ReleaseReport(instance=self._instance, workloads=found, on_hold=self._agent.on_hold)

    def _reported(self, name: str) -> WorkloadReport:
        progress = self._all[name].progress
        return WorkloadReport(
            wanted=progress.wanted.digest if progress.wanted else "",
            rollout=progress.wanted.rollout if progress.wanted else "",
            runs=self._host.runs(name),
            kept=tuple(sorted(self._host.kept(name))),
            step=progress.step if progress.wanted else FETCHING,
            failed_step=progress.failed_step,
            reason=progress.reason,
            waits=self.waits.get(name, "") if progress.waits else "",
            log=progress.log,
        )

    def shown(self) -> dict[str, Any]:
        """Return what `rollcall status` shows."""
        reported = self.report().workloads
        return {name: {key: value for key, value in vars(each).items() if value} for name, each in reported.items()}

    def _report(self) -> None:
        """Report to the program if something has changed. A thread does it, so no release waits for a store."""
        found, now = self.report(), self._clock()
        is_soon = now < self._sent_at + SAME_STEP_S and _without_waits(found) == _without_waits(self._sent)
        if found == self._sent or is_soon or now < self._reports.not_before:
            return
        if self._reporter is None or not self._reporter.is_alive():
            self._reporter = threading.Thread(target=self._send, args=(found,), daemon=True)
            self._reporter.start()

    def _send(self, found: ReleaseReport) -> None:
        try:
            self._cloud_of().report(found.text())
        except Exception as raised:  # noqa: BLE001 - the next step tries again
            fault = as_error(raised)
            if not self._reports.error:
                log.warning("not reported: %s", fault)
            self._reports.failed(fault, self._clock())
        else:
            self._reports.worked()
            self._sent, self._sent_at = found, self._clock()


def _without_waits(report: ReleaseReport) -> ReleaseReport:
    return replace(report, workloads={name: replace(each, waits="") for name, each in report.workloads.items()})


def _words(progress: Progress) -> str:
    """Return the text of a progress for the disk; empty if nothing was wanted yet."""
    wanted = progress.wanted
    if wanted is None:
        return ""
    return json.dumps({"wanted": [wanted.key, wanted.words()], **{key: getattr(progress, key) for key in _KEPT_FIELDS}})


def _read(file: Path) -> Progress:
    """Return the progress on the disk. A file that cannot be read is none: then the machine begins with what runs."""
    try:
        found = json.loads(file.read_text())
        wanted: WantedRelease = parse_wanted(*found["wanted"])
        lists = {key: tuple(map(str, found[key])) for key in ("log", "failed")}
        return Progress(wanted=wanted, **{**{key: found[key] for key in _KEPT_FIELDS}, **lists})
    except (OSError, ValueError, LookupError, TypeError) as fault:
        log.warning("unreadable progress: file=%s error=%s", file, type(fault).__name__)
        return Progress()
