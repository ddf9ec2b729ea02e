"""Find what a preview means for machines, DNS and people: a pure function of the engine's event log."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from components.commands.review.events import UNKNOWN, Preview, State, Step
from components.dns.registry import place_of
from components.model import RecordKey
from components.registration.diff import Kind, is_safe_delete, is_safe_end
from components.rollout import planning
from rollcall.escaping import escaped

MACHINES = {"aws:ec2/instance:Instance": "AWS", "pulumi-python:dynamic/joyent:Machine": "Joyent"}
ROLL_CALL = "pulumi-python:dynamic/rollcall:RollCall"
RELEASE = "pulumi-python:dynamic/rollcall:Release"
# Resources beside a machine or a fleet. The lines of the machines and fleets report them.
BRACKET = (
    ROLL_CALL,
    RELEASE,
    "pulumi-python:dynamic/rollcall:Deregistration",
    "pulumi-python:dynamic/joyent:Ready",
)
_RECORDS = ("cloudflare:index/dnsRecord:DnsRecord", "aws:route53/record:Record")
_DNS = (*_RECORDS, "cloudflare:index/zoneSetting:ZoneSetting", "cloudflare:index/zone:Zone", "aws:route53/zone:Zone")
_GROUP = "aws:ec2/securityGroup:SecurityGroup"
_RULE = "pulumi-python:dynamic/joyent:FirewallRule"
# CloudAPI's rules: `FROM any TO … ALLOW tcp PORT 22`, `… (PORT 22 AND PORT 80)`, `… PORTS 20 - 25`, `… PORT all`.
_FROM_EVERYBODY = re.compile(r"(?i)\bFROM\b.*?(\bany\b|/0\b).*?\bTO\b")
_PORTS = re.compile(r"(?i)\b(all)\b|(\d+)\s*-\s*(\d+)|\b(\d+)\b")
_ENDED = "program exited with non-zero exit code"
_EVERYBODY = ("0.0.0.0/0", "::/0")
_MADE, _GONE = ("create", "create-replacement", "import"), ("delete", "discard")
# The engine's internal steps, and the second and third of the three steps of a replacement.
_QUIET = (
    "same",
    "read",
    "read-discard",
    "refresh",
    "replace",
    "delete-replaced",
    "discard-replaced",
    "remove-pending-replace",
)


@dataclass(frozen=True, kw_only=True)
class Property:
    path: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """A fleet's machines by what will happen to them, each list sorted.

    `before` is how many there are now. `sets_before` are the record sets that have them now, `sets_after` those that
    will have them.
    """

    name: str
    cloud: str
    before: int
    comes: tuple[str, ...] = ()
    goes: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()
    because: tuple[Property, ...] = ()
    sets_before: tuple[RecordKey, ...] = ()
    sets_after: tuple[RecordKey, ...] = ()
    drain_delay: int = 0
    timeout: int = 0

    @property
    def after(self) -> int:
        return self.before + len(self.comes) - len(self.goes)

    @property
    def peak(self) -> int:
        """The greatest number of machines: every new machine is created before any machine is deleted."""
        return self.before + len(self.comes) + len(self.replaced)

    @property
    def moves(self) -> bool:
        return bool(self.comes or self.goes or self.replaced or self.changed)


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of one resource. `verb` is created, changed, replaced or deleted."""

    verb: str
    type: str
    name: str
    title: str
    properties: tuple[Property, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a preview means.

    `releases` are lines about the releases that roll through fleets in place. `other_releases` are machines with another release than
    they should have, as (fleet, line). The other fields are lists of what their names say.
    """

    fleets: tuple[Fleet, ...]
    dns: tuple[Change, ...]
    others: tuple[Change, ...]
    differences: Mapping[Kind, tuple[tuple[str, str], ...]]
    by_hand: tuple[Change, ...]
    vanished: tuple[Change, ...]
    dangers: tuple[str, ...]
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    finished: bool
    counts: Mapping[str, int]
    releases: tuple[str, ...] = ()
    other_releases: tuple[tuple[str, str], ...] = ()

    @property
    def failed(self) -> bool:
        return bool(self.errors) or not self.finished

    @property
    def drifted(self) -> bool:
        return any(self.differences.values()) or bool(self.by_hand or self.vanished or self.other_releases)

    @property
    def changes(self) -> bool:
        return any(self.counts.values()) or self.drifted


def findings_of(preview: Preview) -> Findings:
    # Sorted, since the engine runs independent steps in any order.
    steps = sorted((each for each in preview.steps if each.type != "pulumi:pulumi:Stack"), key=_order_of_step)
    changes = [_change(each) for each in steps if each.op not in _QUIET]
    dns = tuple(sorted((each for each in changes if each.type in _DNS), key=_order))
    hidden = (*MACHINES, *BRACKET, *_DNS)
    fleets = _fleets(steps, preview.refreshed)
    differences = _differences(steps, preview.refreshed)
    planned = {each.urn: each for each in steps if each.op not in _QUIET}
    drifted = [each for each in preview.refreshed if each.type not in BRACKET and not each.type.startswith("pulumi:")]
    by_hand = [_undone(each, planned[each.urn]) for each in drifted if each.op == "update" and each.urn in planned]
    vanished = [replace(_change(each), verb="gone") for each in drifted if each.op == "delete"]
    return Findings(
        fleets=fleets,
        dns=dns,
        others=tuple(
            sorted((each for each in changes if each.type not in hidden and not _is_component(each)), key=_order)
        ),
        differences=differences,
        by_hand=tuple(sorted((each for each in by_hand if each is not None), key=_order)),
        vanished=tuple(sorted(vanished, key=_order)),
        dangers=(*_dangers(steps, fleets, differences), *_opened_by_hand(drifted)),
        errors=_errors(preview),
        warnings=tuple(
            dict.fromkeys(each.text for each in preview.messages if each.severity == "warning" and each.text)
        ),
        finished=preview.finished,
        counts={
            verb: sum(1 for each in changes if each.verb == verb and not _is_component(each))
            for verb in ("created", "changed", "replaced", "deleted")
        },
        releases=tuple(_releases(steps, preview.refreshed)),
        other_releases=tuple(_other_releases(steps, preview.refreshed)),
    )


def _read(type_: str, steps: Iterable[Step], refreshed: Iterable[Step]) -> dict[str, State]:
    """Return each resource of a type as the refresh read it, or as the state has it where it was not refreshed, by its name."""
    found = {each.name: each.old for each in steps if each.type == type_ and each.old}
    return found | {each.name: each.new for each in refreshed if each.type == type_ and each.new}


def _releases(steps: Iterable[Step], refreshed: Iterable[Step]) -> Iterable[str]:
    """Say which releases roll through which fleets, as the preview itself does."""
    listed = list(steps)
    before = _read(RELEASE, listed, refreshed)
    for step in listed:
        if step.type == RELEASE and step.new and step.op != "same":
            known = before.get(step.name)
            yield from planning.plan_of(known.outputs if known else {}, step.new.inputs).lines


def _other_releases(steps: Iterable[Step], refreshed: Iterable[Step]) -> Iterable[tuple[str, str]]:
    for name, state in sorted(_read(RELEASE, steps, refreshed).items()):
        yield from ((name, str(line)) for line in state.outputs.get("differing") or () if line != UNKNOWN)


def _errors(preview: Preview) -> tuple[str, ...]:
    texts = list(dict.fromkeys(each.text for each in preview.messages if each.severity == "error" and each.text))
    # The engine repeats that the program ended after the reason why it ended.
    return tuple([each for each in texts if _ENDED not in each] or texts)


def _opened_by_hand(drifted: Iterable[Step]) -> Iterable[str]:
    for step in drifted:
        if step.type in (_GROUP, _RULE) and step.op == "update":
            for line in _opened(step):
                yield f"Changed by hand: {line}"


def _order_of_step(step: Step) -> tuple[str, tuple[str, int], str]:
    return (step.type, _natural(step.name), step.op)


def _order(change: Change) -> tuple[str, str, str]:
    return (change.verb, change.type, change.name)


def _is_component(change: Change) -> bool:
    return change.type.startswith(("rollcall:", "pulumi:"))


def _change(step: Step) -> Change:
    verb = (
        "replaced"
        if step.op == "create-replacement"
        else "created"
        if step.op in _MADE
        else "deleted"
        if step.op in _GONE
        else "changed"
    )
    properties = _properties(step) if verb in ("changed", "replaced") else ()
    return Change(verb=verb, type=step.type, name=step.name, title=_title(step), properties=properties)


def _title(step: Step) -> str:
    """Return the name of a record as DNS shows it. For any other resource, its name in the program."""
    inputs = step.state.inputs
    if step.type in _RECORDS:
        values = inputs.get("records") or [inputs.get("content", "")]
        return f"{inputs.get('name', step.name)} {inputs.get('type', '')} {', '.join(map(str, values))}".strip()
    if step.type.endswith(":ZoneSetting"):
        return f"{inputs.get('settingId', step.name)} = {shown(inputs.get('value'))}"
    return step.name


def _properties(step: Step) -> tuple[Property, ...]:
    before, after = (step.old or State()).inputs, (step.new or State()).inputs
    keys = (
        step.changed
        or step.reasons
        or tuple(sorted(key for key in {*before, *after} if before.get(key) != after.get(key)))
    )
    return tuple(_property(key, _at(before, key), _at(after, key)) for key in keys if not key.startswith("__"))


def _property(path: str, before: Any, after: Any) -> Property:
    """Return a change. Of two lists, only what is not in both: otherwise one rule among many would not be noticed."""
    if isinstance(before, list) and isinstance(after, list):
        before, after = [each for each in before if each not in after], [each for each in after if each not in before]
    return Property(path=path, before=shown(before), after=shown(after))


def _undone(found: Step, planned: Step) -> Change | None:
    """Return a setting that was changed by hand and that the program would restore.

    None: the program causes the change.
    """
    was, now = (found.old or State()).inputs, (found.new or State()).inputs
    wanted = (planned.new or State()).inputs
    keys = [key for key in sorted({*was, *now}) if was.get(key) != now.get(key) and not key.startswith("__")]
    back = tuple(_property(key, now.get(key), wanted.get(key)) for key in keys if now.get(key) != wanted.get(key))
    return (
        Change(verb="changed", type=found.type, name=found.name, title=_title(found), properties=back) if back else None
    )


def _at(inputs: Any, path: str) -> Any:
    """Return the value at a path of the engine's (`tags.Name`, `ingress[0].cidrBlocks`, `tags["a.b"]`)."""
    if not path:
        return inputs
    if isinstance(inputs, Mapping):
        for key in sorted(map(str, inputs), key=len, reverse=True):
            for word in (key, f'["{key}"]'):
                rest = path[len(word) :]
                if path.startswith(word) and (not rest or rest[0] in ".["):
                    return _at(inputs[key], rest.removeprefix("."))
        return None
    if isinstance(inputs, list) and path.startswith("["):
        number, _, rest = path[1:].partition("]")
        if number.isdigit() and int(number) < len(inputs):
            return _at(inputs[int(number)], rest.removeprefix("."))
    return None


def shown(value: Any) -> str:
    """Return a value for people; an empty text where there is none."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {shown(value[key])}" for key in sorted(value) if value[key] is not None) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(shown, value)) + "]"
    return str(value)


def _fleets(steps: Iterable[Step], refreshed: Iterable[Step]) -> tuple[Fleet, ...]:
    by_fleet: dict[tuple[str, str], dict[str, list[str]]] = {}
    found_gone = {each.urn for each in refreshed if each.op == "delete"}
    rolls = {each.name: each for each in steps if each.type == ROLL_CALL}
    replaced = {each.urn for each in steps if each.op in ("replace", "create-replacement")}
    for step in steps:
        if step.type not in MACHINES or step.op in ("replace", "delete-replaced", "discard-replaced"):
            continue
        fleet = step.state.parent.rpartition("::")[2]
        kind = (
            "replaced"
            if step.urn in replaced
            else "comes"
            if step.op in _MADE
            else "goes"
            if step.op in _GONE
            else "stays"
            if step.op in ("same", "read")
            else "changed"
        )
        lists = by_fleet.setdefault((fleet, MACHINES[step.type]), {})
        lists.setdefault(kind, []).append(step.name)
        if step.urn in found_gone:
            lists.setdefault("vanished", []).append(step.name)
    because = {
        step.state.parent.rpartition("::")[2]: _because(step)
        for step in steps
        if step.op == "create-replacement" and step.type in MACHINES
    }
    return tuple(
        replace(_fleet(name, cloud, lists, rolls.get(name)), because=because.get(name, ()))
        for (name, cloud), lists in sorted(by_fleet.items())
    )


def _because(step: Step) -> tuple[Property, ...]:
    """Return the inputs of a replaced machine that differ, as far as known now. Its tags name its generation."""
    before, after = (step.old or State()).inputs, (step.new or State()).inputs
    keys = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    plain = [key for key in keys if not isinstance(after.get(key), Mapping) and not key.startswith("__")]
    return tuple(
        _property(key, before.get(key), after.get(key)) for key in plain if UNKNOWN not in shown(after.get(key))
    )


def _fleet(name: str, cloud: str, lists: Mapping[str, list[str]], roll: Step | None) -> Fleet:
    inputs = roll.state.inputs if roll else {}
    sorted_lists = {kind: tuple(sorted(names, key=_natural)) for kind, names in lists.items()}
    return Fleet(
        name=name,
        cloud=cloud,
        before=sum(len(sorted_lists.get(kind, ())) for kind in ("stays", "changed", "replaced", "goes")),
        comes=sorted_lists.get("comes", ()),
        goes=sorted_lists.get("goes", ()),
        replaced=sorted_lists.get("replaced", ()),
        changed=sorted_lists.get("changed", ()),
        vanished=sorted_lists.get("vanished", ()),
        sets_before=_record_sets(roll.old if roll else None),
        sets_after=_record_sets(roll.new if roll else None),
        drain_delay=int(inputs.get("drain_delay") or 0),
        timeout=int(inputs.get("timeout") or 0),
    )


def _natural(name: str) -> tuple[str, int]:
    fleet, _, number = name.rpartition("-")
    return (fleet, int(number)) if number.isdigit() else (name, 0)


def _record_sets(roll: State | None) -> tuple[RecordKey, ...]:
    """Return the record sets of a RollCall, without places with values that are not known yet."""
    found: list[RecordKey] = []
    for each in (roll.inputs.get("places") if roll else None) or ():
        with contextlib.suppress(KeyError, TypeError, ValueError):
            found += [expected.key for expected in place_of(each).record_sets]
    return tuple(found)


def _differences(steps: Iterable[Step], refreshed: Iterable[Step]) -> dict[Kind, tuple[tuple[str, str], ...]]:
    """Return (fleet, line) of each kind of finding, as the refresh of each RollCall read them."""
    read = {each.urn: (each.name, each.old) for each in steps if each.type == ROLL_CALL}
    read |= {each.urn: (each.name, each.new) for each in refreshed if each.type == ROLL_CALL}
    found: dict[Kind, list[tuple[str, str]]] = {kind: [] for kind in Kind}
    for name, step in read.values():
        for kind in Kind:
            lines = (step.outputs.get(kind.value) or step.inputs.get(kind.value) or ()) if step else ()
            found[kind] += [(name, line) for line in lines if isinstance(line, str) and line != UNKNOWN]
    return {kind: tuple(sorted(lines)) for kind, lines in found.items()}


def _dangers(
    steps: list[Step], fleets: tuple[Fleet, ...], differences: Mapping[Kind, tuple[tuple[str, str], ...]]
) -> Iterable[str]:
    for fleet in fleets:
        if fleet.goes and not fleet.after:
            yield f"Fleet `{fleet.name}` is removed: {_count(len(fleet.goes), 'machine')} on {fleet.cloud}."
    yield from _emptied_record_sets(fleets)
    for step in steps:
        gone = step.op in (*_GONE, "delete-replaced")
        if gone and step.old and step.old.protect:
            yield f"`{step.name}` ({step.type}) is protected and would be deleted. The deployment fails at this."
        elif step.op in _GONE and step.type in (*_RECORDS, "cloudflare:index/zone:Zone", "aws:route53/zone:Zone"):
            note = " (kept at its provider)" if step.old and step.old.retain else ""
            yield f"DNS: {code(_title(step))} is deleted{note}."
        if step.type in (_GROUP, _RULE) and step.op not in ("same", *_GONE):
            yield from _opened(step)
        if step.type == ROLL_CALL and step.new and step.new.inputs.get("safe_deletes") is False:
            yield (
                f"The safety limit is off (`rollcall:safeDeletes: false`): fleet `{step.name}` removes any number of records and machines "
                "at once."
            )
    yield from _safety_limit(steps, fleets, differences)


def _emptied_record_sets(fleets: tuple[Fleet, ...]) -> Iterable[str]:
    for key in sorted({each for fleet in fleets for each in fleet.sets_before}):
        before = sum(fleet.before for fleet in fleets if key in fleet.sets_before)
        if before and not sum(fleet.after for fleet in fleets if key in fleet.sets_after):
            yield f"No machine answers at {code(str(key))} any more: the last one is removed."


def _opened(step: Step) -> Iterable[str]:
    if step.type == _RULE:
        old, new = ((state or State()).inputs.get("rule") or "" for state in (step.old, step.new))
        if new != old and _lets_everybody_in(str(new)) and not _lets_everybody_in(str(old)):
            yield f"`{step.name}` opens SSH (port 22) to everybody."
    before = (step.old.inputs.get("ingress") if step.old else None) or ()
    for rule in (step.new or State()).inputs.get("ingress") or ():
        if not isinstance(rule, Mapping) or rule in before:
            continue
        sources = [*(rule.get("cidrBlocks") or ()), *(rule.get("ipv6CidrBlocks") or ())]
        ports = [each for key in ("fromPort", "toPort") if isinstance(each := rule.get(key), int | float)]
        in_range = bool(ports) and ports[0] <= 22 <= ports[-1] and rule.get("protocol") != "udp"
        ssh = str(rule.get("protocol")) == "-1" or in_range
        if ssh and any(each in _EVERYBODY for each in sources):
            yield f"`{step.name}` opens SSH (port 22) to everybody."


def _lets_everybody_in(rule: str) -> bool:
    """Return whether a rule of CloudAPI's allows SSH from anywhere (docs.tritondatacenter.com, "Cloud Firewall")."""
    condition, _, ports = rule.partition(" ALLOW tcp ")
    found = _PORTS.finditer(ports)
    ssh = any(each[1] or int(each[2] or each[4]) <= 22 <= int(each[3] or each[4]) for each in found)
    return ssh and bool(_FROM_EVERYBODY.search(condition + " "))


def _safety_limit(
    steps: list[Step], fleets: tuple[Fleet, ...], differences: Mapping[Kind, tuple[tuple[str, str], ...]]
) -> Iterable[str]:
    for step in (each for each in steps if each.type == ROLL_CALL and each.new):
        if step.new is None or step.new.inputs.get("safe_deletes") is False:
            continue
        records = sum(fleet.before * len(fleet.sets_before) for fleet in fleets)
        left = sum(1 for fleet, _ in differences[Kind.LEFTOVER] if fleet == step.name)
        lost = sum(1 for fleet, _ in differences[Kind.ORPHANED] if fleet == step.name)
        wanted = sum(each.after for each in fleets if each.name == step.name)
        if not is_safe_delete(records + left, left) or not is_safe_end(wanted, lost):
            yield (
                f"The safety limit may stop `pulumi up`: fleet `{step.name}` has {left} leftover records and {lost} orphaned machines to "
                "remove, more than three in ten. Then it reports this and removes nothing."
            )


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def code(text: str, most: int = 120) -> str:
    """Return a value that a stranger may have written as a code span: its links, mentions and HTML have no effect."""
    flat = escaped(" ".join(text.split()))
    if not flat:
        return ""
    if len(flat) > most:
        flat = f"{flat[:most]}… ({len(flat)} characters)"
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", flat)), default=0))
    pad = " " if flat.startswith("`") or flat.endswith("`") else ""
    return f"{fence}{pad}{flat}{pad}{fence}"
