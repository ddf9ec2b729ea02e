"""components.preflight.dns_conflicts: what no provider has today, and that nothing of ours is left out."""

from __future__ import annotations

from components.config.models import Settings
from components.config.reader import read
from components.config.site_zones import zones_of
from components.preflight.dns_conflicts import CHALLENGES, Present, Wanted, faults, of_directory, of_sites
from components.resources.service_directory import static_records
from rollcall.ownership import Owner
from rollcall.settings import CloudflareJoin, Route53Join, challenge_name

ZONE = "unilans.net"
OWNER = Owner("local", "web", "0", "0a1b2c", "i-0123456789abcdef0")


def settings(**fleet: object) -> Settings:
    web = {"cloud": "aws", "count": 1, "size": "t3.micro", "image": "debian-12", "joins": ["site/www"]}
    services = {
        "theService": {"port": 4218, "incarnations": {"v1": {}, "v2": {"shards": 2}}},
        "other": {"port": 80, "protocol": "udp", "check": "tcp:80", "incarnations": {"a": {}}},
    }
    join = {
        "sites": {"www": {"zone": "scalability.expert"}},
        "serviceDiscovery": {"zone": ZONE, "services": services},
        "fleets": {"web": {**web, **fleet}},
    }
    return read("local", join)


def at_sites(given: Settings) -> list[Wanted]:
    return [each for zone in zones_of(given) for each in of_sites(given, zone)]


def test_every_static_record_and_every_set_of_machines_is_searched_for() -> None:
    directory = settings().service_discovery
    assert directory is not None
    wanted = {(each.name, kind) for each in of_directory(directory) for kind in each.types}
    static = {(each.name, each.type) for each in static_records(directory)}
    sets = {
        (f"{each}.{service.label}.{ZONE}".lower(), "SRV")
        for service in directory.services
        for incarnation in service.incarnations
        for each in incarnation.sets
    }
    # Those of RFC 2782, where an incarnation has no shards; the service's own, where it has just one or to be without it.
    names = {"_theservice._tcp.v1", "_theservice._tcp", "_other._udp.a", "_other._udp"}
    assert wanted == static | sets | {(f"{each}.{ZONE}", "SRV") for each in names}


def test_challenge_names_are_covered_by_the_names_above_them() -> None:
    join = settings()
    assert join.service_discovery is not None
    at_site = challenge_name(OWNER, CloudflareJoin(zone="z", host=join.sites[0].fqdn, token="t"))
    in_zone = challenge_name(OWNER, Route53Join(zone="Z", domain=ZONE, service="s", incarnation="v1", port=1))
    names = [each.name for each in (*at_sites(join), *of_directory(join.service_discovery)) if not each.types]
    assert any(at_site == f"{OWNER.generation}.{each}" for each in names) and CHALLENGES in at_site
    assert any(in_zone == f"{OWNER.generation}.{each}" for each in names)


def test_a_fleet_with_ipv6_wants_both_families() -> None:
    assert at_sites(settings())[0].types == ("A",)
    assert at_sites(settings(ipv6=True))[0].types == ("A", "AAAA")
    assert at_sites(settings(count=0)) == []


def test_a_dname_above_hides_and_one_at_the_name_does_not() -> None:
    alias = {"DNAME": Present(value="elsewhere.example")}
    wanted = Wanted(key="rollcall:sites.www.host", name=f"a.b.{ZONE}", types=("A",), otherwise="x")
    for above in (ZONE, f"b.{ZONE}"):
        (fault,) = faults(ZONE, [wanted], lambda name, above=above: alias if name == above else {})  # type: ignore[misc]
        assert f"{above} is a DNAME to elsewhere.example, which hides this zone's records at a.b.{ZONE}" in fault
    assert faults(ZONE, [wanted], lambda name: alias if name == wanted.name else {}) == []


def test_the_zones_own_name_servers_delegate_nothing() -> None:
    servers = {"NS": Present(value="ns.example")}
    wanted = Wanted(key="k", name=f"a.{ZONE}", types=("A",), otherwise="x")
    assert faults(ZONE, [wanted], lambda name: servers if name == ZONE else {}) == []
    assert faults(ZONE, [wanted], lambda name: servers if name == f"a.{ZONE}" else {}) != []
