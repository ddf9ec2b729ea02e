"""Record sets, and one batch of changes to them: a pure function from a zone's sets to its next ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from localcloud.aws.route53.names import within
from localcloud.aws.route53.values import TYPES, fault

Action = Literal["CREATE", "DELETE", "UPSERT"]
# (name, type, set identifier)
Key = tuple[str, str, str]
MOST_RECORDS = 1000
MOST_CHARACTERS = 32_000
MOST_VALUES = 400
MOST_MULTIVALUE = 100
MOST_IN_ZONE = 10_000
LONGEST_TTL = 2_147_483_647


@dataclass(frozen=True, kw_only=True)
class RecordSet:
    """`name` is normalized; `values` as they were given. `routing` holds the elements of a routing policy (Weight, Region,
    Failover, MultiValueAnswer, HealthCheckId …); `alias` the elements of AliasTarget, and then there are no values."""

    name: str
    type: str
    ttl: int | None = None
    values: tuple[str, ...] = ()
    identifier: str = ""
    routing: Mapping[str, str] = field(default_factory=dict)
    alias: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return self.name, self.type, self.identifier

    def same_as(self, other: RecordSet) -> bool:
        """Return whether a DELETE of one matches the other: the order of values may differ, but nothing else."""
        return (
            self.key == other.key
            and self.ttl == other.ttl
            and sorted(self.values) == sorted(other.values)
            and dict(self.routing) == dict(other.routing)
            and dict(self.alias) == dict(other.alias)
        )

    def __str__(self) -> str:
        identifier = f", set-identifier='{self.identifier}'" if self.identifier else ""
        return f"[name='{self.name}.', type='{self.type}'{identifier}]"


@dataclass(frozen=True)
class Change:
    action: Action
    set: RecordSet


class BatchError(ValueError):
    """InvalidChangeBatch: nothing was changed. `messages` are all errors."""

    def __init__(self, messages: Sequence[str]) -> None:
        super().__init__(", ".join(messages))
        self.messages = tuple(messages)


def apply(
    zone: str, sets: Mapping[Key, RecordSet], changes: Sequence[Change], most: int = MOST_IN_ZONE
) -> dict[Key, RecordSet | None]:
    """Return what the batch changes, in order: each key with its new set, or None if the set is deleted. Raises BatchError.

    `most` is how many record sets the zone may have: MAX_RRSETS_BY_ZONE of
    https://docs.aws.amazon.com/Route53/latest/APIReference/API_GetHostedZoneLimit.html . A set counts once, whatever its values.
    https://docs.aws.amazon.com/Route53/latest/APIReference/API_ChangeResourceRecordSets.html
    """
    faults = [*_over_quota(changes), *_repeated(changes)]
    faults += [text for change in changes for text in _set_faults(zone, change.set)]
    if faults:
        raise BatchError(faults)
    names = dict.fromkeys(change.set.name for change in changes)
    state = _Next(zone, sets, names, most)
    for change in changes:
        state.take(change)
    for name in names:
        state.check_name(name)
    state.check_zone()
    if state.faults:
        raise BatchError(state.faults)
    return state.changed


class _Next:
    """A zone's sets with a batch's changes over them."""

    def __init__(self, zone: str, sets: Mapping[Key, RecordSet], names: Iterable[str], most: int) -> None:
        self.zone, self.most = zone, most
        self.faults: list[str] = []
        self.changed: dict[Key, RecordSet | None] = {}
        self._sets = sets
        self._before: dict[str, list[RecordSet]] = {name: [] for name in names}
        for each in sets.values():
            if each.name in self._before:
                self._before[each.name].append(each)

    def get(self, key: Key) -> RecordSet | None:
        return self.changed[key] if key in self.changed else self._sets.get(key)

    def take(self, change: Change) -> None:
        wanted, present = change.set, self.get(change.set.key)
        if change.action == "CREATE" and present is not None:
            self.faults.append(f"Tried to create resource record set {wanted} but it already exists")
        elif change.action == "DELETE" and present is None:
            self.faults.append(f"Tried to delete resource record set {wanted} but it was not found")
        elif change.action == "DELETE" and present is not None and not present.same_as(wanted):
            self.faults.append(
                f"Tried to delete resource record set {wanted} but the values provided do not match the current values"
            )
        else:
            self.changed[wanted.key] = None if change.action == "DELETE" else wanted

    def check_name(self, name: str) -> None:
        here = list(self._at(name))
        for record_type in {each.type for each in here}:
            self._check_routing(name, [each for each in here if each.type == record_type])
        aliases = [each for each in here if each.type == "CNAME"]
        if not aliases:
            return
        if name == self.zone:
            self.faults.append(
                f"RRSet of type CNAME with DNS name {name}. is not permitted at apex in zone {self.zone}."
            )
            return
        others = [each for each in here if each.type != "CNAME"]
        made = {key for key, each in self.changed.items() if each is not None}
        for each in others:
            if each.key in made:
                self.faults.append(
                    f"RRSet of type {each.type} with DNS name {name}. is not permitted because a conflicting RRSet of type "
                    f" CNAME with the same DNS name already exists in zone {self.zone}."
                )
        if others and not any(each.key in made for each in others):
            self.faults.append(
                f"RRSet of type CNAME with DNS name {name}. is not permitted as it conflicts with other records with the "
                f"same DNS name in zone {self.zone}."
            )

    def check_zone(self) -> None:
        if self.get((self.zone, "SOA", "")) is None:
            self.faults.append("A HostedZone must contain exactly one SOA record.")
        if self.get((self.zone, "NS", "")) is None:
            self.faults.append("A HostedZone must contain at least one NS record for the zone itself.")
        added = sum(each is not None for each in self.changed.values())
        replaced = sum(key in self._sets for key in self.changed)
        if added > replaced and len(self._sets) + added - replaced > self.most:
            self.faults.append(f"Number of records limit of {self.most} exceeded.")

    def _at(self, name: str) -> Iterable[RecordSet]:
        yield from (each for each in self._before[name] if each.key not in self.changed)
        for key, changed in self.changed.items():
            if key[0] == name and changed is not None:
                yield changed

    def _check_routing(self, name: str, sets: Sequence[RecordSet]) -> None:
        simple = [each for each in sets if not each.identifier]
        routed = [each for each in sets if each.identifier]
        if simple and routed:
            self.faults.append(
                f"RRSet with DNS name {name}., type {sets[0].type}, SetIdentifier {routed[0].identifier} cannot be created as "
                "other RRSets exist with the same name and type."
            )
        if len({_policy(each) for each in routed}) > 1:
            self.faults.append(
                f"RRSet with DNS name {name}., type {sets[0].type} cannot be created as sets with another routing policy "
                "exist with the same name and type."
            )
        if len([each for each in routed if "MultiValueAnswer" in each.routing]) > MOST_MULTIVALUE:
            self.faults.append(f"Number of multivalue answer records limit of {MOST_MULTIVALUE} exceeded for {name}.")


def _policy(each: RecordSet) -> str:
    return next((name for name in ("Weight", "Region", "Failover", "MultiValueAnswer") if name in each.routing), "Geo")


def _over_quota(changes: Sequence[Change]) -> list[str]:
    weight = {"UPSERT": 2}
    records = sum(len(change.set.values) * weight.get(change.action, 1) for change in changes)
    characters = sum(sum(map(len, change.set.values)) * weight.get(change.action, 1) for change in changes)
    found = []
    if records > MOST_RECORDS or len(changes) > MOST_RECORDS:
        found.append(f"Number of records limit of {MOST_RECORDS} exceeded.")
    if characters > MOST_CHARACTERS:
        found.append(f"Number of characters limit of {MOST_CHARACTERS} exceeded.")
    return found


def _repeated(changes: Sequence[Change]) -> list[str]:
    """Return the errors for record sets that a batch names twice. That is allowed only to delete a set and create it again."""
    actions: dict[Key, list[str]] = {}
    for change in changes:
        actions.setdefault(change.set.key, []).append(change.action)
    return [
        f"The request contains an invalid set of changes for a resource record set '{record_type} {name}.'"
        for (name, record_type, _), kinds in actions.items()
        if len(kinds) > 1 and kinds != ["DELETE", "CREATE"]
    ]


def _set_faults(zone: str, each: RecordSet) -> list[str]:
    found = []
    if each.type not in TYPES:
        found.append(f"Invalid record type '{each.type}' of {each.name}.")
    if not within(each.name, zone):
        found.append(f"RRSet with DNS name {each.name}. is not permitted in zone {zone}.")
    if each.alias:
        if each.values or each.ttl is not None:
            found.append(f"Invalid request: an alias {each} has neither TTL nor ResourceRecords")
        return found
    if each.ttl is None or not each.values:
        found.append(
            "Invalid request: Expected exactly one of [AliasTarget, all of [TTL, and ResourceRecords], or "
            "TrafficPolicyInstanceId], but found none in Change with [Action=CREATE, "
            f"Name={each.name}., Type={each.type}, SetIdentifier={each.identifier or 'null'}]"
        )
    elif not 0 <= each.ttl <= LONGEST_TTL:
        found.append(f"Invalid TTL {each.ttl} of {each}")
    if len(each.values) > MOST_VALUES:
        found.append(f"Number of values limit of {MOST_VALUES} exceeded for {each}")
    found += [f"Duplicate Resource Record: '{value}'" for value in _duplicates(each.values)]
    found += [text for value in each.values if (text := fault(each.type, value)) is not None]
    if each.type == "CNAME" and len(each.values) > 1:
        found.append(f"RRSet of type CNAME with DNS name {each.name}. must have exactly one value")
    if bool(each.identifier) != bool(each.routing):
        found.append(f"Invalid request: a SetIdentifier and a routing policy go together in {each}")
    if "MultiValueAnswer" in each.routing and len(each.values) > 1:
        found.append(f"Invalid request: a multivalue answer {each} has exactly one ResourceRecord")
    return found


def _duplicates(values: Sequence[str]) -> list[str]:
    return [value for value in dict.fromkeys(values) if values.count(value) > 1]
