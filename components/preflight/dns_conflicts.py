"""Refuse names at which a DNS provider would not take the stack's records, or would never answer with them.

Cloudflare takes no A or AAAA where a CNAME (81054) or an NS (81056) is:
https://developers.cloudflare.com/dns/manage-dns-records/troubleshooting/records-with-same-name/
https://developers.cloudflare.com/dns/manage-dns-records/troubleshooting/existing-ns-record/
Route53 takes nothing beside a CNAME, and no simple record set where one with a routing policy is:
https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/ResourceRecordTypes.html#CNAMEFormat
https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/routing-policy.html
Both take records at and below a delegation, and answer with a referral instead of them (RFC 1034 section 4.3.2). Neither has DNAME
records today; one would hide everything below its name (RFC 6672 section 2.4).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from components.config.models import ServiceDiscoverySettings, Settings
from components.config.site_zones import ZoneSettings
from components.dns.route53_zones import Sets
from components.resources.service_directory import ENUMERATION
from components.resources.zone_soa import mark_name
from rollcall.route53 import LABEL

# The names at which agents challenge each other, below a host or a zone (rollcall.settings.challenge_name).
CHALLENGES = f"c.{LABEL}"
_DELEGATION, _SUBTREE_ALIAS = "NS", "DNAME"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Records of `types` that will be at `name`, or names below it where there are no types.

    `key` is the key of the configuration, `otherwise` what to change there.
    """

    key: str
    name: str
    otherwise: str
    types: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Present:
    """An existing record set. `routed`: it is an alias or has a routing policy."""

    value: str
    routed: bool = False


At = Callable[[str], Mapping[str, Present]]


def faults(zone: str, wanted: Iterable[Wanted], at: At) -> list[str]:
    """Name each conflicting record once, with the names that it concerns.

    `at` gives the record sets at a name by type.
    """
    problems: dict[tuple[str, str], _Problem] = {}
    concerned: dict[tuple[str, str], list[str]] = {}
    for each in wanted:
        for problem in _problems(each, zone, at):
            problems.setdefault((problem.owner, problem.type), problem)
            concerned.setdefault((problem.owner, problem.type), []).append(each.name)
    return [problem.text.format(names=_shown(concerned[key])) for key, problem in problems.items()]


@dataclass(frozen=True, kw_only=True)
class _Problem:
    """The conflicting record set at `owner`, and the fault with `{names}` for the names that it concerns."""

    owner: str
    type: str
    text: str


def _problems(wanted: Wanted, zone: str, at: At) -> list[_Problem]:
    above = (problem for owner in _path(wanted.name, zone) if (problem := _above(wanted, owner, zone, at(owner))))
    first = next(above, None)
    if first is not None:
        return [first]
    return list(_beside(wanted, at(wanted.name))) if wanted.types else []


def _above(wanted: Wanted, owner: str, zone: str, here: Mapping[str, Present]) -> _Problem | None:
    fix = f"Delete it, or {wanted.otherwise}."
    if _DELEGATION in here and owner != zone:
        to = f"{wanted.key}: {owner} is delegated to {here[_DELEGATION].value} by an NS record"
        text = f"{to}, so this zone's records at {{names}} are never answered. {fix}"
        return _Problem(owner=owner, type=_DELEGATION, text=text)
    if _SUBTREE_ALIAS in here and owner != wanted.name:
        to = f"{wanted.key}: {owner} is a DNAME to {here[_SUBTREE_ALIAS].value}"
        return _Problem(
            owner=owner, type=_SUBTREE_ALIAS, text=f"{to}, which hides this zone's records at {{names}}. {fix}"
        )
    return None


def _beside(wanted: Wanted, here: Mapping[str, Present]) -> Iterator[_Problem]:
    name = wanted.name
    if "CNAME" in here:
        already = f"{wanted.key}: {{names}} is a CNAME to {here['CNAME'].value} already"
        beside = f"no {' or '.join(wanted.types)} record can be beside it"
        yield _Problem(owner=name, type="CNAME", text=f"{already}, and {beside}. Delete it, or {wanted.otherwise}.")
    for kind in (each for each in wanted.types if each in here and here[each].routed):
        routed = f"{wanted.key}: the {kind} set {{names}} is an alias or has a routing policy, and ours is a simple one"
        yield _Problem(owner=name, type=kind, text=f"{routed}. Give it simple routing, or {wanted.otherwise}.")


