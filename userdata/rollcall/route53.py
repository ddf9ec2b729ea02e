"""A machine in the SRV record set of a service's incarnation, in Route53.

The machine's host name lives below one label of the zone that belongs to Rollcall (`GENERATION.rc.unilans.net`): its A and
AAAA, and a TXT that says whose it is, at which addresses, and in which sets it should stand. The SRV set of an incarnation is
everybody's, so it changes by compare-and-swap: one batch deletes the exact old values and creates the new ones.

https://docs.aws.amazon.com/Route53/latest/APIReference/API_ChangeResourceRecordSets.html
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from rollcall.answers import answers_of
from rollcall.errors import FatalError, RefusedError, RollcallError, TransientError
from rollcall.ownership import Owner
from rollcall.retrying import retried
from rollcall.settings import Route53Join, challenge_name, parse_join, record_type

LABEL = "rc"
MOST_VALUES = 400
_HOST_TTL = 60
_TRIES = 25
_PATIENCE = 3
_JOINS, _AT = "joins", "at"
_BUSY = "Throttling", "ThrottlingException", "PriorRequestNotComplete", "ServiceUnavailable", "InternalError"


class ConflictError(RollcallError):
    """The record set was not what the batch said it was: read it again."""


@dataclass(frozen=True, order=True)
class RecordSet:
    """As Route53 lists it: `name` in lower case without the final dot, `ttl` in seconds, `values` sorted, as in a zone file.
    `routed`: it has a routing policy or is an alias, so it is not ours to change."""

    name: str
    type: str
    ttl: int
    values: tuple[str, ...]
    routed: bool = False


class Store(Protocol):
    """The record sets of one hosted zone. Raises TransientError, FatalError, and ConflictError where it says so."""

    def at(self, name: str) -> tuple[RecordSet, ...]:
        """The record sets of every type at `name`."""

    def below(self, name: str) -> tuple[RecordSet, ...]:
        """Every record set below `name`."""

    def change(self, deletes: Iterable[RecordSet], creates: Iterable[RecordSet]) -> None:
        """All of it or nothing. Raises ConflictError when a set to be deleted is another, or one to be created is there."""


class Route53Store:
    """By boto3: the instance's role, or `key` (`ACCESS_KEY_ID SECRET`). It does not retry: who calls knows what to read again."""

    def __init__(self, zone: str, key: str = "", client: Any = None) -> None:
        self._zone = zone
        self._client = client or _client(key)

    def at(self, name: str) -> tuple[RecordSet, ...]:
        return tuple(each for each in self._listed(name) if each.name == name.lower())

    def below(self, name: str) -> tuple[RecordSet, ...]:
        return tuple(each for each in self._listed(name) if each.name != name.lower())

    def change(self, deletes: Iterable[RecordSet], creates: Iterable[RecordSet]) -> None:
        changes = [_change("DELETE", each) for each in deletes] + [_change("CREATE", each) for each in creates]
        if changes:
            with _explained():
                self._client.change_resource_record_sets(HostedZoneId=self._zone, ChangeBatch={"Changes": changes})

    def _listed(self, name: str) -> list[RecordSet]:
        """What is at `name` and below it: sets are sorted by their labels from the right, so it comes in one run."""
        found: list[RecordSet] = []
        lists = self._client.get_paginator("list_resource_record_sets")
        with _explained():
            for page in lists.paginate(
                HostedZoneId=self._zone, StartRecordName=name, PaginationConfig={"PageSize": 300}
            ):
                for each in map(_record_set, page["ResourceRecordSets"]):
                    if not f".{each.name}".endswith(f".{name.lower()}"):
                        return found
                    found.append(each)
        return found


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turns what boto3 raises into our errors."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as refused:
        code, said = refused.response["Error"]["Code"], refused.response["Error"].get("Message", "")
        if code in _BUSY or refused.response["ResponseMetadata"].get("HTTPStatusCode", 0) >= 500:
            raise TransientError(f"reason=api-failing api=route53 code={code}") from refused
        if code == "InvalidChangeBatch" and ("but it" in said or "do not match" in said):
            raise ConflictError(said) from refused
        raise FatalError(f"reason=refused api=route53 code={code} message={said[:200]!r}") from refused
    except BotoCoreError as failed:
        raise TransientError(f"reason=unreachable api=route53 error={type(failed).__name__}") from failed


