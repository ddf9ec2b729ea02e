"""RollCall and Deregistration: the two dynamic resources that keep the stack's state and DNS in step.

A provider here is stored in the state by reference to its module and class, so `components.registration.resources` and the
classes' names are part of the state's format and are never renamed. No secret is in a provider or in its inputs:
credentials come from the stack's config first and the environment second, at each call. The engine hands the config over; in the
state it is an input of Pulumi's own provider `pulumi-python`, encrypted where it is a secret (components/preflight/checks.py sees to that).
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pulumi
from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    CreateResult,
    DiffResult,
    ReadResult,
    Resource,
    ResourceProvider,
    UpdateResult,
)

from components.aws.account_settings import AWS_KEYS
from components.compute.locations import Realm, is_keeper, left
from components.dns.cloudflare_access import CLOUDFLARE_KEYS
from components.joyent.pacing import Stall
from components.registration import snapshots
from components.registration.diff import (
    BY_HAND,
    NOT_PROVEN,
    Difference,
    Entry,
    Member,
    Roll,
    Seen,
    describe,
    difference,
    is_of_another,
    is_safe_end,
    owned,
    with_doubts,
    within_brake,
)
from components.registration.draining import POLL, say_once, see_off, wait_for_caches, withdraw
from components.registration.engine import Engine
from components.registration.inventory import RESOLVERS, Registries, place_of
from components.registration.snapshots import Departure, Look
from rollcall.errors import FatalError
from rollcall.escaping import escaped_lines
from rollcall.ownership import Owner

# Between a cloud's word that it deletes a machine and the machine's end.
GONE_WITHIN = 300.0
STEPS_EVERY = 4.0
# Seconds for which a look at DNS serves others: those that come with the one that took it.
LOOK_FOR = 5.0
_BRAKE_MEND = "Nothing was removed. If that is meant, `pulumi config set rollcall:brake false` for one `pulumi up`."
_FOUND = ("missing", "stale", "left_over", "foreign", "orphaned")
# What is in the state and is no input.
_REMEMBERED = ("acknowledged", "former", "seen_off", "former_stacks")
# Whose roll this run of the engine has called, by stack and instance: they stay, whatever else goes.
CALLED: set[tuple[str, str]] = set()


class RollCallError(Exception):
    """A machine does not answer, one that leaves does not go, or too many would go; the message names each and why."""

    def __init__(self, message: str) -> None:
        super().__init__(escaped_lines(message))


@dataclass(frozen=True, kw_only=True)
class RollCallArgs:
    """`members` are mappings `{machine, generation, instance}`; `places` what `Place.as_inputs` gives; `cloud` what
    `Access.as_inputs` gives; `timeout`: fail after this many seconds in which no machine got any further; `linger` the seconds that
    a machine serves on after its entries are gone.
    `uncounted` are machines that the state has and no roll call has counted, since the `up` that made them failed before: `{stack,
    fleet, machine, generation}`; those that are not members leave as members do.
    `peers` are the fleets in the same place of the same cloud, `elsewhere` the cloud's other places where fleets are (what
    `Access.as_inputs` gives); `brake` refuses to remove many entries or machines at once; with `ssh`
    machines that leave are told so by SSH after the roll call as well, and must run then. `given_up` are the fleets of the state
    that the program has no more: their machines serve until their own RollCall goes."""

    stack: str
    fleet: str
    fleets: Sequence[str]
    members: pulumi.Input[Sequence[pulumi.Input[Mapping[str, pulumi.Input[str]]]]]
    places: pulumi.Input[Sequence[pulumi.Input[Mapping[str, Any]]]]
    cloud: pulumi.Input[Mapping[str, Any]]
    timeout: int = 300
    linger: int = 120
    peers: Sequence[str] = ()
    elsewhere: Sequence[Mapping[str, Any]] = ()
    brake: bool = True
    ssh: bool = False
    given_up: Sequence[str] = ()
    uncounted: Sequence[Mapping[str, str]] = ()


class _Provider(ResourceProvider):
    serialize_as_secret_always = False
    # A class attribute, so that what is stored in the state stays a bare reference: Pulumi writes a dictionary one level deeper
    # for each resource that it wrote before, until Python's stack is full (pulumi/dynamic/dynamic.py, serialize_provider).
    _config: Mapping[str, str] = {}

    def configure(self, req: Any) -> None:
        kept = (*CLOUDFLARE_KEYS, *AWS_KEYS, "rollcall:joyent", RESOLVERS)
        self._config = {key: value for key in kept if (value := req.config.get(key)) is not None}

    def _registries(self, props: Mapping[str, Any]) -> Registries:
        return registries_of(props, self._config)

    def _what(self, props: Mapping[str, Any], *keys: str) -> str:
        """By what a look is shared: what is looked at, and with whose credentials."""
        return json.dumps([_plain(props[key]) for key in keys] + [dict(self._config)], sort_keys=True)


class RollCallProvider(_Provider):
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
        keys = ("stack", "members", "places", "cloud", "fleets", "peers", "elsewhere", "ssh", *_FOUND)
        # A state of an earlier version lacks the younger keys.
        olds = {"peers": _news.get("peers", []), **_olds}
        changed = [key for key in keys if _plain(olds.get(key, [])) != _plain(_news.get(key, []))]
        return DiffResult(changes=bool(changed), replaces=[], stables=[], delete_before_replace=False)

    def create(self, props: dict[str, Any]) -> CreateResult:
        id_ = f"{props['stack']}/{props['fleet']}"
        nothing = {**props, "members": [], "places": [], "fleets": []}
        return CreateResult(id_, self._call({**nothing, "uncounted": ()}, props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        former = left(_olds, _news)
        return UpdateResult(self._call(_olds, {**_news, **({"former": former} if former else {})}))

    def _call(self, olds: Mapping[str, Any], news: Mapping[str, Any]) -> dict[str, Any]:
        """Wait for the members of `news`, then have those leave that are members of `olds` only, or of no roll call. The outputs."""
        engine, stack, fleet = Engine(), news["stack"], news["fleet"]
        registries = self._registries(news)
        leaving = _leaving(registries, olds, news)
        # A fleet that this `up` gives up still serves, until its own RollCall goes.
        told = _with_given_up({**news, "seen_off": olds.get("seen_off", [])}, *olds.get("fleets", ()))
        told["former_stacks"] = sorted(
            {*olds.get("former_stacks", ()), *(each.stack for each in leaving)} - {stack, ""}
        )
        found = _answer(registries, told, leaving=leaving, engine=engine)
        self._withdraw(olds, news, engine)
        if leaving:
            found = self._let_leave(leaving, registries, olds, told, engine)
        for line in found.foreign if olds["members"] or olds["places"] else ():
            engine.say(f"{fleet}: {line} is not Rollcall's; it is left as it is", warning=True)
        for line in found.unproven:
            engine.say(f"{fleet}: {line}", warning=True)
        _called(news)
        former_stacks = _still_standing(told["former_stacks"], registries) if told["former_stacks"] else []
        seen_off = _listed(told["seen_off"], registries, stack)
        seen_off += [each.as_inputs() for each in leaving if each.fleet == fleet]
        return {
            **news,
            **_found(Difference()),
            "acknowledged": sorted({*olds.get("acknowledged", []), *found.foreign}),
            **({"seen_off": seen_off} if seen_off else {}),
            **({"former_stacks": former_stacks} if former_stacks else {}),
        }

    def _let_leave(
        self,
        leaving: tuple[Member, ...],
        registries: Registries,
        olds: Mapping[str, Any],
        told: Mapping[str, Any],
        engine: Engine,
    ) -> Difference:
        """Have `leaving` leave, where the members of `told` have answered, and look again."""
        stack, members = told["stack"], told["members"]
        # One that no roll call has counted joined what it was told to, which `olds` may lack.
        before = self._registries({**olds, "places": olds["places"] or told["places"]})
        try:
            see_off(before, stack, leaving, engine, linger=_linger(before, told) if members else 0)
            _warn_of_gone(before.gone, told["fleet"], engine)
            if not members:
                wait_for_caches(before, roll_of(olds), _linger(before, olds), engine)
            # That took a while, and nobody may go unless those that stay answer.
            return _answer(registries, told, leaving=leaving, engine=engine)
        except Exception:
            # Nobody is deleted now, so they serve on. What went wrong first is what there is to tell.
            with contextlib.suppress(Exception):
                before.undrain(stack, leaving)
            raise

    def _withdraw(self, olds: Mapping[str, Any], news: Mapping[str, Any], engine: Engine) -> None:
        """Have those who stay out of the record sets that the fleet joins no more."""
        roll, before = roll_of(news), {*_members(olds)}
        roll = replace(roll, members=tuple(each for each in roll.members if each in before))
        joined = {stand.place for stand in roll.stands}
        began = time.monotonic()
        for each in olds["places"]:
            dropped = {stand.place for stand in place_of(each).stands} - joined
            if not dropped or not roll.members:
                continue
            registries = self._registries({**news, "places": [each]})
            try:
                withdraw(registries, dropped, roll, engine, since=began)
                _warn_of_gone(registries.gone, roll.fleet, engine)
            except FatalError as refused:
                # Its zone may no longer be ours: no reason to be stuck.
                engine.say(
                    f"{roll.fleet}: cannot see whether it has left {', '.join(sorted(dropped))} ({refused})",
                    warning=True,
                )

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        registries = self._registries(props)
        look = snapshots.LOOKS.get(self._what(props, "places"), lambda: Look(registries), LOOK_FOR)
        roll = roll_of(props)
        found = difference(roll, look.entries(), registries.seen(roll.stack), look.answers())
        found = proven(registries, roll, found)
        _warn_of_gone(look.gone, roll.fleet, Engine())
        for note in look.notes:
            Engine().say(f"{roll.fleet}: {note}", warning=True)
        changed = {**props, **_found(found)}
        if props.get("former"):
            changed["former"] = registries.still_former(props["stack"])
        if props.get("former_stacks"):
            changed["former_stacks"] = _still_standing(props["former_stacks"], look)
        inputs = {key: value for key, value in changed.items() if key not in (*_REMEMBERED, "__provider")}
        return ReadResult(id_, changed, inputs)

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        engine, registries, stack = Engine(), self._registries(_props), _props["stack"]
        # Of a RollCall that is itself replaced the machines stay.
        leaving = [each for each in _members(_props) if (stack, each.instance) not in CALLED]
        all_left = see_off(registries, stack, leaving, engine, linger=0)
        _warn_of_gone(registries.gone, _props["fleet"], engine)
        if leaving:
            wait_for_caches(registries, roll_of(_props), _linger(registries, _props), engine)
            # Their deletion is next: nothing else comes between, as it may after an update.
            if all_left and not _props.get("ssh"):
                registries.stop(stack, leaving)


class DeregistrationProvider(_Provider):
    """Made before its machine and deleted after it: whatever the machine could not take down itself goes then."""

    def create(self, props: dict[str, Any]) -> CreateResult:
        generation = secrets.token_hex(3)
        return CreateResult(f"{props['fleet']}-{props['machine']}-{generation}", {**props, "generation": generation})

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        changed = any(_plain(_olds.get(key)) != _plain(_news.get(key)) for key in ("places", "cloud"))
        moved = [key for key in ("stack", "fleet", "machine") if _olds.get(key) != _news.get(key)]
        before, now = (_plain(each.get("networks") or []) for each in (_olds, _news))
        # What an earlier version made has none written down, and stands where it stands.
        moved += ["networks"] if before and now and before != now else []
        changed |= before != now
        return DiffResult(changes=changed or bool(moved), replaces=moved, stables=[], delete_before_replace=False)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        return UpdateResult({**_news, "generation": _olds["generation"]})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        engine = Engine()
        stack, generation = _props["stack"], _props["generation"]
        what = self._what(_props, "stack", "cloud", "places")

        def look() -> Departure:
            return snapshots.DEPARTURES.get(
                what,
                lambda: Departure(self._registries(_props), stack),
                LOOK_FOR,
                lambda last: not last.running(generation),
            )

        seen = _wait_until_gone(look, _props, engine)
        gone = Owner(stack, _props["fleet"], _props["machine"], generation, "unknown")
        left = _left_of(gone, seen.entries(), seen.seen)
        if left:
            # Others may have been at it since, so what goes is what stands now.
            registries = self._registries(_props)
            left = _left_of(gone, registries.entries(), seen.seen)
            registries.remove(left)
            snapshots.DEPARTURES.forget(what)
        _warn_of_gone(seen.gone, f"{_props['fleet']}-{_props['machine']}", engine)
        for records in seen.challenged(gone):
            records.unchallenge(gone)
        for entry in left:
            engine.say(
                f"{_props['fleet']}-{_props['machine']}: removed {entry.value} from {entry.place}, its machine is gone"
            )


class RollCall(Resource, module="rollcall", name="RollCall"):  # type: ignore[call-arg]
    """One for each fleet. Succeeds when every machine of the fleet is answered by the zone's own name servers.

    `missing`, `stale`, `left_over`, `foreign` and `orphaned` (lists of lines) are what a refresh found: declared empty
    here, so a preview shows them as a change.
    """

    missing: pulumi.Output[Sequence[str]]
    stale: pulumi.Output[Sequence[str]]
    left_over: pulumi.Output[Sequence[str]]
    foreign: pulumi.Output[Sequence[str]]
    orphaned: pulumi.Output[Sequence[str]]

    def __init__(self, name: str, args: RollCallArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        props: dict[str, Any] = {
            "stack": args.stack,
            "fleet": args.fleet,
            "fleets": list(args.fleets),
            "members": args.members,
            "places": args.places,
            "cloud": args.cloud,
            "timeout": args.timeout,
            "linger": args.linger,
            "peers": list(args.peers),
            "brake": args.brake,
            **({"elsewhere": list(args.elsewhere)} if args.elsewhere else {}),
            **({"ssh": True} if args.ssh else {}),
            **({"given_up": list(args.given_up)} if args.given_up else {}),
            **({"uncounted": list(args.uncounted)} if args.uncounted else {}),
            **{key: [] for key in _FOUND},
        }
        super().__init__(RollCallProvider(), name, props, opts)


class Deregistration(Resource, module="rollcall", name="Deregistration"):  # type: ignore[call-arg]
    """One for each machine, made before it. `generation` (6 hex digits) is new at each create and marks all that the
    machine writes to DNS. Depends on everything that its machine needs in order to register and leave.

    `networks` are the ids of a Triton machine's networks. With others the machine is replaced, successor first: CloudAPI could add and
    remove NICs in place, but each of that is a reboot, of a fleet's machines all at once, and with another public address."""

    generation: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        stack: str,
        fleet: str,
        machine: str,
        places: pulumi.Input[Sequence[pulumi.Input[Mapping[str, Any]]]],
        cloud: pulumi.Input[Mapping[str, Any]],
        networks: Sequence[str] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props = {
            "stack": stack,
            "fleet": fleet,
            "machine": machine,
            "places": places,
            "cloud": cloud,
            "generation": None,
            **({"networks": list(networks)} if networks else {}),
        }
        super().__init__(DeregistrationProvider(), name, props, opts)


