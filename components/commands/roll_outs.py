"""What `rollcall rollback`, `promote` and `abort` share: they find a fleet's roll-out, and change its gate on the machines.

They need what `rollcall status` needs, and no store. They do not change the stack's state: the next `pulumi up` reads the machines.
"""

from __future__ import annotations

import argparse
import re
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from components.aws import api_errors
from components.commands.fleet_releases import release_props
from components.commands.status import StatusError, exported
from components.config.errors import ConfigurationError
from components.joyent.engine import Engine
from components.joyent.errors import CloudApiError
from components.registration.inventory import Registries
from components.registration.props import registries_of
from components.registration.roll_call import drain_delay
from components.rollout import messages
from components.rollout.performing import Performer, Views, observed, views_of
from components.rollout.planning import policy_of
from components.rollout.providers import carried
from components.rollout.records import Record, State
from components.rollout.transitions import changed, last_record
from components.rollout.values import End, Observation, Outcome, RollOut
from rollcall.errors import RollcallError
from rollcall.escaping import escaped_lines

_PREFIX = re.compile(r"[0-9a-f]{7,64}")


class RollOutCommandError(Exception):
    """A command about a roll-out cannot do what it was asked for. The message says why, and what to do."""


@dataclass(frozen=True, kw_only=True)
class DeployedFleet:
    """A fleet that changes in place. `props` are the properties of its Release in the state.

    `views` return what can be asked at the locations of other fleets of its sites and services.
    """

    name: str
    props: Mapping[str, Any]
    registries: Registries
    views: Views

    def seen(self) -> Observation:
        """Return what the machines have now."""
        return observed(self.registries, self.props, self.registries.instances(str(self.props["stack"])))

    def write(self, seen: Observation, record: Record) -> None:
        """Write the roll-out to all machines."""
        settings: Mapping[str, str | None] = dict(record.settings())
        self.registries.set_settings(str(self.props["stack"]), {each.instance: settings for each in seen.machines})

    def go_back(self, record: Record, engine: Engine) -> End:
        """Move the machines to the former releases of a roll-out that was just written, as `pulumi up` does."""
        rollout = RollOut(
            fleet=self.name,
            target=dict(record.former),
            record=record,
            policy=policy_of(self.props, drain_delay(self.registries, self.props)),
            run=secrets.token_hex(4),
        )
        return Performer(self.registries, self.props, rollout, engine, carried, self.views).run()


def fleet_in(resources: Sequence[Mapping[str, Any]], config: Mapping[str, str], name: str) -> DeployedFleet:
    """Return the fleet with this name from an exported state. Raises RollOutCommandError."""
    found = release_props(resources)
    if name not in found:
        known = f"Name one of {', '.join(sorted(found))}" if found else "No fleet of the stack has any"
        raise RollOutCommandError(f"{name}: is no fleet with `release: in-place` that is deployed. {known}.")
    props = found[name]
    return DeployedFleet(
        name=name,
        props=props,
        registries=registries_of(props, config),
        views=views_of(props, lambda each: registries_of(each, config)),
    )


def record_of(fleet: DeployedFleet, seen: Observation) -> Record:
    """Return the last roll-out of a fleet. Raises RollOutCommandError."""
    record = last_record(seen)
    if record is None:
        raise RollOutCommandError(f"{fleet.name}: no machine has a release yet. Run `pulumi up`.")
    return record


def checked_prefix(text: str) -> str:
    """Return the first digits of a digest. Raises RollOutCommandError for fewer than 7."""
    if not _PREFIX.fullmatch(text):
        raise RollOutCommandError(f"{text}: is not a digest. Write at least its first 7 digits of 0-9 and a-f.")
    return text