class Route53Registry:
    """One membership. `fresh`: nothing of this machine is there yet, as far as is known, so the first join need not look.
    `pause` sleeps, `look` asks DNS for the set's targets; `size` counts the values at the last look."""

    def __init__(
        self,
        told: Route53Join,
        store: Store,
        fresh: bool = True,
        pause: Callable[[float], None] = time.sleep,
        dice: random.Random | None = None,
        look: Callable[[str], frozenset[str] | None] = lambda _: None,
    ) -> None:
        self._told = told
        self._store = store
        self._fresh = fresh
        self._look = look
        self._pressed = 0
        self._registered: tuple[str, ...] = ()
        self._new = False
        self._pause = pause
        self._dice = dice or random.Random()  # noqa: S311
        self._set = set_name(told)
        self._label = f"{LABEL}.{told.domain}"
        self.size = 0

    def join(self, owner: Owner, *addresses: str) -> bool:
        """Host first, so that no value ever leads nowhere; then the set, with every registered host that it lacks."""
        try:
            return self._join(owner, addresses)
        except TransientError:
            self._pressed += 1
            raise

    def _join(self, owner: Owner, addresses: tuple[str, ...]) -> bool:
        host = host_name(owner.generation, self._told.domain)
        changed = False
        if self._registered != addresses:
            first = self._fresh
            changed = self._register(host, owner, addresses)
            self._registered, self._new = addresses, first and changed
        # Where the account is at its limit many join at once, and whoever writes next writes us too; DNS tells for nothing.
        for _ in range(_PATIENCE if self._new and self._pressed else 0):
            self._pause(self._dice.uniform(0, 2 * _PATIENCE))
            if host in (self._look(self._set) or ()):
                return True
        value = srv_value(self._told, host)
        dead: list[RecordSet] = []

        def with_us(current: RecordSet) -> tuple[str, ...] | None:
            if [each for each in current.values if _target(each) == host] == [value] and current.ttl == self._told.ttl:
                return None
            sets = self._store.below(self._label)
            dead[:] = _dead_with(addresses, sets, owner)
            names = {each.name for each in dead}
            hosts = {name: joins for name, joins in hosts_of(sets).items() if name not in names}
            return joined(current.values, self._set, self._told.domain, hosts, value)

        swapped = self._swap(with_us)
        if swapped is None:
            return changed
        before, after = ({_target(each) for each in values} for values in swapped)
        self._take_back(after - before - {host})
        if dead:
            with contextlib.suppress(ConflictError):
                self._store.change(*_cleared(dead))
        return True

    def leave(self, owner: Owner) -> bool:
        """Say so first: whoever adds missing hosts would bring us back. Then the set, then the host."""
        host = host_name(owner.generation, self._told.domain)
        self._registered = ()
        present = self._store.at(host)
        if owner_of(present) not in (None, owner):
            return False
        text = next((each for each in present if each.type == "TXT" and _owner(each)), None)
        kept: tuple[str, ...] = ()
        if text is not None:
            kept = tuple(each for each in text.values if not each.startswith(f'"{_JOINS} {self._set} '))
            if kept != text.values:
                self._store.change([text], [replace(text, values=kept)])
        gone = self._swap(lambda current: _without(current.values, {host})) is not None
        if text is None or any(each.startswith(f'"{_JOINS} ') for each in kept):
            return gone
        rest = [each for each in present if each.type != "TXT"]
        self._store.change(*_cleared([replace(text, values=kept), *rest]))
        return True

    def owner_at(self, key: str) -> Owner | None:
        """Whose host this is."""
        return owner_of(self._store.at(key))

    def challenge(self, owner: Owner, on: bool, by: str = "") -> bool:
        """Put up the challenge of `by` for this machine, or take it away (without `by` everybody's); whether there was one.
        Raises ConflictError when another changes them at this moment: whether there is one has to be seen again."""
        name, text = challenge_name(owner, self._told), f'"{owner} {by}'.rstrip()
        none = RecordSet(name, "TXT", _HOST_TTL, ())
        old = next((each for each in self._store.at(name) if each.type == "TXT"), none)
        rest = tuple(each for each in old.values if not each.startswith(text))
        there = rest != old.values
        if on != there:
            values = (*rest, f'{text}"') if on else rest
            self._store.change([old] if old.values else [], [replace(old, values=values)] if values else [])
        return there

    def _register(self, host: str, owner: Owner, addresses: tuple[str, ...]) -> bool:
        """Our A, AAAA and TXT stand; whether anything had to be changed. A machine's first join needs no look before."""
        wanted = f'"{_JOINS} {self._set} {srv_value(self._told, host)}"'
        texts = tuple(sorted((f'"{owner}"', f'"{_AT} {" ".join(addresses)}"', wanted)))
        kinds = {"A": (), "AAAA": (), **{record_type(each): (each,) for each in addresses}, "TXT": texts}
        fresh = [RecordSet(host, kind, _HOST_TTL, values) for kind, values in kinds.items()]
        if self._fresh:
            try:
                self._store.change([], [each for each in fresh if each.values])
            except ConflictError:
                self._fresh = False
            else:
                self._fresh = False
                return True
        for _ in range(_TRIES):
            present = self._store.at(host)
            deletes, creates = _host_changes(present, fresh, owner, self._set, wanted)
            if not deletes and not creates:
                return False
            try:
                self._store.change(deletes, creates)
            except ConflictError:
                continue
            return True
        raise TransientError(f"reason=contended name={host}")

    def _take_back(self, helped: set[str]) -> None:
        """Those whom we added may have left meanwhile. They look after they have said so, we say so after we have looked."""
        if helped:
            hosts = hosts_of(self._store.below(self._label))
            self.drop({each for each in helped if self._set not in hosts.get(each, {})})

    def drop(self, targets: set[str]) -> None:
        """Take the values that lead to `targets` out of the set."""
        if targets:
            self._swap(lambda current: _without(current.values, targets))

    def _swap(
        self, change: Callable[[RecordSet], tuple[str, ...] | None]
    ) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """Change the set by compare-and-swap; its values before and after, or None where `change` found nothing to do."""
        told = self._told
        for attempt in range(_TRIES):
            present = self._store.at(self._set)
            current = next((each for each in present if each.type == "SRV"), RecordSet(self._set, "SRV", told.ttl, ()))
            self.size = len(current.values)
            values = change(current)
            if values is None:
                return None
            # What is not there need not be taken away, so these are only in the way of what is to be written.
            alias = next((each for each in present if each.type == "CNAME"), None)
            if alias is not None:
                raise RefusedError(f"reason=cname-in-the-way name={self._set} target={alias.values[0]}")
            if current.routed:
                raise RefusedError(f"reason=routed-set name={self._set}")
            if len(values) > MOST_VALUES:
                raise RefusedError(f"reason=set-full name={self._set} values={len(values)} look='give it shards'")
            wanted = replace(current, ttl=told.ttl, values=tuple(sorted(values)))
            try:
                self._store.change([current] if current.values else [], [wanted] if values else [])
            except ConflictError:
                # Whoever was first has probably written us too, so the next look is often the last.
                self._pause(self._dice.uniform(0, min(0.1 * 2**attempt, 5.0)))
                continue
            self.size = len(values)
            return current.values, values
        raise TransientError(f"reason=contended name={self._set}")