def _answer(
    registries: Registries, props: Mapping[str, Any], *, leaving: tuple[Member, ...], engine: Engine
) -> Difference:
    """Wait until every member answers, remove what is left over, end orphans. Raises RollCallError after the time-out."""
    roll = _roll(props, leaving=leaving)
    brake = bool(props.get("brake", True))
    stall = Stall(time.monotonic)
    said, looked = "", time.monotonic()
    steps: Mapping[str, str] = {}
    noted: set[str] = set()
    doubts: dict[str, str] = {}
    registries.undrain(roll.stack, roll.members)
    while True:
        seen = registries.seen(roll.stack)
        entries = registries.entries()
        if roll.members and registries.gone:
            raise RollCallError(
                f"{roll.fleet}: the zone {', '.join(registries.gone)} was deleted, so no machine can be in it. Make the zone again, or "
                "name another one, and run `pulumi up` again."
            )
        found = proven(registries, roll, difference(roll, entries, seen, registries.answers()), doubts)
        say_once(registries.notes, noted, engine)
        known = [each for each in found.stray if each.dead or (each.owner and registries.sees(each.owner.instance))]
        # What has a former id of the stack and runs is on its way out, or of a new stack with that name.
        alive = {each.instance for former in roll.former_stacks for each in registries.seen(former) if each.running}
        known = [each for each in known if each.owner is None or each.owner.instance not in alive]
        by_hand = [each for each in known if each.owner and each.owner.generation == BY_HAND]
        stray = [each for each in known if each not in by_hand]
        _remove_strays(registries, roll, stray, seen, len(entries), brake, engine)
        all_twins = _twins(roll, found.orphans)
        twins = _replaced(roll, all_twins, seen, brake)
        if twins:
            # It has a member's generation, so it stands in that one's way.
            _see_off_and_end(registries, roll, twins, _linger(registries, props), engine)
            engine.say(
                f"{roll.fleet}: ended {', '.join(each.instance for each in twins)}, made by an `up` that was interrupted"
            )
        elif found.complete and found.orphans and not all_twins:
            _end_orphans(registries, roll, found.orphans, len(seen), brake, _linger(registries, props), engine)
            stall.restart()
        elif found.complete and by_hand:
            # No agent takes them away, and the machine that they lead to goes once we have answered.
            _remove_strays(registries, roll, by_hand, (), len(entries), brake, engine)
            engine.sleep(_linger(registries, props))
            stall.restart()
        elif found.complete and not stray and not all_twins:
            return found
        now = time.monotonic()
        if now - looked >= STEPS_EVERY or not said:
            steps, looked = registries.steps(_waiting(roll, found), seen), now
            line = _progress(roll, found, seen, steps)
            if line != said:
                engine.say(line)
                said = line
        # Where only resolvers can be asked, what they keep is no reason to give up.
        limit = float(props["timeout"]) + (registries.delay if found.unanswered else 0)
        if stall.seconds(_facts(roll, found, seen, steps)) > limit:
            raise RollCallError(_complaint(roll, found, seen, registries, limit))
        engine.sleep(POLL)


