"""Route53's XML, both ways."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from localcloud.aws.route53.names import BadNameError, normalize
from localcloud.aws.route53.records import Action, Change, RecordSet
from localcloud.aws.route53.store import NAME_SERVERS, ChangeInfo, Zone
from localcloud.aws.wire import AwsError, Reply, request_id, xml

NAMESPACE = "https://route53.amazonaws.com/doc/2013-04-01/"
_ROUTING = ("Weight", "Region", "Failover", "MultiValueAnswer", "HealthCheckId")
_ALIAS = ("HostedZoneId", "DNSName", "EvaluateTargetHealth")


def parse(body: bytes) -> ElementTree.Element:
    """The request's root, names without their namespace. Raises AwsError (MalformedXML)."""
    try:
        # No entity of an authenticated client on loopback is expanded from outside: expat loads none.
        root = ElementTree.fromstring(body)  # noqa: S314
    except ElementTree.ParseError as broken:
        raise AwsError("MalformedXML", f"The XML you provided was not well-formed: {broken}") from broken
    for each in root.iter():
        each.tag = each.tag.rpartition("}")[2]
    return root


def text(element: ElementTree.Element, path: str) -> str:
    found = element.find(path)
    return (found.text or "") if found is not None else ""


def changes_in(body: bytes) -> tuple[list[Change], str]:
    """The changes of a ChangeResourceRecordSetsRequest, and its comment. Raises AwsError."""
    root = parse(body)
    batch = root.find("ChangeBatch")
    if batch is None or batch.find("Changes/Change") is None:
        raise AwsError("InvalidInput", "Invalid XML ; a ChangeBatch with at least one Change is needed")
    return [_change(each) for each in batch.findall("Changes/Change")], text(batch, "Comment")


def _change(element: ElementTree.Element) -> Change:
    action = text(element, "Action")
    if action not in ("CREATE", "DELETE", "UPSERT"):
        raise AwsError("InvalidInput", f"Invalid XML ; '{action}' is none of CREATE, DELETE, UPSERT")
    given = element.find("ResourceRecordSet")
    if given is None:
        raise AwsError("InvalidInput", "Invalid XML ; a Change has a ResourceRecordSet")
    try:
        name = normalize(text(given, "Name"))
    except BadNameError as wrong:
        code, _, meaning = str(wrong).partition(": ")
        message = f"[FATAL problem: {code} ({meaning}) encountered with '{text(given, 'Name')}']"
        raise AwsError("InvalidChangeBatch", message) from wrong
    ttl = text(given, "TTL")
    if ttl and not ttl.isdecimal():
        raise AwsError("InvalidInput", f"Invalid XML ; TTL '{ttl}' is not a number")
    made = RecordSet(
        name=name,
        type=text(given, "Type"),
        ttl=int(ttl) if ttl else None,
        values=tuple(text(each, "Value") for each in given.findall("ResourceRecords/ResourceRecord")),
        identifier=text(given, "SetIdentifier"),
        routing={name: text(given, name) for name in _ROUTING if given.find(name) is not None},
        alias={name: text(given, f"AliasTarget/{name}") for name in _ALIAS if given.find("AliasTarget") is not None},
    )
    return Change(cast(Action, action), made)


def record_set(each: RecordSet) -> str:
    parts = [element("Name", f"{each.name}."), element("Type", each.type)]
    if each.identifier:
        parts.append(element("SetIdentifier", each.identifier))
    parts += [element(name, value) for name, value in each.routing.items() if name != "HealthCheckId"]
    if each.ttl is not None:
        parts.append(element("TTL", str(each.ttl)))
    if each.values:
        records = "".join(f"<ResourceRecord>{element('Value', value)}</ResourceRecord>" for value in each.values)
        parts.append(f"<ResourceRecords>{records}</ResourceRecords>")
    if each.alias:
        parts.append(
            f"<AliasTarget>{''.join(element(name, value) for name, value in each.alias.items())}</AliasTarget>"
        )
    if "HealthCheckId" in each.routing:
        parts.append(element("HealthCheckId", each.routing["HealthCheckId"]))
    return f"<ResourceRecordSet>{''.join(parts)}</ResourceRecordSet>"


def zone_element(zone: Zone) -> str:
    comment = element("Comment", zone.comment) if zone.comment else ""
    return (
        f"<HostedZone>{element('Id', f'/hostedzone/{zone.id}')}{element('Name', f'{zone.name}.')}"
        f"{element('CallerReference', zone.reference)}<Config>{comment}{element('PrivateZone', str(zone.private).lower())}</Config>"
        f"<ResourceRecordSetCount>{len(zone.sets)}</ResourceRecordSetCount></HostedZone>"
    )


def vpcs(zone: Zone) -> str:
    return f"<VPCs>{''.join(vpc(region, id_) for id_, region in zone.vpcs.items())}</VPCs>"


def vpc(region: str, id_: str) -> str:
    return f"<VPC>{element('VPCRegion', region)}{element('VPCId', id_)}</VPC>"


def delegation() -> str:
    servers = "".join(element("NameServer", name) for name in NAME_SERVERS)
    return f"<DelegationSet><NameServers>{servers}</NameServers></DelegationSet>"


def change_info(info: ChangeInfo, now: float) -> str:
    at = datetime.fromtimestamp(info.submitted, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    status = "INSYNC" if now >= info.due else "PENDING"
    comment = element("Comment", info.comment) if info.comment else ""
    return (
        f"<ChangeInfo>{element('Id', f'/change/{info.id}')}{element('Status', status)}{element('SubmittedAt', at)}"
        f"{comment}</ChangeInfo>"
    )


def tag_set(kind: str, resource: str, tags: dict[str, str]) -> str:
    items = "".join(f"<Tag>{element('Key', key)}{element('Value', value)}</Tag>" for key, value in tags.items())
    return f"<ResourceTagSet>{element('ResourceType', kind)}{element('ResourceId', resource)}<Tags>{items}</Tags></ResourceTagSet>"


def element(name: str, value: str) -> str:
    return f"<{name}>{escape(value)}</{name}>"


def answer(root: str, content: Sequence[str] | str, status: int = 200, location: str = "") -> Reply:
    joined = content if isinstance(content, str) else "".join(content)
    headers = {"x-amzn-RequestId": request_id()}
    if location:
        headers["Location"] = location
    return Reply(status=status, body=xml(f'<{root} xmlns="{NAMESPACE}">{joined}</{root}>'), headers=headers)