def _path(name: str, zone: str) -> list[str]:
    """Return the zone's name, then each name below it down to `name`."""
    labels = name.removesuffix(zone).rstrip(".").split(".")
    return [zone, *(".".join((*labels[at:], zone)) for at in range(len(labels) - 1, -1, -1))]


def _shown(names: Iterable[str]) -> str:
    first, *others = dict.fromkeys(names)
    return f"{first} and {len(others)} more name{'s' if len(others) > 1 else ''}" if others else first


# What is wanted


def of_sites(settings: Settings, zone: ZoneSettings) -> list[Wanted]:
    """Return the hosts of a zone's sites where machines will be, and the names below them at which machines are challenged."""
    found = []
    for site in zone.sites:
        joining = [fleet for fleet in settings.fleets_at(site.join) if fleet.count]
        types = ("A", "AAAA") if any(fleet.ipv6 for fleet in joining) else ("A",)
        key = f"{site.key}.host"
        here = functools.partial(Wanted, key=key, otherwise=f"set {key} to another name")
        if joining:
            found += [here(name=site.fqdn, types=types), here(name=f"{CHALLENGES}.{site.fqdn}")]
    return found


def of_directory(directory: ServiceDiscoverySettings) -> list[Wanted]:
    """Return what the directory writes into its zone, and the names that machines write."""
    zone, key = directory.zone, "rollcall:serviceDiscovery"
    found = []
    if directory.publish_service_types:
        keep_none = "set rollcall:serviceDiscovery.publishServiceTypes to false"
        found.append(
            Wanted(key=f"{key}.publishServiceTypes", name=f"{ENUMERATION}.{zone}", types=("PTR",), otherwise=keep_none)
        )
    for service in directory.services:
        home, of = f"{service.label}.{zone}".lower(), f"{key}.services.{service.name}"
        named = [each for each in service.incarnations if service.srv(each)]
        types = ("PTR", "SRV") if named else ("PTR",)
        found.append(Wanted(key=of, name=home, types=types, otherwise="rename the service"))
        found += [
            Wanted(
                key=f"{of}.incarnations.{each.name}",
                name=f"{service.label}.{each.name}.{zone}".lower(),
                types=("SRV",),
                otherwise="rename the incarnation",
            )
            for each in named
        ]
        for incarnation in service.incarnations:
            found += [
                Wanted(
                    key=f"{of}.incarnations.{incarnation.name}",
                    name=f"{each}.{home}",
                    types=("SRV", "TXT"),
                    otherwise="rename the incarnation",
                )
                for each in incarnation.sets
            ]
    if directory.manages_soa:
        off = "set rollcall:serviceDiscovery.manageSoa to false"
        found.append(Wanted(key=f"{key}.manageSoa", name=mark_name(zone), types=("TXT",), otherwise=off))
    below = functools.partial(Wanted, key=f"{key}.zone", otherwise="use another zone")
    return [*found, below(name=f"{LABEL}.{zone}"), below(name=f"{CHALLENGES}.{zone}")]


# What is there


def in_cloudflare(records: Callable[[str], Iterable[Any]]) -> At:
    """Return the reader for Cloudflare. `records` lists a zone's records at a name, as rollcall.cloudflare has them."""

    @functools.cache
    def at(name: str) -> Mapping[str, Present]:
        found: dict[str, list[str]] = {}
        for each in records(name):
            found.setdefault(each.type, []).append(each.content)
        return {kind: Present(value=", ".join(values)) for kind, values in found.items()}

    return at


def in_route53(sets: Sets) -> At:
    """Return the reader for Route53. `sets` gives a zone's record sets at a name with its final dot, by type."""

    def at(name: str) -> Mapping[str, Present]:
        return {kind: _present(each) for kind, each in sets(f"{name}.").items()}

    return at


def _present(found: Mapping[str, Any]) -> Present:
    values = ", ".join(each["Value"] for each in found.get("ResourceRecords") or ())
    alias = found.get("AliasTarget")
    return Present(
        value=values or (f"the alias {alias['DNSName']}" if alias else ""),
        routed="SetIdentifier" in found or alias is not None,
    )