def proven(registries: Registries, roll: Roll, found: Difference, doubts: dict[str, str] | None = None) -> Difference:
    """The same without the orphans that only their tags say to be the stack's; `doubts` has what was found of each before."""
    known = doubts if doubts is not None else {}
    asked = [each for each in found.orphans if each.instance not in known]
    if asked:
        each_why = [registries.unproven(stack, asked) for stack in roll.stacks]
        why = {each: said for each, said in each_why[0].items() if all(each in other for other in each_why)}
        known.update({each.instance: why.get(each.instance, "") for each in asked})
    return with_doubts(found, {instance: why for instance, why in known.items() if why})


def registries_of(props: Mapping[str, Any], config: Mapping[str, str]) -> Registries:
    """What a RollCall or a Deregistration with these properties looks at."""
    return Registries(tuple(place_of(each) for each in props["places"]), Realm.of(props), config)


def roll_of(props: Mapping[str, Any]) -> Roll:
    """The roll that a RollCall's properties in the state call, with nobody leaving but who has been seen off."""
    return _roll(props, leaving=())


def _warn_of_gone(zones: Iterable[str], who: str, engine: Engine) -> None:
    for zone in zones:
        engine.say(f"{who}: the zone {zone} was deleted, so none of its records are left there", warning=True)


