"""aws:route53: Zone, Record, getZone. https://www.pulumi.com/registry/packages/aws/api-docs/route53/record/"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from localcloud.plugins.aws.common import TAGS, from_tags, gone_on, to_tags
from localcloud.plugins.resource import GoneError, PluginError, Type, Values, flag, mapping, number, several, text

_QUOTED = ("TXT", "SPF")
_HOSTS = ("A", "AAAA", "CNAME", "MX", "NS", "PTR", "SRV", "SVCB", "HTTPS")
_TYPES = (*_HOSTS, "CAA", "DS", "NAPTR", "SOA", "SPF", "SSHFP", "TLSA", "TXT")


def _bare(name: str) -> str:
    """A name as the provider keeps it: lower case, no final dot, `*` for `\\052`."""
    return name.rstrip(".").lower().replace("\\052", "*")


def _zone_outputs(api: Any, found: Values) -> dict[str, Any]:
    identity = found["HostedZone"]["Id"].rpartition("/")[2]
    servers = sorted((found.get("DelegationSet") or {}).get("NameServers", ()))
    return {
        "zoneId": identity,
        "arn": f"arn:aws:route53:::hostedzone/{identity}",
        "nameServers": servers,
        "primaryNameServer": servers[0] if servers else "",
    }


class Zone(Type):
    token = "aws:route53/zone:Zone"
    named = "name"
    inputs = {
        "name": text(replaces=True),
        "comment": text(default="Managed by Pulumi"),
        "delegationSetId": text(replaces=True),
        "enableAcceleratedRecovery": flag(),
        "forceDestroy": flag(default=False),
        "vpcs": several(),
        **TAGS,
    }

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        if given.get("vpcs"):
            raise PluginError(
                "aws: the stand-in makes public hosted zones only; PLUGINS=real takes the vendor's plugin"
            )
        api = self.api.client("route53")
        optional = {"DelegationSetId": given["delegationSetId"]} if given.get("delegationSetId") else {}
        made = api.create_hosted_zone(
            Name=given["name"],
            CallerReference=uuid.uuid4().hex,
            HostedZoneConfig={"Comment": given.get("comment") or ""},
            **optional,
        )
        identity = made["HostedZone"]["Id"].rpartition("/")[2]
        if given.get("tags"):
            self._tag(identity, given["tags"], ())
        return identity, {**_zone_outputs(self.api, made), "tagsAll": dict(given.get("tags") or {})}

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        api = self.api.client("route53")
        with gone_on("NoSuchHostedZone"):
            found = api.get_hosted_zone(Id=identity)
            tags = api.list_tags_for_resource(ResourceType="hostedzone", ResourceId=identity)["ResourceTagSet"]
        now = {
            "name": _bare(found["HostedZone"]["Name"]),
            "comment": found["HostedZone"]["Config"].get("Comment") or None,
            "tags": from_tags(tags.get("Tags")) or None,
        }
        return {**_zone_outputs(self.api, found), "tagsAll": now["tags"] or {}}, now

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        if old.get("comment") != new.get("comment"):
            self.api.client("route53").update_hosted_zone_comment(Id=identity, Comment=new.get("comment") or "")
        gone = set(old.get("tags") or {}) - set(new.get("tags") or {})
        if gone or new.get("tags"):
            self._tag(identity, new.get("tags") or {}, sorted(gone))
        return {"tagsAll": dict(new.get("tags") or {})}

    def delete(self, identity: str, state: Values) -> None:
        api = self.api.client("route53")
        with gone_on("NoSuchHostedZone"):
            if state.get("forceDestroy"):
                pages = api.get_paginator("list_resource_record_sets").paginate(HostedZoneId=identity)
                sets = [
                    each for page in pages for each in page["ResourceRecordSets"] if each["Type"] not in ("SOA", "NS")
                ]
                for each in sets:
                    change = {"Action": "DELETE", "ResourceRecordSet": each}
                    api.change_resource_record_sets(HostedZoneId=identity, ChangeBatch={"Changes": [change]})
            api.delete_hosted_zone(Id=identity)

    def same(self, key: str, before: Any, after: Any) -> bool:
        if key == "name" and isinstance(before, str) and isinstance(after, str):
            return _bare(before) == _bare(after)
        return super().same(key, before, after)

    def _tag(self, identity: str, tags: Mapping[str, str], gone: Any) -> None:
        asked = {"AddTags": to_tags(tags), "RemoveTagKeys": list(gone)}
        self.api.client("route53").change_tags_for_resource(
            ResourceType="hostedzone", ResourceId=identity, **{key: value for key, value in asked.items() if value}
        )


class Record(Type):
    """A record set with simple, weighted or multivalue routing. TXT values lack their outer quotes, which are added."""

    token = "aws:route53/record:Record"
    inputs = {
        "zoneId": text(required=True, replaces=True),
        "name": text(required=True, replaces=True),
        "type": text(
            required=True,
            choices=_TYPES,
        ),
        "ttl": number(),
        "records": several(),
        "aliases": several(),
        "setIdentifier": text(),
        "weightedRoutingPolicies": several(),
        "multivalueAnswerRoutingPolicy": flag(),
        "failoverRoutingPolicies": several(),
        "geolocationRoutingPolicies": several(),
        "geoproximityRoutingPolicy": mapping(),
        "latencyRoutingPolicies": several(),
        "cidrRoutingPolicy": mapping(),
        "healthCheckId": text(),
        "allowOverwrite": flag(computed=True),
    }
    _elsewhere = (
        "aliases",
        "failoverRoutingPolicies",
        "geolocationRoutingPolicies",
        "geoproximityRoutingPolicy",
        "latencyRoutingPolicies",
        "cidrRoutingPolicy",
        "healthCheckId",
    )

    def faults(self, given: Values) -> list[tuple[str, str]]:
        found = super().faults(given)
        for key in self._elsewhere:
            if given.get(key):
                found.append((key, f"the stand-in has no {key}; PLUGINS=real takes the vendor's plugin"))
        if given.get("records") is not None and given.get("ttl") is None:
            found.append(("ttl", "all of `records,ttl` must be specified"))
        if not given.get("records") and not given.get("aliases"):
            found.append(("records", "one of `aliases,records` must be specified"))
        return found

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        action = "UPSERT" if given.get("allowOverwrite") else "CREATE"
        self._change(given["zoneId"], (action, given))
        name = self._full(given)
        parts = [
            given["zoneId"],
            name,
            given["type"],
            *([given["setIdentifier"]] if given.get("setIdentifier") else []),
        ]
        return "_".join(parts), {
            "fqdn": name,
            "name": given["name"],
            "allowOverwrite": bool(given.get("allowOverwrite")),
        }

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        zone, _, rest = identity.partition("_")
        name, _, rtype = rest.rpartition("_")
        if state.get("type"):
            rtype, name = state["type"], self._full(state)
        found = self._find(zone, name, rtype, state.get("setIdentifier"))
        values = [each["Value"] for each in found.get("ResourceRecords", ())]
        now = {
            "zoneId": zone,
            "name": state.get("name") or name,
            "type": rtype,
            "ttl": found.get("TTL"),
            "records": [_unquoted(value) if rtype in _QUOTED else value for value in values],
            "setIdentifier": found.get("SetIdentifier"),
        }
        return {"fqdn": name}, now

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        moved = (old["type"], old.get("setIdentifier")) != (new["type"], new.get("setIdentifier"))
        if moved:
            self._change(new["zoneId"], ("DELETE", old), ("CREATE", new))
        else:
            self._change(new["zoneId"], ("UPSERT", new))
        return {"fqdn": self._full(new)}

    def delete(self, identity: str, state: Values) -> None:
        found = self._find(state["zoneId"], self._full(state), state["type"], state.get("setIdentifier"))
        change = {"Action": "DELETE", "ResourceRecordSet": found}
        with gone_on("NoSuchHostedZone"):
            self.api.client("route53").change_resource_record_sets(
                HostedZoneId=state["zoneId"], ChangeBatch={"Changes": [change]}
            )

    def same(self, key: str, before: Any, after: Any) -> bool:
        if key == "name" and isinstance(before, str) and isinstance(after, str):
            return _bare(before) == _bare(after)
        if key == "records" and isinstance(before, list) and isinstance(after, list):
            return sorted(map(str, before)) == sorted(map(str, after))
        return super().same(key, before, after)

    def _find(self, zone: str, name: str, rtype: str, identifier: str | None) -> dict[str, Any]:
        with gone_on("NoSuchHostedZone"):
            start = {"StartRecordName": name, "StartRecordType": rtype}
            listed = self.api.client("route53").list_resource_record_sets(HostedZoneId=zone, MaxItems="100", **start)
        for each in listed["ResourceRecordSets"]:
            if (_bare(each["Name"]), each["Type"], each.get("SetIdentifier")) == (_bare(name), rtype, identifier):
                return dict(each)
        raise GoneError(f"{zone}_{name}_{rtype}")

    def _change(self, zone: str, *changes: tuple[str, Values]) -> None:
        batch = [{"Action": action, "ResourceRecordSet": self._set(values)} for action, values in changes]
        self.api.client("route53").change_resource_record_sets(
            HostedZoneId=zone, ChangeBatch={"Comment": "Managed by Pulumi", "Changes": batch}
        )

    def _set(self, given: Values) -> dict[str, Any]:
        values = [f'"{each}"' if given["type"] in _QUOTED else each for each in given["records"]]
        shown: dict[str, Any] = {
            "Name": self._full(given),
            "Type": given["type"],
            "TTL": int(given["ttl"]),
            "ResourceRecords": [{"Value": each} for each in values],
        }
        if given.get("setIdentifier"):
            shown["SetIdentifier"] = given["setIdentifier"]
        for policy in given.get("weightedRoutingPolicies") or ():
            shown["Weight"] = int(policy["weight"])
        if given.get("multivalueAnswerRoutingPolicy"):
            shown["MultiValueAnswer"] = True
        return shown

    def _full(self, given: Values) -> str:
        """The name below its zone, whether or not the user wrote the zone too."""
        zone = _bare(self.api.client("route53").get_hosted_zone(Id=given["zoneId"])["HostedZone"]["Name"])
        name = _bare(given["name"])
        return zone if not name else name if name == zone or name.endswith(f".{zone}") else f"{name}.{zone}"


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def get_zone(api: Any, given: Values) -> dict[str, Any]:
    """One hosted zone by id or name. Raises PluginError for none and for several, as the provider does."""
    client = api.client("route53")
    if given.get("zoneId"):
        chosen = client.get_hosted_zone(Id=given["zoneId"])["HostedZone"]
    else:
        if not given.get("name"):
            raise PluginError("aws: getZone: one of `name,zoneId` must be specified")
        private = bool(given.get("privateZone"))
        pages = client.get_paginator("list_hosted_zones").paginate()
        wanted = [
            each
            for page in pages
            for each in page["HostedZones"]
            if _bare(each["Name"]) == _bare(given["name"]) and bool(each["Config"].get("PrivateZone")) == private
        ]
        if not wanted:
            raise PluginError(f"aws: getZone: no matching Route 53 Hosted Zone found for {given['name']}")
        if len(wanted) > 1:
            raise PluginError(f"aws: getZone: multiple Route 53 Hosted Zones matched {given['name']}; use zoneId")
        (chosen,) = wanted
    found = client.get_hosted_zone(Id=chosen["Id"])
    outputs = _zone_outputs(api, found)
    return {
        **outputs,
        "id": outputs["zoneId"],
        "name": _bare(chosen["Name"]),
        "privateZone": bool(chosen["Config"].get("PrivateZone")),
        "comment": chosen["Config"].get("Comment", ""),
        "callerReference": chosen.get("CallerReference", ""),
        "resourceRecordSetCount": chosen.get("ResourceRecordSetCount", 0),
        "tags": {},
    }


TYPES = (Zone, Record)
FUNCTIONS: Mapping[str, Callable[[Any, Values], dict[str, Any]]] = {"aws:route53/getZone:getZone": get_zone}
