"""aws:route53: Zone, Record, and the function getZone. Route53 has no region."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from localcloud.plugins.aws.common import TAGS, Tagged, from_tags, gone_on, to_tags
from localcloud.plugins.resource import (
    UNKNOWN,
    GoneError,
    PluginError,
    Type,
    Values,
    flag,
    keeping,
    number,
    plain,
    several,
    text,
)

RECORD_TYPES = (
    "A", "AAAA", "CAA", "CNAME", "DS", "HTTPS", "MX", "NAPTR", "NS", "PTR", "SOA", "SPF", "SRV", "SSHFP", "SVCB", "TLSA", "TXT",
)  # fmt: skip
_GONE = "NoSuchHostedZone"
_QUOTED = ("TXT", "SPF")
_PATIENCE = 1800.0
_LONGEST_COMMENT = 256
# Input, its field, and the API's element. Each of these makes a set one of several with the same name and type.
_POLICIES = (
    ("weightedRoutingPolicies", "weight", "Weight"),
    ("latencyRoutingPolicies", "region", "Region"),
    ("failoverRoutingPolicies", "type", "Failover"),
)
_REGIONS = {"continent": "ContinentCode", "country": "CountryCode", "subdivision": "SubdivisionCode"}
_ROUTING = (*(each[0] for each in _POLICIES), "geolocationRoutingPolicies", "multivalueAnswerRoutingPolicy")


def _bare(identity: str) -> str:
    """`/hostedzone/Z1` and `/change/C1` -> what follows the last slash."""
    return identity.rpartition("/")[2]


def _name(name: str) -> str:
    """As the provider keeps a name: lower case, no final dot."""
    return name.removesuffix(".").lower()


def _unescaped(name: str) -> str:
    """A name of an answer: Route53 writes `*` as `\\052`."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), name)


def _full(name: str, zone: str) -> str:
    """`www` and `www.unilans.net` are the same in the zone unilans.net; the empty name is the zone's."""
    wanted, end = _name(name), _name(zone)
    if wanted.endswith(end):
        return wanted
    return f"{wanted}.{end}" if wanted else end


def _wait(api: Any, info: Values | None) -> None:
    """Wait until the change has reached all name servers. The first check is immediate, because the local Route53 is fast."""
    pause, end = 0.2, time.monotonic() + _PATIENCE
    while info is not None and info["Status"] != "INSYNC":
        if time.monotonic() > end:
            raise PluginError(f"aws: {info['Id']} is not INSYNC after {_PATIENCE:.0f} s")
        info = api.client("route53").get_change(Id=_bare(info["Id"]))["ChangeInfo"]
        if info["Status"] != "INSYNC":
            time.sleep(pause)
            pause = min(pause * 2, 5.0)


def _sets(api: Any, zone: str, **start: str) -> Iterator[Mapping[str, Any]]:
    with gone_on(_GONE):
        for page in (
            api.client("route53").get_paginator("list_resource_record_sets").paginate(HostedZoneId=zone, **start)
        ):
            yield from page["ResourceRecordSets"]


def _get_zone(api: Any, identity: str) -> Mapping[str, Any]:
    with gone_on(_GONE):
        found: Mapping[str, Any] = api.client("route53").get_hosted_zone(Id=_bare(identity))
    return found


def _tags_of(api: Any, identity: str) -> dict[str, str]:
    with gone_on(_GONE):
        found = api.client("route53").list_tags_for_resource(ResourceType="hostedzone", ResourceId=identity)
    return from_tags(found["ResourceTagSet"].get("Tags"))