def _remove_strays(
    registries: Registries,
    roll: Roll,
    stray: Sequence[Entry],
    seen: Sequence[Seen],
    total: int,
    brake: bool,
    engine: Engine,
) -> None:
    """A left-over entry goes only if its owner does not run; one that runs is an orphan and would come back."""
    running = {machine.instance for machine in seen if machine.running}
    if any(each.owner is not None and each.owner.instance not in running for each in stray):
        running |= registries.running_elsewhere(roll.stack)
    dead = [each for each in stray if each.dead or (each.owner is not None and each.owner.instance not in running)]
    dead = [each for each in dead if not is_of_another(each, seen)]
    if brake and not within_brake(total, len(dead)):
        raise RollCallError(
            f"{roll.fleet}: {len(dead)} of {total} entries are left over and would be removed at once:\n"
            + "\n".join(f"  - {each.value} at {each.place}" for each in dead)
            + f"\n{_BRAKE_MEND}"
        )
    registries.remove(dead)
    # Whoever watches it may have challenged it, and no Deregistration of a machine that is in no state takes that away.
    for owner in sorted({entry.owner for entry in dead if entry.owner is not None}):
        registries.unchallenge(owner)
    for entry in dead:
        engine.say(f"{roll.fleet}: removed {entry.value} from {entry.place}, nobody's machine runs there")


