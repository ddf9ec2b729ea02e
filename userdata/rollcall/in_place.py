"""Describe a release in place as data: what the program wants of a machine, and what the machine reports.

The program writes a `WantedRelease` for each workload into the settings of a running machine, and a `Hold` to keep it out of DNS. The
agent answers with a `ReleaseReport`. Both sides import this module (docs/decisions/0020).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rollcall.setting_values import LONGEST_VALUE, SettingsError

# This, and the name of a workload, is the key for the release that a machine should run. The roll-out is its only writer.
WANTED = "rollcall-wanted-"
# A machine with this setting leaves DNS and stays out until the setting is gone. Its value is the text of a `Hold`.
HOLD = "rollcall-hold"
# `rollcall patch` keeps here what is left to do on a machine (components/patching). The agent does not read it.
PATCH = "rollcall-patch"
# This, and the name of a workload, is the key for the gate of a canary. The agent does not read it.
GATE = "rollcall-gate-"
# The prefixes of settings that the program writes to running machines. The engine must not see them (`ignoreTags` of the AWS provider).
LIVE = (WANTED, HOLD, PATCH, GATE)
# On Triton, this and a digest is the key for a release in a machine's metadata, as base 85 text.
CARRIED = "rollcall-carried-"
# On Triton, the key for the machine's report.
REPORT = "rollcall-report"
# The reports of EC2 machines are below this folder of the stack's bucket. The machine setting is the beginning of the key of the machine's
# report: REPORTS/FLEET/ROLE. ROLE is the id of the instance role.
REPORTS = "machines"
REPORT_TO = "rollcall-report-to"
REPORT_FORMAT = 1
# The same for what a machine's resolvers answer (rollcall.resolver_view): VIEWS/FLEET/ROLE.
VIEWS = "views"
VIEW_TO = "rollcall-view-to"
# The last lines of a workload's log that a failure reports, and the longest of them.
LOG_LINES, LONGEST_LINE = 20, 300
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ROLLOUT = re.compile(r"[0-9a-f]{8}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
# EC2 allows more letters than these in a tag, but a reason is printed on terminals and in logs.
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions
_REASON = re.compile(r"[A-Za-z0-9 _.:/=+@-]+")


@dataclass(frozen=True, kw_only=True)
class Hold:
    """Why a machine is kept out of DNS, and since when (UTC, `2026-11-30T19:00:00Z`; empty: not known)."""

    since: str
    reason: str

    def words(self) -> str:
        """Return the value of the setting. Raises SettingsError if EC2 would not accept it."""
        text = f"{self.since} {self.reason}"
        if len(text) > LONGEST_VALUE or not (_TIME.fullmatch(self.since) and _REASON.fullmatch(self.reason)):
            most = LONGEST_VALUE - len("2026-11-30T19:00:00Z ")
            raise SettingsError(
                f"{HOLD}: {self.reason!r} cannot be a reason. Use up to {most} letters, digits, spaces and _.:/=+@-"
            )
        return text


def parse_hold(text: str) -> Hold:
    """Return the hold from the text of a setting. Every text is a hold, because an operator may have written the tag by hand."""
    since, _, reason = text.partition(" ")
    if not _TIME.fullmatch(since):
        since, reason = "", text
    return Hold(since=since, reason=reason or "no reason given")


def report_key(to: str, instance: str) -> str:
    """Return the key of a machine's report in the stack's bucket. `to` is the machine setting REPORT_TO.

    It ends with what IAM calls `aws:userid`, `ROLE:INSTANCE`. So the policy of the role can let each machine write its own report only:
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html#principaltable
    """
    return f"{to}:{instance}.json"


@dataclass(frozen=True, kw_only=True)
class WantedRelease:
    """The release of `workload` that a machine should run.

    `rollout` is the id of the roll-out, 8 hex digits: another id makes a machine try a digest again that failed. With `drains` the machine
    leaves DNS before it switches. `deadline_s`: so long after the switch the release must be healthy for `healthy_s` seconds without
    interruption. Otherwise the machine goes back to the release that it ran before, and reports `failed`.
    """

    workload: str
    digest: str
    rollout: str
    drains: bool = True
    healthy_s: int = 10
    deadline_s: int = 300

    @property
    def key(self) -> str:
        """The name of the setting."""
        return f"{WANTED}{self.workload}"

    def words(self) -> str:
        """Return the value of the setting. Raises SettingsError if EC2 would not accept it."""
        text = (
            f"{self.digest} rollout={self.rollout} drain={'yes' if self.drains else 'no'} healthy={self.healthy_s} "
            f"deadline={self.deadline_s}"
        )
        if len(text) > LONGEST_VALUE or not (_DIGEST.fullmatch(self.digest) and _ROLLOUT.fullmatch(self.rollout)):
            raise SettingsError(f"{self.key}: {text!r} is not a digest and the words of a roll-out")
        return text


def parse_wanted(key: str, text: str) -> WantedRelease:
    """Return the wanted release from the text of `WantedRelease.words`. Ignore words that this agent does not know.

    Raises SettingsError, which names `key`.
    """
    digest, *rest = text.split() or [""]
    words = dict(word.split("=", 1) for word in rest if "=" in word)
    try:
        if not _DIGEST.fullmatch(digest) or not _ROLLOUT.fullmatch(words["rollout"]):
            raise ValueError(text)
        return WantedRelease(
            workload=key[len(WANTED) :],
            digest=digest,
            rollout=words["rollout"],
            drains=words.get("drain", "yes") != "no",
            healthy_s=int(words.get("healthy", "10")),
            deadline_s=int(words.get("deadline", "300")),
        )
    except (KeyError, ValueError) as wrong:
        raise SettingsError(f"{key}: {text!r} is not DIGEST rollout=… drain=… healthy=… deadline=…") from wrong


# The steps of a release in place, in their order. A machine that boots goes from `fetching` to `checking`.
STEPS = ("fetching", "leaving", "draining", "switching", "checking", "joining", "done")
# The machine went back to the release that it ran before. If there was none, the failed release stays.
FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class WorkloadReport:
    """The release of one workload on a machine.

    `runs` is the digest that `current` leads to; empty if there is none. `kept` are all digests on the disk. `rollout` and `wanted` are
    those of the setting that this report answers. `step` is one of STEPS, or FAILED. For a failure `failed_step` is the step that
    failed, `reason` has words like `reason=check-failed check=http:8080:/healthz`, and `log` the last lines of the workload's log.
    `waits` has the reason why the current step does not go on (a store that does not answer).
    """

    wanted: str
    rollout: str
    runs: str
    step: str
    kept: tuple[str, ...] = ()
    failed_step: str = ""
    reason: str = ""
    waits: str = ""
    log: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReleaseReport:
    """What a machine reports about its releases in place. `on_hold`: it is out of DNS because of its hold."""

    instance: str
    workloads: Mapping[str, WorkloadReport] = field(default_factory=dict)
    on_hold: bool = False

    def text(self) -> str:
        """Return the report as JSON in one line."""
        fields = {
            name: {key: value for key, value in vars(each).items() if value not in ("", ())}
            for name, each in sorted(self.workloads.items())
        }
        found: dict[str, Any] = {"format": REPORT_FORMAT, "instance": self.instance, "workloads": fields}
        return json.dumps({**found, **({"on_hold": True} if self.on_hold else {})}, separators=(",", ":"))


def parse_report(text: str) -> ReleaseReport | None:
    """Return the report that a machine wrote. None for a text that is no report, or that has a newer format."""
    try:
        found = json.loads(text)
        if int(found["format"]) > REPORT_FORMAT:
            return None
        return ReleaseReport(
            instance=str(found["instance"]),
            on_hold=bool(found.get("on_hold", False)),
            workloads={str(name): _workload(each) for name, each in found["workloads"].items()},
        )
    except (KeyError, ValueError, TypeError, AttributeError):
        return None


def _workload(found: Mapping[str, Any]) -> WorkloadReport:
    return WorkloadReport(
        **{key: str(found.get(key, "")) for key in ("wanted", "rollout", "runs", "step")},
        **{key: str(found.get(key, "")) for key in ("failed_step", "reason", "waits")},
        kept=tuple(map(str, found.get("kept", ()))),
        log=tuple(str(line)[:LONGEST_LINE] for line in found.get("log", ()))[-LOG_LINES:],
    )
