"""Refuse names, values and record sets that DNS, Route53 or Cloudflare would not take, before anything is created.

https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/DNSLimitations.html
https://docs.aws.amazon.com/Route53/latest/APIReference/API_ResourceRecord.html
https://developers.cloudflare.com/dns/manage-dns-records/reference/dns-record-types/
https://www.rfc-editor.org/rfc/rfc1035#section-2.3.4
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from components.config.errors import at
from components.config.models import (
    FleetSettings,
    IncarnationSettings,
    ServiceDiscoverySettings,
    ServiceSettings,
    Settings,
    SiteSettings,
)
from components.resources.service_directory import static_records
from rollcall.settings import HOSTS_LABEL

# Of the text of a name, without its final dot.
LONGEST_NAME = 253
MOST_VALUES, MOST_VALUE_CHARACTERS = 400, 4000
# Of all values of a request, old and new together. An UPSERT counts twice.
MOST_BATCH_CHARACTERS = 32_000
# Of all records with one name and type.
MOST_CLOUDFLARE_CHARACTERS = 8192
# The longest text of an address of each family.
_LONGEST_ADDRESS = {"A": len("255.255.255.255"), "AAAA": len("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")}
# The first labels of a host's name and of a challenge (rollcall.host_label, rollcall.settings.challenge_name).
_HOST, _CHALLENGE = f"000000-0000.{HOSTS_LABEL}", f"000000.c.{HOSTS_LABEL}"
# Shards are filled to three quarters of what Route53 takes, so that a few more machines do not need other shards.
_COMFORTABLE = 0.75
_SERVICES = "rollcall:serviceDiscovery.services"


def faults(settings: Settings) -> list[str]:
    """Return what would be too long or too many."""
    found = [fault for site in settings.sites for fault in _site_faults(settings, site)]
    directory = settings.service_discovery
    if directory is None:
        return found
    found += _zone_faults(directory)
    if directory.is_dynamic:
        return found
    found += _static_faults(directory)
    for service in directory.services:
        for incarnation in service.incarnations:
            found += _set_faults(settings, directory, service, incarnation)
    return found


def most_members(fleets: Sequence[FleetSettings]) -> int:
    """Return how many machines of these fleets exist at most: the largest fleet counts twice, because a replacement doubles it."""
    counts = [each.count for each in fleets]
    return sum(counts) + max(counts, default=0)


def _site_faults(settings: Settings, site: SiteSettings) -> Iterator[str]:
    name = f"{_CHALLENGE}.{site.fqdn}"
    if len(name) > LONGEST_NAME:
        yield (
            f"{site.key}.host: makes names of {len(name)} characters, as GENERATION.c.{HOSTS_LABEL}.HOST, and DNS takes {LONGEST_NAME}. "
            "Shorten it."
        )
    if site.is_dynamic:
        return
    joined = settings.fleets_at(site.join)
    for rtype, fleets in (("A", joined), ("AAAA", [each for each in joined if each.ipv6])):
        members = most_members(fleets)
        characters = members * _LONGEST_ADDRESS[rtype]
        if characters > MOST_CLOUDFLARE_CHARACTERS:
            most = MOST_CLOUDFLARE_CHARACTERS // _LONGEST_ADDRESS[rtype]
            yield (
                f"{site.key}: would have {members} {rtype} records while a fleet is replaced, which are up to {characters} characters, "
                f"and Cloudflare takes {MOST_CLOUDFLARE_CHARACTERS} for a name and type. Let {most} machines join at most, of which the "
                "largest fleet counts twice: split it, or lower the counts."
            )


def _zone_faults(directory: ServiceDiscoverySettings) -> Iterator[str]:
    static = [each.name for each in static_records(directory)]
    longest = max((f"{_HOST}.{directory.zone}", f"{_CHALLENGE}.{directory.zone}", *static), key=len)
    if len(longest) > LONGEST_NAME:
        yield (
            f"rollcall:serviceDiscovery.zone: makes names of {len(longest)} characters, and DNS takes {LONGEST_NAME}. Use a zone with a "
            "shorter name."
        )


def _static_faults(directory: ServiceDiscoverySettings) -> Iterator[str]:
    keys = _keys(directory)
    for record in static_records(directory):
        key = keys[record.resource]
        longest, characters = max(map(len, record.wire), default=0), sum(map(len, record.wire))
        if longest > MOST_VALUE_CHARACTERS:
            yield (
                f"{key}: makes a {record.type} value of {longest} characters with escapes, and Route53 takes {MOST_VALUE_CHARACTERS}. "
                "Shorten it, or write it in ASCII: any other byte takes four characters."
            )
        elif len(record.wire) > MOST_VALUES:
            yield (
                f"{key}: makes a {record.type} record set of {len(record.wire)} values, and Route53 takes {MOST_VALUES}. "
                "Use fewer services, incarnations or shards in one zone."
            )
        elif 2 * characters > MOST_BATCH_CHARACTERS:
            yield (
                f"{key}: makes a {record.type} record set of {characters} characters, which count twice in a change, and Route53 takes "
                f"{MOST_BATCH_CHARACTERS}. Use fewer services, incarnations or shards in one zone, or shorter names."
            )


def _keys(directory: ServiceDiscoverySettings) -> dict[str, str]:
    """Return the key of the configuration that makes each static record, by the record's resource."""
    found = {"directory-services": _SERVICES}
    for service in directory.services:
        key = at(_SERVICES, service.name)
        found[f"directory-{service.name}-ptr"] = f"{key}.incarnations"
        for each in service.incarnations:
            found |= {
                f"directory-{service.name}-{name}-txt": f"{at(key, 'incarnations', each.name)}.txt"
                for name in each.sets
            }
    return found


def _set_faults(
    settings: Settings, directory: ServiceDiscoverySettings, service: ServiceSettings, incarnation: IncarnationSettings
) -> Iterator[str]:
    """Check the batch that changes an SRV set: it deletes all old values and creates all new ones (rollcall.route53).

    More than 400 values are another fault (components/config/checks.py).
    """
    joined = settings.fleets_at(f"{service.name}/{incarnation.name}")
    total = most_members(joined)
    members = math.ceil(total / incarnation.shards)
    host = f"{_HOST}.{directory.zone}."
    longest = max((len(f"{each.priority} {each.weight} {service.port} {host}") for each in joined), default=0)
    characters = 2 * members * longest
    if members <= MOST_VALUES and characters > MOST_BATCH_CHARACTERS:
        comfortable = max(1, int(MOST_BATCH_CHARACTERS // (2 * longest) * _COMFORTABLE))
        yield (
            f"{at(_SERVICES, service.name, 'incarnations', incarnation.name)}: would have {members} values of {longest} characters in a "
            f"set while a fleet is replaced, so a change has {characters} characters, old and new together, and Route53 takes "
            f"{MOST_BATCH_CHARACTERS}. Give it shards: {-(-total // comfortable)}."
        )