def set_name(told: Route53Join) -> str:
    return f"{told.incarnation}.{told.service}.{told.domain}".lower()


def host_name(generation: str, domain: str) -> str:
    return f"{generation}.{LABEL}.{domain}"


def srv_value(told: Route53Join, host: str) -> str:
    return f"{told.priority} {told.weight} {told.port} {host}."


def hosts_of(sets: Iterable[RecordSet]) -> dict[str, dict[str, str]]:
    """For each host below our label the sets in which it should stand, with its value there. A host without a TXT of
    Rollcall's is there with none."""
    found: dict[str, dict[str, str]] = {}
    for each in sets:
        joins = found.setdefault(each.name, {})
        if each.type == "TXT" and _owner(each) is not None:
            for text in each.values:
                word, _, rest = text.strip('"').partition(" ")
                name, _, value = rest.partition(" ")
                if word == _JOINS and value.endswith(f" {each.name}."):
                    joins[name] = value
    return found


def owner_of(sets: Iterable[RecordSet]) -> Owner | None:
    """Whose a host is, by the TXT among its record sets."""
    return next((owner for each in sets if each.type == "TXT" and (owner := _owner(each)) is not None), None)


def joined(
    values: Iterable[str], name: str, domain: str, hosts: dict[str, dict[str, str]], mine: str
) -> tuple[str, ...]:
    """The set's new values: `mine` instead of our old one, every registered host that was missing, and no value that leads
    to a name below our label where nothing stands. Everybody else's values to the byte."""
    ours = _target(mine)
    kept = [each for each in values if _target(each) != ours and not is_dead(each, domain, hosts)]
    present = {_target(each) for each in kept}
    missing = [joins[name] for host, joins in hosts.items() if name in joins and host not in present and host != ours]
    room = max(MOST_VALUES - len(kept) - 1, 0)
    return (*kept, *sorted(missing)[:room], mine)