def _twins(roll: Roll, orphans: Sequence[Seen]) -> list[Seen]:
    """Machines in no state with the generation of a member: made by an `up` that was killed before it could write it down."""
    generations = {member.generation for member in roll.members}
    return [each for each in orphans if each.generation in generations]


def _replaced(roll: Roll, twins: Sequence[Seen], seen: Iterable[Seen], brake: bool) -> list[Seen]:
    """Those twins that may go now: their member runs. Each `up` that is killed leaves one for a member at the most."""
    if brake and len({each.generation for each in twins}) < len(twins):
        raise RollCallError(
            f"{roll.fleet}: {len(twins)} machines have the generation of a member and are in no state, several of them the same one:\n"
            + "\n".join(f"  - {each.instance} ({each.fleet}-{each.machine}, {each.state})" for each in twins)
            + f"\n{_BRAKE_MEND}"
        )
    running = {each.instance for each in seen if each.running}
    replaced = {member.generation for member in roll.members if member.instance in running}
    return [each for each in twins if each.generation in replaced]


def _end_orphans(
    registries: Registries,
    roll: Roll,
    orphans: Sequence[Seen],
    total: int,
    brake: bool,
    linger: float,
    engine: Engine,
) -> None:
    """Machines that are in no state leave as any other would, with the drain delay, and are ended then."""
    if brake and not is_safe_end(len(roll.members), len(orphans)):
        raise RollCallError(
            f"{roll.fleet}: {len(orphans)} of {total} machines are tagged with stack {roll.stack} and are in no state:\n"
            + "\n".join(f"  - {each.instance} ({each.fleet}-{each.machine}, {each.state})" for each in orphans)
            + f"\n{_BRAKE_MEND}"
        )
    _see_off_and_end(registries, roll, orphans, linger, engine)
    for each in orphans:
        engine.say(
            f"{roll.fleet}: ended {each.instance} ({each.fleet}-{each.machine}), which was in no state", warning=True
        )