class Zone(Tagged):
    token = "aws:route53/zone:Zone"
    named = "name"
    inputs = {
        "name": text(replaces=True),
        "comment": text(default="Managed by Pulumi"),
        "forceDestroy": flag(default=False),
        "vpcs": several(),
        **TAGS,
    }

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        vpcs = [self._vpc(each) for each in given.get("vpcs") or ()]
        made = self.api.client("route53").create_hosted_zone(
            Name=given["name"],
            CallerReference=f"pulumi-{time.time_ns()}-{secrets.token_hex(4)}",
            HostedZoneConfig={"Comment": given.get("comment") or ""},
            **({"VPC": vpcs[0]} if vpcs else {}),
        )
        identity = _bare(made["HostedZone"]["Id"])
        with keeping(identity, {**self._outputs(identity, made, {}), "tags": None}):
            _wait(self.api, made.get("ChangeInfo"))
            self._retag(identity, {}, given.get("tags") or {})
            for each in vpcs[1:]:
                self._associate(identity, each)
        found = _get_zone(self.api, identity) if vpcs[1:] else made
        return identity, self._outputs(identity, found, given.get("tags") or {})

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        found, tags = _get_zone(self.api, identity), _tags_of(self.api, identity)
        zone = found["HostedZone"]
        now = {
            "name": _name(zone["Name"]),
            "comment": (zone.get("Config") or {}).get("Comment") or "",
            "tags": tags or None,
            "vpcs": _vpcs_of(found) or None,
        }
        return self._outputs(identity, found, tags), now

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        tags = new.get("tags") or {}
        with gone_on(_GONE):
            if (old.get("comment") or "") != (new.get("comment") or ""):
                self.api.client("route53").update_hosted_zone_comment(Id=identity, Comment=new.get("comment") or "")
            self._retag(identity, old.get("tags") or {}, tags)
            self._reassociate(identity, old.get("vpcs") or (), new.get("vpcs") or ())
        return self._outputs(identity, _get_zone(self.api, identity), tags)

    def delete(self, identity: str, state: Values) -> None:
        if state.get("forceDestroy"):
            self._empty(identity, state["name"])
        with gone_on(_GONE):
            _wait(self.api, self.api.client("route53").delete_hosted_zone(Id=identity).get("ChangeInfo"))

    def faults(self, given: Values) -> list[tuple[str, str]]:
        found, comment = super().faults(given), given.get("comment")
        if isinstance(comment, str) and len(comment) > _LONGEST_COMMENT:
            found.append(("comment", f"expected length of comment to be in the range (0 - {_LONGEST_COMMENT})"))
        return found

    def same(self, key: str, before: Any, after: Any) -> bool:
        if key == "name" and isinstance(before, str) and isinstance(after, str):
            return _name(before) == _name(after)
        if key == "vpcs":
            # It is a set, and a VPC without a region is in the provider's.
            sets = [{tuple(self._vpc(each).values()) for each in some or ()} for some in (before, after)]
            return sets[0] == sets[1]
        return super().same(key, before, after)

    def _vpc(self, given: Values) -> dict[str, str]:
        """Return a VPC as the API takes it. Without a region it is in the provider's."""
        return {"VPCId": given["vpcId"], "VPCRegion": given.get("vpcRegion") or self.api.region}

    def _associate(self, identity: str, vpc: Mapping[str, str]) -> None:
        made = self.api.client("route53").associate_vpc_with_hosted_zone(HostedZoneId=identity, VPC=vpc)
        _wait(self.api, made.get("ChangeInfo"))

    def _reassociate(self, identity: str, old: Sequence[Values], new: Sequence[Values]) -> None:
        """Add VPCs before others are removed, because a private zone keeps its last one.

        https://github.com/hashicorp/terraform-provider-aws/blob/main/internal/service/route53/zone.go (resourceZoneUpdate)
        """
        before, after = [self._vpc(each) for each in old], [self._vpc(each) for each in new]
        for vpc in (each for each in after if each not in before):
            self._associate(identity, vpc)
        for vpc in (each for each in before if each not in after):
            made = self.api.client("route53").disassociate_vpc_from_hosted_zone(HostedZoneId=identity, VPC=vpc)
            _wait(self.api, made.get("ChangeInfo"))

    def _retag(self, identity: str, old: Values, new: Values) -> None:
        changes: dict[str, Any] = {}
        if added := {key: value for key, value in new.items() if old.get(key) != value}:
            changes["AddTags"] = to_tags(added)
        if gone := sorted(set(old) - set(new)):
            changes["RemoveTagKeys"] = gone
        if changes:
            self.api.client("route53").change_tags_for_resource(
                ResourceType="hostedzone", ResourceId=identity, **changes
            )

    def _empty(self, identity: str, name: str) -> None:
        """Delete all but the zone's own NS and SOA, a hundred at a time."""
        mine = [
            each
            for each in _sets(self.api, identity)
            if _name(each["Name"]) != _name(name) or each["Type"] not in ("NS", "SOA")
        ]
        for first in range(0, len(mine), 100):
            changes = [{"Action": "DELETE", "ResourceRecordSet": each} for each in mine[first : first + 100]]
            _change(self.api, identity, changes, "Deleted by Pulumi")

    @staticmethod
    def _outputs(identity: str, found: Values, tags: Values) -> dict[str, Any]:
        servers = list((found.get("DelegationSet") or {}).get("NameServers", ()))
        return {
            "arn": f"arn:aws:route53:::hostedzone/{identity}",
            "zoneId": identity,
            "name": _name(found["HostedZone"]["Name"]),
            "nameServers": sorted(servers),
            "primaryNameServer": servers[0] if servers else "",
            "tagsAll": dict(tags),
        }