def promoted(fleet: str, record: Record, digest: str) -> tuple[Record, str]:
    """Return the record that lets this release be rolled out, and what to tell the operator. Raises RollOutCommandError."""
    prefix = checked_prefix(digest)
    if not any(each.startswith(prefix) for each in record.to.values()):
        waiting = ", ".join(f"{name} {each[: messages.PASTED]}" for name, each in sorted(record.to.items()))
        raise RollOutCommandError(f"{fleet}: {prefix} is not the release that waits. Name that of {waiting}.")
    shown = f"{fleet}: {messages.listed(messages.moves(record) or record.to)}"
    if record.state is State.DONE:
        return record, f"{shown} is on all machines already."
    if record.state is State.FAILED:
        what = messages.listed(messages.moves(record) or record.to)
        raise RollOutCommandError(f"{fleet}: {what} failed. Fix the cause, and run `pulumi up`.")
    if record.state is State.PROMOTED:
        return record, f"{shown} is promoted already. Run `pulumi up` to roll it out."
    # With another id, machines try a release again on which they failed.
    id_ = secrets.token_hex(4) if record.state is State.REFUSED else ""
    return changed(record, State.PROMOTED, id_), f"{shown} is promoted. Run `pulumi up` to roll it out."


def aborted(fleet: str, record: Record) -> Record:
    """Return the record of a roll-out that an operator undoes. Raises RollOutCommandError."""
    if record.state is State.DONE:
        raise RollOutCommandError(
            f"{fleet}: no roll-out is under way. Run `rollcall rollback {fleet}` to go back from the release that it has."
        )
    return _refused(fleet, record, record.former)


def rolled_back(fleet: str, record: Record, seen: Observation, digest: str = "") -> Record:
    """Return the record of a fleet that goes back to the release with this digest, or to the one before. Raises RollOutCommandError."""
    if not digest:
        if record.state is State.DONE and not messages.moves(record):
            raise RollOutCommandError(
                f"{fleet}: the release before is not known. Name a release that the machines keep ({_kept_list(record, seen)})."
            )
        return _refused(fleet, record, record.former)
    prefix, now = checked_prefix(digest), record.former if record.goes_back else record.to
    found = sorted(
        {
            (name, each)
            for name in record.to
            for each in kept(seen, name)
            if each.startswith(prefix) and each != now.get(name)
        }
    )
    if len(found) != 1:
        which = "several releases begin with" if found else "no machine keeps a former release that begins with"
        raise RollOutCommandError(
            f"{fleet}: {which} {prefix}. Name a release that the machines keep ({_kept_list(record, seen)})."
        )
    return _refused(fleet, record, {**now, **dict(found)})


def _refused(fleet: str, record: Record, former: Mapping[str, str]) -> Record:
    if not former:
        raise RollOutCommandError(f"{fleet}: has no former release. Run `pulumi up` with another one.")
    if record.state is State.REFUSED and dict(record.former) == dict(former):
        return record
    return replace(changed(record, State.REFUSED, secrets.token_hex(4)), former=dict(former))


def kept(seen: Observation, workload: str) -> set[str]:
    """Return the releases of a workload that are on the disk of a machine."""
    reports = (each.report.workloads.get(workload) for each in seen.machines if each.report)
    return {digest for report in reports if report for digest in report.kept}


def _kept_list(record: Record, seen: Observation) -> str:
    texts = [
        f"{name} {digest[: messages.PASTED]}"
        for name in sorted(record.to)
        for digest in sorted(kept(seen, name) - {record.to[name]})
    ]
    return ", ".join(texts) or "they keep no other"


def went_back(fleet: DeployedFleet, record: Record) -> int:
    """Write the record to all machines, and wait until they have gone back. Return the exit code."""
    engine = Engine("")
    fleet.write(fleet.seen(), record)
    end = fleet.go_back(record, engine)
    if end.outcome is not Outcome.DONE:
        print(escaped_lines(end.message), file=sys.stderr)
        return 1
    print(f"{fleet.name}: all machines have {messages.listed(record.former)}.")
    print(messages.refused(fleet.name, record))
    return 0


def run(name: str, parser: argparse.ArgumentParser, arguments: Sequence[str] | None, act: Callable[..., int]) -> int:
    """Run a command: `act` gets the fleet and the arguments. Return the exit code."""
    parser.add_argument("--stack", default="", help="default: the selected stack")
    chosen = parser.parse_args(arguments)
    try:
        resources, config = exported(chosen.stack)
        return act(fleet_in(resources, config, chosen.fleet), chosen)
    except (RollOutCommandError, StatusError, ConfigurationError, RollcallError, CloudApiError) as fault:
        print(escaped_lines(f"rollcall {name}: {fault}"), file=sys.stderr)
    except api_errors.failures() as failed:
        print(escaped_lines(f"rollcall {name}: {api_errors.message_of(failed)}"), file=sys.stderr)
    return 2