def is_dead(value: str, domain: str, hosts: dict[str, dict[str, str]]) -> bool:
    """`hosts` must have been read after the set: a host is registered before its value, and its value goes before it."""
    target = _target(value)
    return target.endswith(f".{LABEL}.{domain}") and target not in hosts


def _without(values: tuple[str, ...], targets: set[str]) -> tuple[str, ...] | None:
    kept = tuple(each for each in values if _target(each) not in targets)
    return None if kept == values else kept


def _host_changes(
    present: Iterable[RecordSet], fresh: list[RecordSet], owner: Owner, name: str, wanted: str
) -> tuple[list[RecordSet], list[RecordSet]]:
    """How what is at our host becomes what we want there, with what others put beside it. Of an empty set of `fresh` only what
    an earlier life of ours had goes."""
    here = {each.type: each for each in present}
    if "CNAME" in here:
        raise RefusedError(f"reason=cname-in-the-way name={fresh[0].name} target={here['CNAME'].values[0]}")
    text = here.get("TXT")
    before = _owner(text) if text is not None else None
    # An earlier life of ours, or a twin that an interrupted `up` left: nobody else has this generation.
    noted = _noted([text]) if text is not None and before is not None and before.stack == owner.stack else []
    deletes, creates = [], []
    for each in fresh:
        old = here.get(each.type, replace(each, values=()))
        if old.routed:
            if each.values:
                raise RefusedError(f"reason=routed-set name={each.name} type={each.type}")
            continue
        if each.type == "TXT":
            other = [value for value in old.values if value.startswith(f'"{_JOINS} ') and f" {name} " not in value]
            values = {*each.values, *(other if _owner(old) == owner else ()), *_foreign(old)}
        else:
            values = {*each.values, *(value for value in old.values if value not in noted)}
        new = replace(old, values=tuple(sorted(values)))
        if new != old:
            deletes += [old] if old.values else []
            creates += [new] if values else []
    return deletes, creates