def _change(api: Any, zone: str, changes: Sequence[Values], comment: str = "Managed by Pulumi") -> None:
    done = api.client("route53").change_resource_record_sets(
        HostedZoneId=zone, ChangeBatch={"Comment": comment, "Changes": list(changes)}
    )
    _wait(api, done.get("ChangeInfo"))


class Record(Type):
    """A TXT or SPF value is given without its outer quotes, and `" "` within it where one string ends and the next begins;
    the provider puts the outer quotes and splits nothing, so that a string over 255 characters is refused by Route53."""

    token = "aws:route53/record:Record"
    inputs = {
        "zoneId": text(required=True, replaces=True),
        "name": text(required=True, replaces=True),
        "type": text(required=True, choices=RECORD_TYPES),
        "ttl": number(),
        "records": several(),
        "aliases": several(),
        "setIdentifier": text(),
        "allowOverwrite": flag(computed=True),
        "healthCheckId": text(),
        "weightedRoutingPolicies": several(),
        "latencyRoutingPolicies": several(),
        "failoverRoutingPolicies": several(),
        "geolocationRoutingPolicies": several(),
        "multivalueAnswerRoutingPolicy": flag(),
    }

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        zone = self._zone_name(given["zoneId"])
        _change(
            self.api,
            _bare(given["zoneId"]),
            [_to(_set(given, zone), "UPSERT" if given.get("allowOverwrite") else "CREATE")],
        )
        words = [given["zoneId"], _name(given["name"]), given["type"]]
        return "_".join(words + [each for each in [given.get("setIdentifier")] if each]), self._outputs(given, zone)

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        # A changed type or set identifier leaves the id as it was, so what the state has goes before the id.
        key = state if state.get("type") else _parsed(identity)
        zone, found = self._find(key)
        now = {"zoneId": key["zoneId"], "name": _name(key["name"]), "type": found["Type"], **_inputs(found)}
        return self._outputs(now, zone), now

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        zone = self._zone_name(new["zoneId"])
        if (old["type"], old.get("setIdentifier") or "") == (new["type"], new.get("setIdentifier") or ""):
            changes = [_to(_set(new, zone), "UPSERT")]
        else:
            made = "UPSERT" if new.get("allowOverwrite") else "CREATE"
            changes = [_to(_set(old, zone), "DELETE"), _to(_set(new, zone), made)]
        _change(self.api, _bare(new["zoneId"]), changes)
        return self._outputs(new, zone)

    def delete(self, identity: str, state: Values) -> None:
        """Delete the record set with its present values. As with the real provider, a set that changes at the same moment stays."""
        from botocore.exceptions import ClientError

        _, found = self._find(state if state.get("type") else _parsed(identity))
        try:
            with gone_on(_GONE):
                _change(self.api, _bare(state["zoneId"]), [_to(found, "DELETE")], "Deleted by Pulumi")
        except ClientError as refused:
            if refused.response.get("Error", {}).get("Code") != "InvalidChangeBatch":
                raise

    def faults(self, given: Values) -> list[tuple[str, str]]:
        found = super().faults(given)
        # An empty list counts as not given; one that is not known yet may be anything.
        if UNKNOWN not in (given.get("records"), given.get("aliases")):
            given_ones = [key for key in ("aliases", "records") if given.get(key)]
            if len(given_ones) != 1:
                found.append(("records", "exactly one of `aliases`, `records` must be given"))
            if given.get("aliases") and given.get("ttl") is not None:
                found.append(("ttl", "`ttl` conflicts with `aliases`"))
        policies = [key for key in _ROUTING if given.get(key)]
        if len(policies) > 1:
            found += [(key, f"conflicts with {policies[0]!r}") for key in policies[1:]]
        if policies and not given.get("setIdentifier"):
            found.append((policies[0], "needs `setIdentifier`"))
        return found

    def same(self, key: str, before: Any, after: Any) -> bool:
        compare = _COMPARED.get(key)
        if compare is None:
            return super().same(key, before, after)
        return bool(compare(before) == compare(after))

    def _zone_name(self, identity: str) -> str:
        return str(_get_zone(self.api, identity)["HostedZone"]["Name"])

    def _find(self, key: Values) -> tuple[str, Mapping[str, Any]]:
        zone = self._zone_name(key["zoneId"])
        name, kind, identifier = _full(key["name"], zone), key["type"], key.get("setIdentifier") or ""
        for each in _sets(self.api, _bare(key["zoneId"]), StartRecordName=name, StartRecordType=kind):
            if (_name(_unescaped(each["Name"])), each["Type"]) != (name, kind):
                break
            if each.get("SetIdentifier", "") == identifier:
                return zone, each
        raise GoneError(f"{name} {kind}")

    @staticmethod
    def _outputs(given: Values, zone: str) -> dict[str, Any]:
        return {"name": _name(given["name"]), "fqdn": _full(given["name"], zone)}