def _see_off_and_end(
    registries: Registries, roll: Roll, machines: Sequence[Seen], linger: float, engine: Engine
) -> None:
    members = [
        Member(fleet=each.fleet, machine=each.machine, generation=each.generation, instance=each.instance)
        for each in machines
    ]
    # Caches lead only to what was in DNS.
    stood = bool(owned(registries.entries(), roll.stack, members))
    see_off(registries, roll.stack, members, engine, linger=linger if stood else 0)
    registries.end(member.instance for member in members)


def _left_of(gone: Owner, entries: Iterable[Entry], machines: Sequence[Seen]) -> list[Entry]:
    """What a machine of this generation has left, whatever its instance was, and what is nobody's any more; without what has its mark
    and the address of another one of `machines`."""
    whose = (gone.stack, gone.fleet, gone.generation)
    return [
        each
        for each in entries
        if each.dead
        or (
            each.owner
            and (each.owner.stack, each.owner.fleet, each.owner.generation) == whose
            and not is_of_another(each, machines)
        )
    ]


def _wait_until_gone(look: Callable[[], Departure], props: Mapping[str, Any], engine: Engine) -> Departure:
    """The look that shows the machine of this generation no longer running. Raises RollCallError when it still runs after the
    time-out; one that has only its tags is no reason to fail, and none to have it terminated."""
    end = time.monotonic() + GONE_WITHIN
    while True:
        seen = look()
        running = seen.running(props["generation"])
        if not running:
            return seen
        if time.monotonic() > end:
            who, why = f"{props['fleet']}-{props['machine']}", seen.unproven(running)
            for each in (one for one in running if one.instance not in why):
                raise RollCallError(
                    f"{who}: {each.instance} still runs after {GONE_WITHIN:.0f} s; "
                    "terminate it and run `pulumi destroy` or `pulumi up` again"
                )
            for instance, doubt in sorted(why.items()):
                engine.say(
                    f"{who}: {instance} has its tags, but {NOT_PROVEN} ({doubt}); it is left as it is", warning=True
                )
            return seen
        engine.sleep(POLL)


def _waiting(roll: Roll, found: Difference) -> list[Member]:
    lines = (*found.missing, *found.stale)
    return [member for member in roll.members if any(member.instance in line for line in lines)]


def _progress(roll: Roll, found: Difference, seen: Sequence[Seen], steps: Mapping[str, str]) -> str:
    """Who has answered, who has not, and the last step that those have reached."""
    waiting = _waiting(roll, found)
    machines = {machine.instance: machine for machine in seen}
    shown = [f"{describe(each)}: {_step(machines.get(each.instance), steps)}" for each in waiting]
    shown += [f"{line} to go" for line in found.left_over]
    answering = len(roll.members) - len(waiting)
    return f"{roll.fleet}: {answering} of {len(roll.members)} answer; waiting for {'; '.join(shown) or 'the last look'}"


def _step(machine: Seen | None, steps: Mapping[str, str]) -> str:
    if machine is None:
        return "its cloud does not list it"
    said = steps.get(machine.instance) or machine.note
    return f"{machine.state}{f', {said}' if said else ', booting' if machine.running else ''}"


