"""Route53's API: REST with XML. https://docs.aws.amazon.com/Route53/latest/APIReference/"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from localcloud.aws.authorization import Need
from localcloud.aws.operations import by_path, not_emulated
from localcloud.aws.policy import Value
from localcloud.aws.route53 import document
from localcloud.aws.route53.document import answer, element
from localcloud.aws.route53.names import BadNameError, normalize, order
from localcloud.aws.route53.pace import HARSH, PRESENT, Limits, Throttle
from localcloud.aws.route53.records import Change
from localcloud.aws.route53.store import Store, Zone
from localcloud.aws.wire import AwsError, Call, Reply

if TYPE_CHECKING:
    from localcloud.network.faults import Faults

_VERSION = "2013-04-01"
_PAGE = 300
_ZONES_PAGE = 100
_CHECKS_PAGE = 1000
# https://docs.aws.amazon.com/Route53/latest/APIReference/API_ChangeTagsForResource.html
_MOST_TAGS, _LONGEST_KEY, _LONGEST_VALUE = 10, 128, 256
Check = Callable[[list[Need]], None]


@dataclass(frozen=True)
class _Route:
    """`name` is the action, `resource` what policies call it; `act` answers, given the id in the path."""

    name: str
    resource: str
    act: Callable[[Call, str], Reply]


class Route53:
    """`limits` may be changed at any time. Switches of `faults`: `propagation=SECONDS` (of changes made while it is on),
    `prior-request` (PriorRequestNotComplete), `harsh` (five requests a second whatever the limits)."""

    def __init__(self, *, clock: Callable[[], float], faults: Faults | None = None, limits: Limits = PRESENT) -> None:
        self._faults = faults
        self._throttle = Throttle(limits, clock)
        self._harsh = Throttle(HARSH, clock)
        self.store = Store(clock, self._propagation)

    @property
    def limits(self) -> Limits:
        return self._throttle.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._throttle.limits = limits

    def answer(self, call: Call, check: Check) -> Reply:
        """`check` raises for what the caller may not do. Raises AwsError."""
        route, identifier = self._route(call)
        admitted = self._throttle.admits(route.name)
        if self._switch("harsh") is not None:
            admitted = self._harsh.admits(route.name)
        if not admitted:
            raise AwsError("Throttling", "Rate exceeded", 400)
        if route.name == "ChangeResourceRecordSets":
            return self._change_sets(call, identifier, check)
        resource = f"arn:aws:route53:::{route.resource}/{identifier}" if route.resource else "*"
        check([Need(action=f"route53:{route.name}", resource=resource)])
        return route.act(call, identifier)

    def _switch(self, name: str) -> str | None:
        return self._faults.switch("route53", name) if self._faults is not None else None

    def _propagation(self) -> float:
        return float(self._switch("propagation") or 0)

    def _route(self, call: Call) -> tuple[_Route, str]:
        version, *parts = call.segments or [""]
        if version != _VERSION:
            raise AwsError("UnknownOperationException", f"No operation at {call.path}", 404)
        identifier = parts[1] if len(parts) > 1 else ""
        # `rrset` may be asked for with a final slash; the place of the id is a star.
        shape = "/".join("*" if index == 1 else part for index, part in enumerate(parts))
        if shape == "tags/*/" or shape.startswith("tags/*/"):
            identifier, shape = parts[2], "tags/*/*"
        found = self._routes().get((call.method, shape))
        if found is None and (known := by_path(call)):
            raise not_emulated(call, "it has zones, record sets and their tags", action=known)
        if found is None:
            raise AwsError("UnknownOperationException", f"Route53 has no {call.method} {call.path}", 404)
        return found, identifier

    def _routes(self) -> dict[tuple[str, str], _Route]:
        zone = "hostedzone"
        return {
            ("POST", "hostedzone/*/rrset"): _Route("ChangeResourceRecordSets", zone, self._get_zone),
            ("GET", "hostedzone/*/rrset"): _Route("ListResourceRecordSets", zone, self._list_sets),
            ("POST", "hostedzone"): _Route("CreateHostedZone", "", self._create_zone),
            ("GET", "hostedzone"): _Route("ListHostedZones", "", self._list_zones),
            ("GET", "hostedzone/*"): _Route("GetHostedZone", zone, self._get_zone),
            ("POST", "hostedzone/*"): _Route("UpdateHostedZoneComment", zone, self._comment),
            ("DELETE", "hostedzone/*"): _Route("DeleteHostedZone", zone, self._delete_zone),
            ("POST", "hostedzone/*/associatevpc"): _Route("AssociateVPCWithHostedZone", zone, self._associate),
            ("POST", "hostedzone/*/disassociatevpc"): _Route("DisassociateVPCFromHostedZone", zone, self._disassociate),
            ("GET", "hostedzonesbyname"): _Route("ListHostedZonesByName", "", self._list_by_name),
            ("GET", "hostedzonelimit/*/MAX_RRSETS_BY_ZONE"): _Route("GetHostedZoneLimit", zone, self._zone_limit),
            ("GET", "accountlimit/*"): _Route("GetAccountLimit", "", self._account_limit),
            ("GET", "hostedzonecount"): _Route("GetHostedZoneCount", "", self._count),
            ("GET", "healthcheck"): _Route("ListHealthChecks", "", self._list_checks),
            ("GET", "healthcheckcount"): _Route("GetHealthCheckCount", "", self._count_checks),
            ("GET", "change/*"): _Route("GetChange", "change", self._get_change),
            ("GET", "tags/*/*"): _Route("ListTagsForResource", zone, self._tags),
            ("POST", "tags/*/*"): _Route("ChangeTagsForResource", zone, self._change_tags),
        }

    def _change_sets(self, call: Call, zone_id: str, check: Check) -> Reply:
        changes, comment = document.changes_in(call.body)
        _check_health(changes)
        arn = f"arn:aws:route53:::hostedzone/{zone_id}"
        check([Need(action="route53:ChangeResourceRecordSets", resource=arn, context=_conditions(changes))])
        if self._switch("prior-request") is not None:
            raise AwsError(
                "PriorRequestNotComplete",
                "The request was rejected because Route 53 was still processing a prior request.",
            )
        info = self.store.change(zone_id, changes, comment)
        # The answer to a change always says PENDING.
        return answer("ChangeResourceRecordSetsResponse", document.change_info(info, info.due - 1))

    def _list_sets(self, call: Call, zone_id: str) -> Reply:
        query, zone = call.query_parameters(), self.store.zone(zone_id)
        limit = _limit(query, _PAGE)
        sets = zone.ordered()
        if query.get("type") and not query.get("name"):
            raise AwsError("InvalidInput", "The input is not valid: a type needs a name")
        if query.get("name"):
            start = (order(_normal(query["name"])), query.get("type", ""), query.get("identifier", ""))
            sets = [each for each in sets if (order(each.name), each.type, each.identifier) >= start]
        page, rest = sets[:limit], sets[limit:]
        content = [f"<ResourceRecordSets>{''.join(map(document.record_set, page))}</ResourceRecordSets>"]
        content.append(element("IsTruncated", "true" if rest else "false"))
        if rest:
            content += [element("NextRecordName", f"{rest[0].name}."), element("NextRecordType", rest[0].type)]
            if rest[0].identifier:
                content.append(element("NextRecordIdentifier", rest[0].identifier))
        content.append(element("MaxItems", str(limit)))
        return answer("ListResourceRecordSetsResponse", content)

    def _create_zone(self, call: Call, _: str) -> Reply:
        root = document.parse(call.body)
        name, reference = document.text(root, "Name"), document.text(root, "CallerReference")
        if not reference:
            raise AwsError("InvalidInput", "Invalid XML ; a CallerReference is needed")
        is_private = document.text(root, "HostedZoneConfig/PrivateZone") == "true"
        vpc = _vpc_in(root) if root.find("VPC") is not None else None
        if is_private and vpc is None:
            raise AwsError("InvalidInput", "When you create a private hosted zone, you must also specify a VPC.")
        _normal(name)
        zone = self.store.add_zone(name, reference, document.text(root, "HostedZoneConfig/Comment"), vpc)
        info = document.change_info(self.store.submitted(), self.store.clock() - 1)
        return answer(
            "CreateHostedZoneResponse",
            [document.zone_element(zone), info, document.vpc(*vpc) if vpc else document.delegation()],
            status=201,
            location=f"https://route53.amazonaws.com/{_VERSION}/hostedzone/{zone.id}",
        )

    def _get_zone(self, _: Call, zone_id: str) -> Reply:
        zone = self.store.zone(zone_id)
        more = document.vpcs(zone) if zone.private else document.delegation()
        return answer("GetHostedZoneResponse", [document.zone_element(zone), more])

    def _associate(self, call: Call, zone_id: str) -> Reply:
        info = self.store.associate(zone_id, *_vpc_in(document.parse(call.body)))
        return answer("AssociateVPCWithHostedZoneResponse", document.change_info(info, info.due - 1))

    def _disassociate(self, call: Call, zone_id: str) -> Reply:
        info = self.store.disassociate(zone_id, _vpc_in(document.parse(call.body))[1])
        return answer("DisassociateVPCFromHostedZoneResponse", document.change_info(info, info.due - 1))

    def _comment(self, call: Call, zone_id: str) -> Reply:
        zone = self.store.zone(zone_id)
        zone.comment = document.text(document.parse(call.body), "Comment")
        return answer("UpdateHostedZoneCommentResponse", document.zone_element(zone))

    def _delete_zone(self, _: Call, zone_id: str) -> Reply:
        info = self.store.remove_zone(zone_id)
        return answer("DeleteHostedZoneResponse", document.change_info(info, info.due - 1))

    def _list_zones(self, call: Call, _: str) -> Reply:
        query = call.query_parameters()
        limit, zones = _limit(query, _ZONES_PAGE), sorted(self.store.all(), key=lambda zone: zone.id)
        if marker := query.get("marker"):
            zones = [zone for zone in zones if zone.id >= marker.rpartition("/")[2]]
        page, rest = zones[:limit], zones[limit:]
        content = [f"<HostedZones>{''.join(map(document.zone_element, page))}</HostedZones>"]
        content += [element("Marker", query["marker"])] if query.get("marker") else []
        content.append(element("IsTruncated", "true" if rest else "false"))
        content += [element("NextMarker", rest[0].id)] if rest else []
        return answer("ListHostedZonesResponse", [*content, element("MaxItems", str(limit))])

    def _list_by_name(self, call: Call, _: str) -> Reply:
        query = call.query_parameters()
        limit = _limit(query, _ZONES_PAGE)

        def position(zone: Zone) -> tuple[tuple[str, ...], str]:
            return order(zone.name), zone.id

        zones = sorted(self.store.all(), key=position)
        if name := query.get("dnsname"):
            start = (order(_normal(name)), query.get("hostedzoneid", "").rpartition("/")[2])
            zones = [zone for zone in zones if position(zone) >= start]
        page, rest = zones[:limit], zones[limit:]
        content = [f"<HostedZones>{''.join(map(document.zone_element, page))}</HostedZones>"]
        content += [element("DNSName", query["dnsname"])] if query.get("dnsname") else []
        content.append(element("IsTruncated", "true" if rest else "false"))
        if rest:
            content += [element("NextDNSName", f"{rest[0].name}."), element("NextHostedZoneId", rest[0].id)]
        return answer("ListHostedZonesByNameResponse", [*content, element("MaxItems", str(limit))])

    def _count(self, _: Call, __: str) -> Reply:
        return answer("GetHostedZoneCountResponse", element("HostedZoneCount", str(len(self.store.all()))))

    def _zone_limit(self, _: Call, zone_id: str) -> Reply:
        """https://docs.aws.amazon.com/Route53/latest/APIReference/API_GetHostedZoneLimit.html"""
        found = self.store.zone(zone_id)
        return _limited("GetHostedZoneLimitResponse", "MAX_RRSETS_BY_ZONE", self.store.most_sets, len(found.sets))

    def _account_limit(self, call: Call, kind: str) -> Reply:
        """https://docs.aws.amazon.com/Route53/latest/APIReference/API_GetAccountLimit.html"""
        if kind != "MAX_HOSTED_ZONES_BY_OWNER":
            raise not_emulated(call, "it has zones, record sets and their tags", action=f"GetAccountLimit of {kind}")
        return _limited("GetAccountLimitResponse", kind, self.store.most_zones, len(self.store.all()))

    def _list_checks(self, call: Call, _: str) -> Reply:
        """Return an empty list: health checks cannot be created here.

        https://docs.aws.amazon.com/Route53/latest/APIReference/API_ListHealthChecks.html
        """
        query = call.query_parameters()
        limit = element("MaxItems", str(_limit(query, _CHECKS_PAGE)))
        marker = element("Marker", query.get("marker", ""))
        return answer("ListHealthChecksResponse", ["<HealthChecks/>", marker, element("IsTruncated", "false"), limit])

    def _count_checks(self, _: Call, __: str) -> Reply:
        return answer("GetHealthCheckCountResponse", element("HealthCheckCount", "0"))

    def _get_change(self, _: Call, change_id: str) -> Reply:
        return answer("GetChangeResponse", document.change_info(self.store.info(change_id), self.store.clock()))

    def _tags(self, _: Call, zone_id: str) -> Reply:
        zone = self.store.zone(zone_id)
        return answer("ListTagsForResourceResponse", document.tag_set("hostedzone", zone.id, zone.tags))

    def _change_tags(self, call: Call, zone_id: str) -> Reply:
        zone, root = self.store.zone(zone_id), document.parse(call.body)
        added = {document.text(tag, "Key"): document.text(tag, "Value") for tag in root.findall("AddTags/Tag")}
        removed = [each.text or "" for each in root.findall("RemoveTagKeys/Key")]
        if any(not 1 <= len(key) <= _LONGEST_KEY or len(value) > _LONGEST_VALUE for key, value in added.items()):
            raise AwsError(
                "InvalidInput", f"A tag's key has 1 to {_LONGEST_KEY} characters, its value {_LONGEST_VALUE}"
            )
        if any(key.lower().startswith("aws:") for key in added):
            raise AwsError("InvalidInput", "Tag keys that begin with aws: are reserved")
        tags = {key: value for key, value in {**zone.tags, **added}.items() if key not in removed}
        if len(tags) > _MOST_TAGS:
            raise AwsError("InvalidInput", f"Number of tags limit of {_MOST_TAGS} exceeded")
        zone.tags = tags
        return answer("ChangeTagsForResourceResponse", "")