def _dead_with(addresses: tuple[str, ...], sets: Iterable[RecordSet], owner: Owner) -> list[RecordSet]:
    """What other hosts of our stack have at an address of ours: its machine is dead, since the address is ours now."""
    here: dict[str, list[RecordSet]] = {}
    for each in sets:
        here.setdefault(each.name, []).append(each)
    found = []
    for records in here.values():
        other = owner_of(records)
        there = {value for each in records if each.type in ("A", "AAAA") for value in each.values}
        if other is not None and other.stack == owner.stack and other != owner and there & {*addresses}:
            found += records if there <= {*_noted(records)} else []
    return found


def _cleared(sets: list[RecordSet]) -> tuple[list[RecordSet], list[RecordSet]]:
    """What goes of a machine's host when it stands nowhere any more, and what others have in the same sets comes back."""
    deletes, creates, noted = [], [], _noted(sets)
    for each in sets:
        if each.type in ("A", "AAAA", "TXT") and not each.routed:
            values = _foreign(each) if each.type == "TXT" else [value for value in each.values if value not in noted]
            if values != list(each.values):
                deletes.append(each)
                creates += [replace(each, values=tuple(values))] if values else []
    return deletes, creates


def _foreign(text: RecordSet) -> list[str]:
    words = ('"rollcall/', f'"{_JOINS} ', f'"{_AT} ')
    return [value for value in text.values if not value.startswith(words)]


def _noted(sets: Iterable[RecordSet]) -> list[str]:
    """The addresses that machines wrote down as theirs."""
    values = (value.strip('"').split() for each in sets if each.type == "TXT" for value in each.values)
    return [each for words in values if words[:1] == [_AT] for each in words[1:]]


def _owner(text: RecordSet) -> Owner | None:
    return next((found for each in text.values if (found := Owner.parse(each.strip('"'))) is not None), None)


def _target(value: str) -> str:
    return value.rpartition(" ")[2].rstrip(".").lower()


def _record_set(found: Any) -> RecordSet:
    routed = any(key in found for key in ("SetIdentifier", "AliasTarget", "TrafficPolicyInstanceId"))
    values = tuple(sorted(each["Value"] for each in found.get("ResourceRecords", ())))
    # Route53 writes `*` as `\\052`.
    name = found["Name"].rstrip(".").replace("\\052", "*")
    return RecordSet(name, found["Type"], int(found.get("TTL", 0)), values, routed)


def _change(action: str, record: RecordSet) -> dict[str, Any]:
    values = [{"Value": value} for value in record.values]
    shown = {"Name": record.name, "Type": record.type, "TTL": record.ttl, "ResourceRecords": values}
    return {"Action": action, "ResourceRecordSet": shown}


def _client(key: str) -> Any:
    import boto3
    from botocore.config import Config

    given = dict(zip(("aws_access_key_id", "aws_secret_access_key"), key.split(), strict=False))
    once = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=15)
    return boto3.client("route53", region_name="us-east-1", config=once, **given)


def one_call() -> int:
    """One call of a registry, asked and answered as JSON on standard input and output, in a process of its own: boto3 takes
    40 MB that an idle agent need not hold."""
    asked = json.load(sys.stdin)
    told = parse_join(asked["join"])
    assert isinstance(told, Route53Join)
    given = [(isinstance(each, str) and Owner.parse(each)) or each for each in asked["given"]]
    try:
        registry = Route53Registry(told, Route53Store(told.zone, asked["key"]), asked["fresh"], look=answers_of)
        result = retried(lambda: getattr(registry, asked["do"])(*given), asked["within"])
        answer = {"result": result, "size": registry.size}
    except RollcallError as fault:
        answer = {"error": str(fault), "fatal": isinstance(fault, FatalError)}
    json.dump(answer, sys.stdout, default=str)
    return 0
