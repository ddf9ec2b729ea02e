"""The providers of RollCall and Deregistration: what is done at each create, update, refresh and delete.

A provider here is stored in the state by reference to its module and class, so `components.registration.providers` and the
classes' names are part of the state's format: once there is a release they are not renamed. No secret is in a provider or in its
inputs: credentials come from the stack's config first and the environment second, at each call. The engine hands the config over; in
the state it is an input of Pulumi's own provider `pulumi-python`, encrypted where it is a secret (components/preflight/checks.py sees to
that).
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    CreateResult,
    DiffResult,
    ReadResult,
    ResourceProvider,
    UpdateResult,
)

from components.aws.account_settings import AWS_KEYS
from components.compute.locations import left
from components.dns.cloudflare_access import CLOUDFLARE_KEYS
from components.dns.registry import place_of
from components.dns.rfc2136 import TSIG_KEY
from components.joyent.engine import Engine
from components.model import DnsRecord, Instance, Member
from components.registration import snapshots
from components.registration.command_line import engine_arguments, is_partial_destroy
from components.registration.diff import (
    Drift,
    Kind,
    acknowledgement,
    find_drift,
    is_of_another,
    other_at,
)
from components.registration.draining import POLL_S, drain_members, wait_for_caches, withdraw
from components.registration.inventory import RESOLVERS, Registries
from components.registration.messages import NOT_PROVEN, line, lines, on_hold, properties
from components.registration.props import desired_of, members_of, registries_of, with_given_up
from components.registration.roll_call import RollCallError, drain_delay, proven, until_answered
from components.registration.snapshots import DepartureSnapshot, DnsSnapshot
from rollcall.errors import FatalError
from rollcall.ownership import Owner

# Between a cloud's word that it deletes a machine and the machine's end.
GONE_LIMIT_S = 300.0
# For how many seconds other resources use a snapshot of DNS: those that ask together with the first one.
SNAPSHOT_AGE_S = 5.0
FINDINGS = tuple(kind.value for kind in Kind)
# What is in the state and is not an input.
_REMEMBERED = ("acknowledged", "former", "drained", "former_stacks")
# The members of the roll calls that this run of the engine has completed, by stack and instance: they stay.
CALLED: set[tuple[str, str]] = set()


class ConfiguredProvider(ResourceProvider):
    """A provider that asks clouds and DNS providers, with the credentials of the stack's configuration."""

    serialize_as_secret_always = False
    # A class attribute, so that what is stored in the state stays a bare reference: Pulumi writes a dictionary one level deeper
    # for each resource that it wrote before, until Python's stack is full (pulumi/dynamic/dynamic.py, serialize_provider).
    _config: Mapping[str, str] = {}

    def configure(self, req: Any) -> None:
        keys = (*CLOUDFLARE_KEYS, *AWS_KEYS, TSIG_KEY, "rollcall:joyent", RESOLVERS)
        self._config = {key: value for key in keys if (value := req.config.get(key)) is not None}

    def _registries(self, props: Mapping[str, Any]) -> Registries:
        return registries_of(props, self._config)

    def _what(self, props: Mapping[str, Any], *keys: str) -> str:
        """Return the key of a shared snapshot: what is asked, and with which credentials."""
        return json.dumps([plain(props[key]) for key in keys] + [dict(self._config)], sort_keys=True)