def _vpc_in(root: Element) -> tuple[str, str]:
    """Return the region and the id of the VPC in a request."""
    region, vpc = document.text(root, "VPC/VPCRegion"), document.text(root, "VPC/VPCId")
    if not region or not vpc:
        raise AwsError("InvalidInput", "Invalid XML ; a VPC has a VPCRegion and a VPCId")
    return region, vpc


def _limited(response: str, kind: str, value: int, count: int) -> Reply:
    limit = f"<Limit>{element('Type', kind)}{element('Value', str(value))}</Limit>"
    return answer(response, [limit, element("Count", str(count))])


def _check_health(changes: list[Change]) -> None:
    """The account has no health checks.
    https://docs.aws.amazon.com/Route53/latest/APIReference/API_ChangeResourceRecordSets.html#API_ChangeResourceRecordSets_Errors"""
    for each in changes:
        if check := each.set.routing.get("HealthCheckId"):
            raise AwsError("NoSuchHealthCheck", f"No health check exists with the specified ID: {check}", 404)


def _conditions(changes: list[Change]) -> tuple[tuple[str, Value], ...]:
    """https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/specifying-conditions-route53.html"""
    prefix = "route53:ChangeResourceRecordSets"
    return (
        (f"{prefix}NormalizedRecordNames", tuple(dict.fromkeys(change.set.name for change in changes))),
        (f"{prefix}RecordTypes", tuple(dict.fromkeys(change.set.type for change in changes))),
        (f"{prefix}Actions", tuple(dict.fromkeys(change.action for change in changes))),
    )


def _normal(name: str) -> str:
    try:
        return normalize(name)
    except BadNameError as wrong:
        raise AwsError("InvalidDomainName", f"{name} is not a valid domain name: {wrong}") from wrong


def _limit(query: dict[str, str], most: int) -> int:
    given = query.get("maxitems", str(most))
    if not given.isdecimal() or int(given) < 1:
        raise AwsError("InvalidInput", f"Value '{given}' at 'maxItems' failed to satisfy constraint")
    return min(int(given), most)