# What is compared of an input where the order, the case or an absence makes no difference.
_COMPARED: Mapping[str, Callable[[Any], Any]] = {
    "zoneId": lambda value: _bare(value or ""),
    "name": lambda value: _name(value or ""),
    "records": lambda value: sorted(value or ()),
    "aliases": lambda value: [plain({**each, "name": _name(each["name"])}) for each in value or ()],
    "multivalueAnswerRoutingPolicy": bool,
}


def _to(record_set: Values, action: str) -> dict[str, Any]:
    return {"Action": action, "ResourceRecordSet": dict(record_set)}


def _set(given: Values, zone: str) -> dict[str, Any]:
    """Inputs -> ResourceRecordSet"""
    made: dict[str, Any] = {"Name": _full(given["name"], zone), "Type": given["type"]}
    if given.get("records"):
        quoted = given["type"] in _QUOTED
        made["ResourceRecords"] = [{"Value": f'"{each}"' if quoted else each} for each in given["records"]]
        if given.get("ttl") is not None:
            made["TTL"] = int(given["ttl"])
    for each in given.get("aliases") or ():
        target = {"HostedZoneId": each["zoneId"], "DNSName": each["name"]}
        made["AliasTarget"] = {**target, "EvaluateTargetHealth": bool(each["evaluateTargetHealth"])}
    for key, field, element in _POLICIES:
        for each in given.get(key) or ():
            made[element] = plain(each[field])
    for each in given.get("geolocationRoutingPolicies") or ():
        made["GeoLocation"] = {_REGIONS[key]: value for key, value in each.items() if value}
    if given.get("multivalueAnswerRoutingPolicy"):
        made["MultiValueAnswer"] = True
    for key, element in (("healthCheckId", "HealthCheckId"), ("setIdentifier", "SetIdentifier")):
        if given.get(key):
            made[element] = given[key]
    return made