class RollCallProvider(ConfiguredProvider):
    """Create and update return when every member answers; delete when every member has left."""

    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        timeout = news.get("timeout")
        failures = (
            [CheckFailure("timeout", "must be 10 to 3600 seconds")]
            if not isinstance(timeout, int | float) or not 10 <= timeout <= 3600
            else []
        )
        return CheckResult(news, failures)

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        keys = ("stack", "members", "places", "cloud", "fleets", "peers", "elsewhere", "ssh", *FINDINGS)
        # A state of an earlier version lacks the younger keys.
        olds = {"peers": _news.get("peers", []), **_olds}
        changed = [key for key in keys if plain(olds.get(key, [])) != plain(_news.get(key, []))]
        return DiffResult(changes=bool(changed), replaces=[], stables=[], delete_before_replace=False)

    def create(self, props: dict[str, Any]) -> CreateResult:
        id_ = f"{props['stack']}/{props['fleet']}"
        nothing = {**props, "members": [], "places": [], "fleets": []}
        return CreateResult(id_, self._call({**nothing, "uncounted": ()}, props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        former = left(_olds, _news)
        return UpdateResult(self._call(_olds, {**_news, **({"former": former} if former else {})}))

    def _call(self, olds: Mapping[str, Any], news: Mapping[str, Any]) -> dict[str, Any]:
        """Wait for the members of `news`, then drain those that are members of `olds` only, or of no roll call. Return the outputs."""
        engine, stack, fleet = Engine(), news["stack"], news["fleet"]
        registries = self._registries(news)
        leaving = _leaving(registries, olds, news)
        # A fleet that this `up` removes continues to serve until its own RollCall is deleted.
        props = with_given_up({**news, "drained": olds.get("drained", [])}, *olds.get("fleets", ()))
        props["former_stacks"] = sorted(
            {*olds.get("former_stacks", ()), *(each.stack for each in leaving)} - {stack, ""}
        )
        found = until_answered(registries, props, leaving=leaving, engine=engine)
        self._withdraw(olds, news, engine)
        if leaving:
            found = self._let_leave(leaving, registries, olds, props, engine)
        foreign = found.of(Kind.FOREIGN)
        for each in foreign if olds["members"] or olds["places"] else ():
            engine.say(f"{fleet}: {line(each)} is not Rollcall's; it is left as it is", warning=True)
        for text in (*lines(found, Kind.UNPROVEN), *on_hold(found)):
            engine.say(f"{fleet}: {text}", warning=True)
        _called(news)
        former_stacks = _still_in_dns(props["former_stacks"], registries) if props["former_stacks"] else []
        drained = _listed(props["drained"], registries, stack)
        drained += [each.as_inputs() for each in leaving if each.fleet == fleet]
        return {
            **news,
            **properties(Drift()),
            "acknowledged": [
                each.as_inputs() for each in sorted({*desired_of(olds).acknowledged, *map(acknowledgement, foreign)})
            ],
            **({"drained": drained} if drained else {}),
            **({"former_stacks": former_stacks} if former_stacks else {}),
        }

    def _let_leave(
        self,
        leaving: tuple[Member, ...],
        registries: Registries,
        olds: Mapping[str, Any],
        props: Mapping[str, Any],
        engine: Engine,
    ) -> Drift:
        """Drain `leaving`, after the members of `props` have answered, and call the roll again."""
        stack, members = props["stack"], props["members"]
        # A machine that no roll call has counted joined the record sets of its settings, which `olds` may lack.
        before = self._registries({**olds, "places": olds["places"] or props["places"]})
        try:
            drain_members(before, stack, leaving, engine, drain_delay=drain_delay(before, props) if members else 0)
            _warn_of_gone(before.gone, props["fleet"], engine)
            if not members:
                wait_for_caches(before, desired_of(olds), drain_delay(before, olds), engine)
            # That took a while, and no machine may be deleted unless those that stay answer.
            return until_answered(registries, props, leaving=leaving, engine=engine)
        except Exception:
            # No machine is deleted now, so they continue to serve. The first error is the one to report.
            with contextlib.suppress(Exception):
                before.undrain(stack, leaving)
            raise

    def _withdraw(self, olds: Mapping[str, Any], news: Mapping[str, Any], engine: Engine) -> None:
        """Take the members that stay out of the record sets that the fleet no longer joins."""
        desired, before = desired_of(news), {*members_of(olds)}
        desired = replace(desired, members=tuple(each for each in desired.members if each in before))
        joined = {each.key for each in desired.record_sets}
        began = time.monotonic()
        for each in olds["places"]:
            dropped = {expected.key for expected in place_of(each).record_sets} - joined
            if not dropped or not desired.members:
                continue
            registries = self._registries({**news, "places": [each]})
            try:
                withdraw(registries, dropped, desired, engine, since=began, drain_delay=drain_delay(registries, news))
                _warn_of_gone(registries.gone, desired.fleet, engine)
            except FatalError as refused:
                # Its zone may belong to another account now. That must not block the update.
                engine.say(
                    f"{desired.fleet}: cannot see whether it has left {', '.join(map(str, sorted(dropped)))} ({refused})",
                    warning=True,
                )

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        registries = self._registries(props)
        snapshot = snapshots.SNAPSHOTS.get(self._what(props, "places"), lambda: DnsSnapshot(registries), SNAPSHOT_AGE_S)
        desired = desired_of(props)
        found = find_drift(desired, snapshot.dns_records(), registries.instances(desired.stack), snapshot.answers())
        found = proven(registries, desired, found)
        _warn_of_gone(snapshot.gone, desired.fleet, Engine())
        for note in snapshot.notes:
            Engine().say(f"{desired.fleet}: {note}", warning=True)
        for text in on_hold(found):
            Engine().say(f"{desired.fleet}: {text}", warning=True)
        changed = {**props, **properties(found)}
        if props.get("former"):
            changed["former"] = registries.still_former(props["stack"])
        if props.get("former_stacks"):
            changed["former_stacks"] = _still_in_dns(props["former_stacks"], snapshot)
        inputs = {key: value for key, value in changed.items() if key not in (*_REMEMBERED, "__provider")}
        return ReadResult(id_, changed, inputs)

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        engine, registries, stack = Engine(), self._registries(_props), _props["stack"]
        # The machines of a RollCall that is itself replaced stay.
        leaving = [each for each in members_of(_props) if (stack, each.instance) not in CALLED]
        if leaving and is_partial_destroy(engine_arguments()):
            raise RollCallError(
                f"{_props['fleet']}: `pulumi destroy` with --target or --exclude would take the machines of the whole fleet out of DNS. "
                "Change `count` of the fleet, or remove it from the configuration, and run `pulumi up`."
            )
        all_left = drain_members(registries, stack, leaving, engine, drain_delay=0)
        _warn_of_gone(registries.gone, _props["fleet"], engine)
        if leaving:
            wait_for_caches(registries, desired_of(_props), drain_delay(registries, _props), engine)
            # They are deleted next. After an update, another fleet may fail first.
            if all_left and not _props.get("ssh"):
                registries.stop(stack, leaving)


class DeregistrationProvider(ConfiguredProvider):
    """Create before a machine and delete after it: the delete removes what the machine could not remove itself."""

    def create(self, props: dict[str, Any]) -> CreateResult:
        generation = secrets.token_hex(3)
        outs = {key: each for key, each in props.items() if key != "leaves"}
        return CreateResult(f"{props['fleet']}-{props['machine']}-{generation}", {**outs, "generation": generation})

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        changed = any(plain(_olds.get(key)) != plain(_news.get(key)) for key in ("places", "cloud"))
        moved = [key for key in ("stack", "fleet", "machine") if _olds.get(key) != _news.get(key)]
        before, now = (plain(each.get("networks") or []) for each in (_olds, _news))
        # A Deregistration without networks gets them in its state, and its machine stays.
        moved += ["networks"] if before and now and before != now else []
        moved += ["leaves"] if _news.get("leaves") else []
        changed |= before != now
        return DiffResult(changes=changed or bool(moved), replaces=moved, stables=[], delete_before_replace=False)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        outs = {
            **{key: each for key, each in _news.items() if key not in ("uncounted", "leaves")},
            "generation": _olds["generation"],
        }
        if "uncounted" in _olds:
            outs["uncounted"] = _olds["uncounted"]
        return UpdateResult(outs)

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        engine = Engine()
        stack, generation = _props["stack"], _props["generation"]
        gone = Owner(stack, _props["fleet"], _props["machine"], generation, "unknown")
        what = self._what(_props, "stack", "cloud", "places")

        def take() -> DepartureSnapshot:
            return snapshots.DEPARTURES.get(
                what,
                lambda: DepartureSnapshot(self._registries(_props), stack),
                SNAPSHOT_AGE_S,
                lambda last: not last.running(generation) and not _at_leavers(gone, last),
            )

        snapshot = _wait_for_leavers(take, gone, _wait_until_gone(take, _props, engine), engine)
        left = _left_of(gone, snapshot.dns_records(), snapshot.instances)
        if left:
            # Other machines may have changed it since, so remove what is there now.
            registries = self._registries(_props)
            left = _left_of(gone, registries.dns_records(), snapshot.instances)
            registries.remove(left)
            snapshots.DEPARTURES.forget(what)
        _warn_of_gone(snapshot.gone, f"{_props['fleet']}-{_props['machine']}", engine)
        for records in snapshot.challenged(gone):
            records.unchallenge(gone)
        for record in left:
            engine.say(
                f"{_props['fleet']}-{_props['machine']}: removed {record.value} from {record.key}, its machine is gone"
            )


def _warn_of_gone(zones: Iterable[str], machine: str, engine: Engine) -> None:
    for zone in zones:
        engine.say(f"{machine}: the zone {zone} was deleted, so none of its records are left there", warning=True)


def _left_of(gone: Owner, records: Iterable[DnsRecord], machines: Sequence[Instance]) -> list[DnsRecord]:
    """Return the records of a machine of this generation, with any instance, and dead records.

    A record with its mark and the address of another one of `machines` is not returned.
    """
    return [each for each in records if each.dead or (_is_of(gone, each) and not is_of_another(each, machines))]


def _is_of(gone: Owner, record: DnsRecord) -> bool:
    """Return whether a record has the mark of a machine of this generation, with any instance."""
    owner = record.owner
    return owner is not None and (owner.stack, owner.fleet, owner.generation) == (
        gone.stack,
        gone.fleet,
        gone.generation,
    )


def _at_leavers(gone: Owner, snapshot: DepartureSnapshot) -> list[tuple[DnsRecord, Instance]]:
    """Return the records with the mark of `gone` at the address of another running machine that was asked to leave, with that machine."""
    found = ((each, other_at(each, snapshot.instances)) for each in snapshot.dns_records() if _is_of(gone, each))
    return [(record, machine) for record, machine in found if machine is not None and machine.drained]


def _wait_for_leavers(
    take: Callable[[], DepartureSnapshot], gone: Owner, snapshot: DepartureSnapshot, engine: Engine
) -> DepartureSnapshot:
    """Return the snapshot in which no machine that leaves too runs at the address of a record of `gone`.

    That machine will not write its own mark, and its own Deregistration removes only records with that mark. So a record that stays now
    stays in DNS after a `destroy`. If the machine still runs after the time-out, the record stays, with a warning.
    """
    end = time.monotonic() + GONE_LIMIT_S
    while (there := _at_leavers(gone, snapshot)) and time.monotonic() <= end:
        engine.sleep(POLL_S)
        snapshot = take()
    for record, machine in there:
        engine.say(
            f"{gone.fleet}-{gone.machine}: {record.value} at {record.key} has its mark and the address of "
            f"{machine.fleet}-{machine.machine}, which still runs; it is left as it is",
            warning=True,
        )
    return snapshot


def _wait_until_gone(
    take: Callable[[], DepartureSnapshot], props: Mapping[str, Any], engine: Engine
) -> DepartureSnapshot:
    """Return the snapshot in which the machine of this generation no longer runs.

    Raises RollCallError when it still runs after the time-out. A machine without other proof than its tags does not
    fail the delete, and is not ended.
    """
    end = time.monotonic() + GONE_LIMIT_S
    while True:
        snapshot = take()
        running = snapshot.running(props["generation"])
        if not running:
            return snapshot
        if time.monotonic() > end:
            machine, doubts = f"{props['fleet']}-{props['machine']}", snapshot.unproven(running)
            for each in (one for one in running if one.instance not in doubts):
                raise RollCallError(
                    f"{machine}: {each.instance} still runs after {GONE_LIMIT_S:.0f} s. "
                    "Terminate it and run `pulumi destroy` or `pulumi up` again."
                )
            for instance, doubt in sorted(doubts.items()):
                engine.say(
                    f"{machine}: {instance} has its tags, but {NOT_PROVEN} ({doubt}); it is left as it is", warning=True
                )
            return snapshot
        engine.sleep(POLL_S)


def _leaving(registries: Registries, olds: Mapping[str, Any], news: Mapping[str, Any]) -> tuple[Member, ...]:
    """Return the machines of the state that are not members of `news`. A machine of another stack id keeps that id."""
    stack, members = news["stack"], members_of(news)
    before = olds.get("stack", stack)
    counted = [each for each in members_of(olds) if each not in members]
    found = [replace(each, stack=before) if before != stack else each for each in counted]
    known = {each.generation for each in (*members, *counted)}
    uncounted = {(each["stack"], each["fleet"], each["generation"]) for each in news.get("uncounted", ())}
    for made_by in sorted({each[0] for each in uncounted}):
        found += [
            Member(
                fleet=each.fleet,
                machine=each.machine,
                generation=each.generation,
                instance=each.instance,
                stack=made_by if made_by != stack else "",
            )
            for each in registries.instances(made_by)
            if (made_by, each.fleet, each.generation) in uncounted and each.generation not in known
        ]
    return tuple(found)


def _called(props: Mapping[str, Any]) -> None:
    CALLED.update((props["stack"], each.instance) for each in members_of(props))


def _listed(members: Sequence[Mapping[str, Any]], registries: Registries, stack: str) -> list[Mapping[str, Any]]:
    """Return the machines that their cloud still lists: the engine deletes drained machines last, and may not have come to it."""
    there = {each.instance for each in registries.instances(stack)} if members else set()
    return [each for each in members if each["instance"] in there]


def _still_in_dns(stacks: Iterable[str], snapshot: Registries | DnsSnapshot) -> list[str]:
    """Return those of the former ids of the stack that a record still has."""
    owners = {each.owner.stack for each in snapshot.dns_records() if each.owner is not None}
    return [each for each in stacks if each in owners]


def plain(value: Any) -> Any:
    """Return lists and mappings of the wire as plain values that can be compared. Numbers arrive as floats."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value
