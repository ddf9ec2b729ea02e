"""The provider of Release: what is done at each create, update, refresh and delete.

A provider here is stored in the state by reference to its module and class (components/registration/providers.py).
"""

from __future__ import annotations

import bz2
import hashlib
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pulumi.dynamic import CheckResult, CreateResult, DiffResult, ReadResult, UpdateResult

from components.joyent.engine import Engine
from components.registration.providers import ConfiguredProvider, plain
from components.registration.roll_call import drain_delay
from components.rollout import planning
from components.rollout.performing import Performer, RollOutError, observed, views_of
from components.rollout.transitions import last_record
from components.rollout.values import End, Outcome, RollOut
from components.workloads.release import Release
from rollcall.in_place import GATE, WANTED

# Where the program puts the releases of Triton fleets (components/resources/release_files.py), relative to the folder in which the
# engine runs it and its providers.
FOLDER = Path(".rollcall/carried")
# What is in the state and is no input.
_REMEMBERED = ("record", "taken", "known")
# The inputs with which a refresh shows a difference.
FOUND = ("releases", "differing")
# The fleets that the program of this run has, as STACK/FLEET. The engine calls `check` for what a program declares only. So a refresh
# and a `destroy`, which call `diff` too, show no line about what `up` would do.
# https://github.com/pulumi/pulumi/blob/v3.259.0/pkg/resource/deploy/step.go (RefreshStep.Apply)
_declared = set[str]()
# The same for fleets whose machines this run of the engine has given their releases: a Release that it replaces leaves them.
ROLLED = set[str]()


class ReleaseProvider(ConfiguredProvider):
    """Create and update return when every machine of the fleet has its release; delete removes the settings of the roll-out."""

    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        _declared.add(_id_of(news))
        return CheckResult(news, [])

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult(f"{_id_of(props)}/release", self._roll(props, {}))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        return UpdateResult(self._roll(_news, _olds))

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """Compare what the last refresh read with the program, and say what would be done."""
        engine = Engine()
        others = [key for key in ("stack", "members", "differing") if plain(_olds.get(key)) != plain(_news.get(key))]
        if not isinstance(_news.get("members"), list):
            return _changes(True)
        plan = planning.plan_of(_olds, _news)
        if _id_of(_news) in _declared:
            for each in plan.lines:
                engine.say(each)
            if plan.notice:
                engine.say(plan.notice, warning=True)
        return _changes(plan.changes or bool(others))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Read which releases the machines have. DNS is not asked: the roll call does that."""
        registries = self._registries(props)
        seen = observed(registries, props, registries.instances(props["stack"]))
        changed = {**props, **_found(seen, props)}
        inputs = {key: value for key, value in changed.items() if key not in (*_REMEMBERED, "__provider")}
        return ReadResult(id_, changed, inputs)

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        if _id_of(_props) in ROLLED:
            return
        registries, stack = self._registries(_props), _props["stack"]
        mine = [each for each in registries.instances(stack) if each.fleet == _props["fleet"]]
        changes = {
            each.instance: dict.fromkeys(key for key in each.live if key.startswith((WANTED, GATE))) for each in mine
        }
        registries.set_settings(stack, {instance: change for instance, change in changes.items() if change})

    def _roll(self, news: Mapping[str, Any], olds: Mapping[str, Any]) -> dict[str, Any]:
        """Roll the releases out. Return the outputs. Raises RollOutError."""
        engine, registries = Engine(), self._registries(news)
        # The releases of the last run, for a fleet of which no machine knows a roll-out any more.
        props = {**news, "known": (olds.get("record") or {}).get("to") or {}}
        rollout = RollOut(
            fleet=news["fleet"],
            target=dict(news["releases"]),
            policy=planning.policy_of(news, drain_delay(registries, news)),
            run=secrets.token_hex(4),
        )
        end = Performer(registries, props, rollout, engine, carried, views_of(news, self._registries)).run()
        if end.outcome is Outcome.FAILED:
            raise RollOutError(end.message)
        if end.message:
            engine.say(end.message, warning=True)
        ROLLED.add(_id_of(news))
        return outputs(news, olds, end)


def _id_of(props: Mapping[str, Any]) -> str:
    return f"{props['stack']}/{props['fleet']}"


def outputs(news: Mapping[str, Any], olds: Mapping[str, Any], end: End) -> dict[str, Any]:
    """Return the outputs after a run. A canary that waits, and a refused release, leave the fleet with its former releases."""
    done = end.outcome is Outcome.DONE
    return {
        **news,
        "releases": dict(end.record.goal if done else end.record.base or end.record.to),
        "files": news.get("files") if done else olds.get("files") or {},
        "record": end.record.as_outputs(),
        "taken": len(news["members"]) if done else news["policy"]["canary"],
    }


def _found(seen: Any, props: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties that a refresh changes."""
    record = last_record(seen)
    if record is None:
        return {"releases": {}, "differing": planning.differing(seen), "record": None, "taken": 0}
    has = record.former if record.goes_back else record.base
    return {
        "releases": dict(has),
        "differing": planning.differing(seen),
        "record": record.as_outputs(),
        "taken": planning.taken(seen),
    }


def carried(digest: str) -> Release | None:
    """Return a release that the program has put into FOLDER; None where it is not there."""
    try:
        tar = bz2.decompress((FOLDER / f"releases/{digest}.tar.bz2").read_bytes())
    except (OSError, ValueError):
        return None
    return Release(digest=digest, tar=tar) if hashlib.sha256(tar).hexdigest() == digest else None


def _changes(changes: bool) -> DiffResult:
    return DiffResult(changes=changes, replaces=[], stables=[], delete_before_replace=False)