def _inputs(found: Values) -> dict[str, Any]:
    """ResourceRecordSet -> inputs, with None for what it does not have."""
    values = [each["Value"] for each in found.get("ResourceRecords") or ()]
    if found["Type"] in _QUOTED:
        values = [each[1:-1] if len(each) > 1 and each[0] == each[-1] == '"' else each for each in values]
    now: dict[str, Any] = {"records": values or None, "ttl": found.get("TTL"), "aliases": None}
    if alias := found.get("AliasTarget"):
        target = {"name": _name(alias["DNSName"]), "zoneId": alias["HostedZoneId"]}
        now["aliases"] = [{**target, "evaluateTargetHealth": alias["EvaluateTargetHealth"]}]
    for key, field, element in _POLICIES:
        now[key] = [{field: found[element]}] if found.get(element) is not None else None
    region = found.get("GeoLocation")
    now["geolocationRoutingPolicies"] = (
        [{key: region[_REGIONS[key]] for key in _REGIONS if _REGIONS[key] in region}] if region else None
    )
    now["multivalueAnswerRoutingPolicy"] = found.get("MultiValueAnswer") or None
    return {**now, "healthCheckId": found.get("HealthCheckId"), "setIdentifier": found.get("SetIdentifier")}


def _parsed(identity: str) -> dict[str, Any]:
    """`ZONEID_name_TYPE` or `ZONEID_name_TYPE_identifier`; names and identifiers may have underscores themselves."""
    zone, *words = identity.split("_")
    index_of_type = next((index for index, word in enumerate(words) if index and word in RECORD_TYPES), 0)
    if not zone or not index_of_type:
        raise PluginError(
            f"aws: unexpected format of ID ({identity!r}), expected ZONEID_RECORDNAME_TYPE_SET-IDENTIFIER "
            "(e.g. Z4KAPRWWNC7JR_dev.example.com_NS_dev), where SET-IDENTIFIER is optional"
        )
    made = {"zoneId": zone, "name": "_".join(words[:index_of_type]).removesuffix("."), "type": words[index_of_type]}
    return {**made, "setIdentifier": "_".join(words[index_of_type + 1 :]) or None}


def _vpcs_of(found: Mapping[str, Any]) -> list[dict[str, str]]:
    listed = found.get("VPCs") or [each for each in [found.get("VPC")] if each]
    return [{"vpcId": each["VPCId"], "vpcRegion": each["VPCRegion"]} for each in listed]


def get_zone(api: Any, given: Values) -> dict[str, Any]:
    if given.get("zoneId") and given.get("name"):
        raise PluginError("aws: getZone: only one of `zone_id` or `name` may be set")
    if given.get("zoneId"):
        identity = _bare(given["zoneId"])
    else:
        private = bool(given.get("privateZone") or given.get("vpcId"))
        pages = api.client("route53").get_paginator("list_hosted_zones").paginate()
        found = [
            _bare(each["Id"])
            for page in pages
            for each in page["HostedZones"]
            if (not given.get("name") or _name(each["Name"]) == _name(given["name"]))
            and bool((each.get("Config") or {}).get("PrivateZone")) == private
        ]
        if wanted := given.get("tags"):
            found = [each for each in found if wanted.items() <= _tags_of(api, each).items()]
        if not found:
            raise PluginError("aws: getZone: no matching Route 53 Hosted Zone found")
        if len(found) > 1:
            raise PluginError(
                "aws: getZone: multiple Route 53 Hosted Zones matched; use additional constraints to reduce matches to a "
                "single Route 53 Hosted Zone"
            )
        (identity,) = found
    answer = _get_zone(api, identity)
    zone, servers = answer["HostedZone"], list((answer.get("DelegationSet") or {}).get("NameServers", ()))
    return {
        "id": identity,
        "zoneId": identity,
        "arn": f"arn:aws:route53:::hostedzone/{identity}",
        "name": _name(zone["Name"]),
        "callerReference": zone["CallerReference"],
        "comment": (zone.get("Config") or {}).get("Comment") or "",
        "privateZone": bool((zone.get("Config") or {}).get("PrivateZone")),
        "resourceRecordSetCount": zone["ResourceRecordSetCount"],
        "nameServers": servers,
        "primaryNameServer": servers[0] if servers else "",
        "tags": _tags_of(api, identity),
    }


TYPES = (Zone, Record)