def _facts(roll: Roll, found: Difference, seen: Sequence[Seen], steps: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """Yield what shows that a roll call gets on: who answers, the state and the last step of who does not, what is left to remove.

    Of a step only its name counts, and not the error behind it, which may be another one each time.
    """
    waiting = {each.instance for each in _waiting(roll, found)}
    yield ("left over", str(len(found.left_over)))
    yield from ((each.instance, "answers") for each in roll.members if each.instance not in waiting)
    for machine in seen:
        if machine.instance in waiting:
            step = steps.get(machine.instance) or machine.note
            yield (machine.instance, machine.state, step.partition(":")[0])


def _complaint(roll: Roll, found: Difference, seen: Sequence[Seen], registries: Registries, timeout: float) -> str:
    machines = {machine.instance: machine for machine in seen}
    steps = registries.steps(_waiting(roll, found), seen)
    lines = [f"{roll.fleet}: the roll call was not answered, and nothing changed for {timeout:.0f} s:"]
    for line in (*found.missing, *found.stale, *found.left_over):
        instance = next((each.instance for each in roll.members if each.instance in line), "")
        lines.append(f"  - {line}; {_step(machines.get(instance), steps)}" if instance else f"  - {line}")
    more = (*found.unproven, *registries.notes, *registries.compared(found.unanswered))
    lines += [f"  - {line}" for line in more]
    lines.append("  Look into /var/log/rollcall.log on the machine; `pulumi up` again once it is mended.")
    return "\n".join(lines)


def _roll(props: Mapping[str, Any], *, leaving: tuple[Member, ...]) -> Roll:
    return Roll(
        stack=props["stack"],
        fleet=props["fleet"],
        members=_members(props),
        stands=tuple(stand for each in props["places"] for stand in place_of(each).stands),
        leaving=(*leaving, *_members({**props, "members": props.get("seen_off", ())})),
        fleets=tuple(props.get("fleets", ())),
        keeper=is_keeper(props),
        acknowledged=tuple(props.get("acknowledged", ())),
        former_stacks=tuple(props.get("former_stacks", ())),
    )


def _members(props: Mapping[str, Any]) -> tuple[Member, ...]:
    return tuple(_member(each, props["fleet"]) for each in props["members"])


def _member(told: Mapping[str, Any], fleet: str) -> Member:
    return Member(
        fleet=told.get("fleet", fleet),
        machine=told["machine"],
        generation=told["generation"],
        instance=told["instance"],
        stack=told.get("stack", ""),
    )


def _leaving(registries: Registries, olds: Mapping[str, Any], news: Mapping[str, Any]) -> tuple[Member, ...]:
    """The machines of the state that are not members of `news`, each with the stack id that it was made with if that is another one."""
    stack, members = news["stack"], _members(news)
    before = olds.get("stack", stack)
    counted = [each for each in _members(olds) if each not in members]
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
            for each in registries.seen(made_by)
            if (made_by, each.fleet, each.generation) in uncounted and each.generation not in known
        ]
    return tuple(found)


def _with_given_up(props: Mapping[str, Any], *fleets: str) -> dict[str, Any]:
    """With all fleets that the stack still has machines of, these `fleets` too."""
    return {**props, "fleets": sorted({*props["fleets"], *props.get("given_up", ()), *fleets})}


def _called(props: Mapping[str, Any]) -> None:
    CALLED.update((props["stack"], each.instance) for each in _members(props))


def _listed(members: Sequence[Mapping[str, Any]], registries: Registries, stack: str) -> list[Mapping[str, Any]]:
    """Those that their cloud still lists: the engine deletes last what an `up` has seen off, and may not have come to it."""
    there = {each.instance for each in registries.seen(stack)} if members else set()
    return [each for each in members if each["instance"] in there]


def _still_standing(stacks: Iterable[str], seen: Registries | Look) -> list[str]:
    """Those of these former ids of the stack that entries have yet."""
    owners = {each.owner.stack for each in seen.entries() if each.owner is not None}
    return [each for each in stacks if each in owners]


def _found(found: Difference) -> dict[str, list[str]]:
    return {key: list(getattr(found, key)) for key in _FOUND}


def _linger(registries: Registries, props: Mapping[str, Any]) -> float:
    return min(float(props["linger"]), registries.longest_ttl)


def _plain(value: Any) -> Any:
    """Lists and mappings of the wire compared by value; numbers arrive as floats."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
