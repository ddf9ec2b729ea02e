"""Create a ZoneSoa: for how long resolvers remember that a name of a service directory's zone does not exist.

A negative answer is kept for the lesser of the SOA's TTL and its minimum (RFC 2308 section 5), which at Route53 is 900
s. This resource sets the TTL; the SOA's value keeps every byte. Route53 never deletes an SOA, so a delete restores the
former TTL. A TXT beside the SOA names the stack that set the TTL, and the former TTL. Both are written in one batch: an
`up` that is killed leaves both or neither.

A provider here is stored in the state by reference to its module and class (components/registration/resources.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, ResourceProvider, UpdateResult

from components.aws.account_settings import AWS_KEYS
from components.joyent.engine import Engine

TTL_S = 60
# In a private zone machines ask resolvers for challenges. A challenge must not be hidden for longer than HIDDEN_LIMIT_S of
# rollcall.crash_transitions.
PRIVATE_TTL_S = 5
MARK = "_rollcall-soa"
_MARK_TTL_S = 300
_NO_SUCH_ZONE = "NoSuchHostedZone"
_TEXT = re.compile(r'"(?P<stack>\S+) ttl-before=(?P<before>\d+)"')


class ZoneSoaError(Exception):
    """Another stack sets the TTL of this zone's SOA, or the zone has none."""


def mark_name(domain: str) -> str:
    return f"{MARK}.{domain}".lower()


def owner_of(values: list[str]) -> tuple[str, int] | None:
    """Return the stack that a mark names and the TTL before it, or None where Rollcall wrote no mark."""
    found = next((each for value in values if (each := _TEXT.fullmatch(value))), None)
    return (found["stack"], int(found["before"])) if found else None


class ZoneSoaProvider(ResourceProvider):
    """Sets the TTL, shows another one as drift, and restores the former one."""

    serialize_as_secret_always = False
    # A class attribute, so that what is stored in the state stays a bare reference.
    config: Mapping[str, str] = {}

    def configure(self, req: Any) -> None:
        self.config = {key: value for key in AWS_KEYS if (value := req.config.get(key)) is not None}

    def create(self, props: dict[str, Any]) -> CreateResult:
        zone = _Zone(self.config, props)
        marked = zone.owner()
        if marked is not None and marked[0] != props["stack"]:
            raise ZoneSoaError(second_owner(props["domain"], marked[0]))
        soa = zone.soa()
        before = marked[1] if marked is not None else int(soa["TTL"])
        text = f'"{props["stack"]} ttl-before={before}"'
        zone.change(zone.with_ttl(soa, props["ttl"]), *([] if marked is not None else [zone.mark("CREATE", text)]))
        return CreateResult(f"{props['zone']}/soa", {**props, "before": before})

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        try:
            found = _Zone(self.config, props).soa()
        except _gone() as refused:
            if not _is_gone(refused):
                raise
            return ReadResult("", {})
        return ReadResult(id_, {**props, "ttl": int(found["TTL"])})

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        moved = [key for key in ("zone", "stack") if _olds.get(key) != _news.get(key)]
        changed = bool(moved) or _olds.get("ttl") != _news.get("ttl")
        return DiffResult(changes=changed, replaces=moved, stables=[], delete_before_replace=True)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        zone = _Zone(self.config, _news)
        zone.change(zone.with_ttl(zone.soa(), _news["ttl"]))
        return UpdateResult({**_news, "before": _olds["before"]})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        zone, domain = _Zone(self.config, _props), _props["domain"]
        try:
            soa, marked = zone.soa(), zone.owner()
        except _gone() as refused:
            if not _is_gone(refused):
                raise
            return
        changes = []
        if int(soa["TTL"]) == int(_props["ttl"]):
            changes.append(zone.with_ttl(soa, _props["before"]))
        else:
            Engine().say(
                f"the SOA of {domain} has a TTL of {soa['TTL']} that Rollcall did not set: it stays", warning=True
            )
        if marked is not None and marked[0] == _props["stack"]:
            changes.append(zone.mark("DELETE", f'"{marked[0]} ttl-before={marked[1]}"'))
        zone.change(*changes)


def second_owner(domain: str, stack: str) -> str:
    return (
        f"rollcall:serviceDiscovery.manageSoa: the stack {stack} sets the TTL of the SOA of {domain}. Set manageSoa to false in all but "
        f"one of the stacks that share the zone; if that stack is gone, delete the TXT record {mark_name(domain)}."
    )


class _Zone:
    """The SOA and the mark of a hosted zone, by boto3. Raises what its client raises."""

    def __init__(self, config: Mapping[str, str], props: Mapping[str, Any]) -> None:
        from components.aws.session import session_of

        self._client = session_of(config.get).client("route53", "us-east-1")
        self._id, self._domain = str(props["zone"]), str(props["domain"])

    def soa(self) -> dict[str, Any]:
        found = self._at(self._domain).get("SOA")
        if found is None:
            raise ZoneSoaError(
                f"rollcall:serviceDiscovery.zone: {self._domain} has no SOA. Name a hosted zone of Route53."
            )
        return found

    def owner(self) -> tuple[str, int] | None:
        found = self._at(mark_name(self._domain)).get("TXT", {})
        return owner_of([each["Value"] for each in found.get("ResourceRecords", ())])

    def with_ttl(self, soa: Mapping[str, Any], ttl: Any) -> dict[str, Any]:
        return {"Action": "UPSERT", "ResourceRecordSet": {**soa, "TTL": int(ttl)}}

    def mark(self, action: str, text: str) -> dict[str, Any]:
        values = [{"Value": text}]
        name = mark_name(self._domain)
        return {
            "Action": action,
            "ResourceRecordSet": {"Name": name, "Type": "TXT", "TTL": _MARK_TTL_S, "ResourceRecords": values},
        }

    def change(self, *changes: dict[str, Any]) -> None:
        if changes:
            self._client.change_resource_record_sets(HostedZoneId=self._id, ChangeBatch={"Changes": list(changes)})

    def _at(self, name: str) -> Mapping[str, dict[str, Any]]:
        from components.dns.route53_zones import sets_of

        return {kind: dict(each) for kind, each in sets_of(self._client, self._id)(f"{name.lower()}.").items()}


def _gone() -> type[Exception]:
    from botocore.exceptions import ClientError

    return ClientError  # type: ignore[no-any-return]


def _is_gone(refused: Any) -> bool:
    return bool(refused.response["Error"]["Code"] == _NO_SUCH_ZONE)


class ZoneSoa(Resource, module="rollcall", name="ZoneSoa"):  # type: ignore[call-arg]
    """The negative TTL of the hosted zone `zone` (its id), named `domain`, for `stack` alone."""

    before: pulumi.Output[int]

    def __init__(
        self,
        name: str,
        *,
        zone: pulumi.Input[str],
        domain: str,
        stack: str,
        ttl: int = TTL_S,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props = {"zone": zone, "domain": domain, "stack": stack, "ttl": ttl, "before": None}
        super().__init__(ZoneSoaProvider(), name, props, opts)
