"""Create a ZoneRecord: a record set that the stack writes in a zone that takes dynamic updates (RFC 2136).

A dynamic resource cannot be imported. So a record set that already is exactly what this stack would write is taken
over, as after an `up` that was killed. Any other set is refused. A delete removes what was written, and nothing that
others have added to it.

A provider here is stored in the state by reference to its module and class (components/registration/resources.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, ResourceProvider, UpdateResult

from components.dns.rfc2136 import TSIG_KEY, store_of, tsig_key
from rollcall.errors import RollcallError
from rollcall.retrying import retried

if TYPE_CHECKING:
    from rollcall.route53 import RecordSet

_WITHIN_S = 30.0
_KEYS = ("server", "domain", "name", "type")


class ZoneRecordError(Exception):
    """Another record set exists where the stack wants to write one."""


class ZoneRecordProvider(ResourceProvider):
    """Writes the set, shows another one as drift, and deletes it."""

    serialize_as_secret_always = False
    # A class attribute, so that what is stored in the state stays a bare reference.
    config: Mapping[str, str] = {}

    def configure(self, req: Any) -> None:
        self.config = {key: value for key in (TSIG_KEY,) if (value := req.config.get(key)) is not None}

    def create(self, props: dict[str, Any]) -> CreateResult:
        wanted, here = _set(props), self._here(props)
        if here is not None and _plain(here) != _plain(wanted):
            raise ZoneRecordError(refusal(wanted, here))
        if here is None:
            self._change(props, None, wanted)
        return CreateResult(f"{props['name']}/{props['type']}", props)

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        here = self._here(props)
        if here is None:
            return ReadResult("", {})
        wanted = _set(props)
        if _plain(here) == _plain(wanted):
            return ReadResult(id_, props)
        return ReadResult(id_, {**props, "ttl": here.ttl, "values": list(here.values)})

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        moved = [key for key in _KEYS if _olds.get(key) != _news.get(key)]
        changed = bool(moved) or _plain(_set(_olds)) != _plain(_set(_news))
        return DiffResult(changes=changed, replaces=moved, stables=[], delete_before_replace=True)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        self._change(_news, self._here(_news), _set(_news))
        return UpdateResult(_news)

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        from dataclasses import replace

        here, mine = self._here(_props), {each.lower() for each in _plain(_set(_props))[1]}
        if here is not None:
            rest = tuple(each for each in here.values if each.lower() not in mine)
            self._change(_props, here, replace(here, values=rest) if rest else None)

    def _here(self, props: Mapping[str, Any]) -> RecordSet | None:
        """Return the set as the server has it now."""
        store = self._store(props)
        found = retried(lambda: store.zone.at(props["name"], (props["type"],)), _WITHIN_S)
        return next(iter(found), None)

    def _change(self, props: Mapping[str, Any], old: RecordSet | None, new: RecordSet | None) -> None:
        try:
            self._store(props).change([old] if old else [], [new] if new else [])
        except RollcallError as refused:
            raise ZoneRecordError(
                f"{props['name']} {props['type']}: was not written ({refused}). Correct what the name server refuses."
            ) from refused

    def _store(self, props: Mapping[str, Any]) -> Any:
        return store_of(props["domain"], props["server"], tsig_key(self.config.get))


def refusal(wanted: RecordSet, here: RecordSet) -> str:
    """Say that a set differs from the one that this stack would write."""
    values = ", ".join(here.values)
    return (
        f"rollcall:serviceDiscovery.zone: {wanted.name} {wanted.type} is {values} with TTL {here.ttl}, which this stack would not "
        "write. Delete it, or leave the service out."
    )


def _set(props: Mapping[str, Any]) -> RecordSet:
    """Return the set of a resource's inputs, in the server's form."""
    import dns.rdata
    import dns.rdataclass

    from rollcall.route53 import RecordSet

    values = (dns.rdata.from_text(dns.rdataclass.IN, props["type"], each).to_text() for each in props["values"])
    return RecordSet(props["name"].lower(), props["type"], int(props["ttl"]), tuple(sorted(values)))


def _plain(found: RecordSet) -> tuple[int, tuple[str, ...]]:
    """Return the TTL and values by which two sets are compared. The names in a PTR are lower case."""
    values = found.values if found.type == "TXT" else tuple(sorted(each.lower() for each in found.values))
    return found.ttl, values


class ZoneRecord(Resource, module="rollcall", name="ZoneRecord"):  # type: ignore[call-arg]
    """The record set `name` and `type` with these values, as a zone file has them, in the zone `domain` at `server` (`ADDRESS@PORT`)."""

    def __init__(
        self,
        resource: str,
        *,
        server: str,
        domain: str,
        name: str,
        type: str,
        ttl: int,
        values: Sequence[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props = {
            "server": server, "domain": domain, "name": name, "type": type, "ttl": ttl, "values": list(values),
        }  # fmt: skip
        super().__init__(ZoneRecordProvider(), resource, props, opts)
