"""components.config.models and checks: a wrong value of each key is an error, and the right one beside it is none."""

from __future__ import annotations

import copy
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from components.config.errors import ConfigurationError
from components.config.models import (
    FleetSettings,
    HealthSettings,
    IncarnationSettings,
    ServiceDiscoverySettings,
    ServiceSettings,
    SiteSettings,
)
from components.config.reader import read

GOOD: dict[str, Any] = {
    "sites": {"www": {"zone": "scalability.expert", "host": "www", "ttl": 120}},
    "serviceDiscovery": {
        "zone": "unilans.net",
        "services": {"theService": {"protocol": "tcp", "port": 4218, "incarnations": {"v1": {"txt": {"path": "/"}}}}},
    },
    "fleets": {
        "web-aws": {"cloud": "aws", "count": 2, "size": "t3.micro", "image": "debian-12", "joins": ["site/www"]},
        "web-joyent": {
            "cloud": "joyent",
            "count": 2,
            "size": "g1.micro",
            "image": "debian-12",
            "joins": ["site/www", "theService/v1"],
        },
    },
}


def changed(path: str, value: object) -> dict[str, Any]:
    """GOOD with the value at `path` (dotted) replaced; None removes it."""
    config = copy.deepcopy(GOOD)
    *above, last = path.split("/")
    place = config
    for name in above:
        place = place.setdefault(name, {})
    if value is None:
        del place[last]
    else:
        place[last] = value
    return config


def faults(config: dict[str, Any], stack: str = "local") -> tuple[str, ...]:
    try:
        read(stack, config)
    except ConfigurationError as error:
        return error.faults
    return ()


@pytest.mark.parametrize(("key", "id_"), [("sites/www", "0" * 32), ("serviceDiscovery", "Z0123456789ABCDEFGHIJ")])
def test_a_zone_that_is_to_be_made_has_no_id_yet(key: str, id_: str) -> None:
    given = changed(f"{key}/zoneId", id_)
    assert faults(given) == ()
    place = given["sites"]["www"] if key == "sites/www" else given[key]
    (fault,) = faults(
        given
        | ({"sites": {"www": {**place, "create": True}}} if key == "sites/www" else {key: {**place, "create": True}})
    )
    assert (
        f"rollcall:{key.replace('/', '.')}.zoneId: names a zone that exists, and create: true makes another. Keep one of the two."
        in fault
    )
    (fault,) = faults(changed("sites/www/accountId", "0" * 32))
    assert "rollcall:sites.www.accountId: is where a new zone is made, and create is off. Take it out" in fault
    made = changed(f"{key}/create", True)
    if key == "sites/www":
        made["sites"]["www"]["accountId"] = "0" * 32
    assert faults(made) == ()


def test_what_both_articles_need_is_read_with_the_articles_defaults() -> None:
    settings = read("local", GOOD)
    (site,) = settings.sites
    assert site.fqdn == "www.scalability.expert"
    assert (site.proxied, site.protection, site.acceleration) == (False, "off", False)
    assert settings.joins == ("site/www", "theService/v1")
    assert [fleet.name for fleet in settings.fleets_of("aws")] == ["web-aws"]


# path in GOOD, a wrong value, a right one beside it (in which nothing else differs), and what the fault must name
SSH = {"user": "admin", "keyName": "operators", "from": ["198.51.100.0/24"]}
TABLE = [
    ("sites/www/zone", "Scalability.expert", "scalability.example", "rollcall:sites.www.zone"),
    ("sites/www/zone", "scalability", "scalability.expert", "rollcall:sites.www.zone"),
    ("sites/www/zoneId", "Z0123", "0" * 32, "rollcall:sites.www.zoneId"),
    ("serviceDiscovery/zoneId", "0" * 32, "Z0123456789ABCDEFGHIJ", "rollcall:serviceDiscovery.zoneId"),
    ("sites/www/host", "www_1", "www.eu", "rollcall:sites.www.host"),
    ("sites/www/ttl", 59, 60, "60 to 86400"),
    ("sites/www/ttl", 86401, 86400, "rollcall:sites.www.ttl"),
    ("sites/www/ttl", "120", 1, "rollcall:sites.www.ttl"),
    ("sites/www/proxied", "yes", True, "Set true or false"),
    ("sites/www/protection", "strong", "high", "off, low, medium, high, under_attack"),
    ("sites/www/acceleration", 1, True, "rollcall:sites.www.acceleration"),
    ("sites/www/maxRecords", 4, 200, "record"),
    ("serviceDiscovery/zone", "unilans", "unilans.net", "rollcall:serviceDiscovery.zone"),
    ("serviceDiscovery/services/theService/port", 0, 1, "rollcall:serviceDiscovery.services.theService.port"),
    ("serviceDiscovery/services/theService/port", 65536, 65535, "1 to 65535"),
    ("serviceDiscovery/services/theService/protocol", "sctp", "tcp", "tcp, udp"),
    (
        "serviceDiscovery/services/theService",
        {"protocol": "udp", "port": 4217, "check": "command:/bin/true", "incarnations": {"v1": {}}},
        {"protocol": "tcp", "port": 4217, "incarnations": {"v1": {}}},
        "rollcall:serviceDiscovery.services.theService.port",
    ),
    ("serviceDiscovery/services/theService/incarnations/v1/txt", {"a=b": "c"}, {"ab": "c"}, "RFC 6763"),
    ("serviceDiscovery/services/theService/incarnations/v1/txt", {"k": "v" * 254}, {"k": "v " * 126}, "255 bytes"),
    ("serviceDiscovery/services/theService/incarnations/v1/txt", {"password": "x"}, {"path": "x"}, "secret"),
    ("serviceDiscovery/services/theService/incarnations/v1/txt", {"k": 1}, {"k": "1"}, "quotes"),
    ("serviceDiscovery/services/theService/incarnations", {"V1": {}}, {"v1": {}}, "DNS label"),
    ("serviceDiscovery/services/theService/incarnations/v1/shards", 0, 1, "shards"),
    (
        "serviceDiscovery/services/theService/incarnations",
        {"v1": {}, "v2-1": {}},
        {"v1": {}, "v1-2": {}},
        "a shard of v2",
    ),
    (
        "serviceDiscovery/services/theService/incarnations",
        {"v1": {"shards": 2}, "v1-3": {}},
        {"v1": {"shards": 3}},
        "a shard of v1",
    ),
    (
        "serviceDiscovery/services/theService/incarnations",
        {"v1": {}, "x" * 63: {"shards": 2}},
        {"v1": {}, "x" * 63: {}},
        "too long",
    ),
    ("serviceDiscovery/zone", f"{'a' * 60}.{'b' * 60}.{'c' * 60}.{'d' * 60}", "unilans.org", "too long for DNS"),
    ("serviceDiscovery/services/theService/check", "tcp:70000", "tcp:65535", "1 to 65535"),
    ("sites/www/check", "http:0:/", "http:1:/", "1 to 65535"),
    (
        "serviceDiscovery/services/theService/check",
        "command:/" + "x" * 220,
        "command:/" + "x" * 87,
        "has settings of theService/v1 that do not fit a tag",
    ),
    ("fleets/web-aws/cloud", "gcp", "aws", "one of aws, joyent"),
    ("fleets/web-aws/count", -1, 0, "0 to 1000"),
    ("fleets/web-aws/count", "2", 2, "rollcall:fleets.web-aws.count"),
    (
        "fleets/web-aws/joins",
        ["site/wwww"],
        ["site/www"],
        "'site/wwww' leads nowhere (did you mean site/www?). Name one of site/www, theService/v1",
    ),
    ("fleets/web-aws/joins", ["site/www", "site/www"], ["site/www", "theService/v1"], "twice"),
    ("fleets/web-aws/joins", [], ["site/www"], "is an empty list"),
    ("fleets/web-aws/timeout", 9, 10, "10 to 3600 seconds"),
    ("fleets/web-aws/weight", 65536, 65535, "rollcall:fleets.web-aws.weight"),
    ("fleets/web-aws/priority", -1, 0, "rollcall:fleets.web-aws.priority"),
    ("fleets/web-aws/image", "debian12", "/aws/service/debian/release/12/latest/amd64", "path of an SSM parameter"),
    ("fleets/web-aws/image", "ami-1", "ami-0123456789abcdef0", "rollcall:fleets.web-aws.image"),
    ("fleets/web-aws/imageRefresh", 2, "2", "rollcall:fleets.web-aws.imageRefresh"),
    ("fleets/web-aws/ssh", {"user": "admin", "from": ["198.51.100.0/24"]}, SSH, "rollcall:fleets.web-aws.ssh.keyName"),
    ("fleets/web-aws/ssh", {**SSH, "from": []}, SSH, "rollcall:fleets.web-aws.ssh.from"),
    ("fleets/web-aws/ssh", {**SSH, "from": ["198.51.100.1/24"]}, SSH, "rollcall:fleets.web-aws.ssh.from"),
    ("fleets/web-aws/ssh", {**SSH, "user": "-oProxyCommand=x"}, SSH, "rollcall:fleets.web-aws.ssh.user"),
    ("fleets/web-joyent/ssh", {"keyName": "operators"}, {}, "rollcall:fleets.web-joyent.ssh.keyName"),
    ("fleets/web-aws/ipv6", "yes", True, "rollcall:fleets.web-aws.ipv6"),
    ("fleets/web-joyent/ipv6", True, False, "rollcall:fleets.web-joyent.ipv6: is on, and Triton's CloudAPI"),
    ("fleets/web-joyent/networks", [], ["MNX-Triton-Public"], "rollcall:fleets.web-joyent.networks: is an empty list"),
    ("fleets/web-joyent/networks", "MNX-Triton-Public", ["My-Fabric-Network", "P"], "Set it to a list"),
    ("fleets/web-joyent/networks", ["P", 5], ["P", "5"], "rollcall:fleets.web-joyent.networks"),
    ("fleets/web-joyent/networks", ["P", "P"], ["P", "Q"], "rollcall:fleets.web-joyent.networks: 'P' is in it twice"),
    ("fleets/web-joyent/brand", "lx", "bhyve", "rollcall:fleets.web-joyent.brand: 'lx' is not one of bhyve, kvm"),
    ("fleets/web-joyent/affinity", ["role=x"], ["ro!=x"], "affinity[0]: 'role=x' is not an affinity rule"),
    ("fleets/web-joyent/affinity", ["role==a&b"], ["rollcall-fleet!=~web"], "'role==a&b' is not an affinity rule"),
    ("fleets/web-joyent/affinity", ["a==~b"], ["a.b-c_d!=~/^x(y|z)*$/"], "affinity[0]: 'a==~b'"),
    ("fleets/web-joyent/affinity", ["ab==c"] * 2, ["ab==c", "ab==d"], "'ab==c' is in it twice"),
    ("fleets/web-joyent/disks", [0], [20480], "rollcall:fleets.web-joyent.disks[0]: '0' is not the size of a disk"),
    ("fleets/web-joyent/disks", ["20G"], ["20480", "remaining"], "disks[0]: '20G' is not the size of a disk"),
    ("fleets/web-joyent/disks", [1] * 9, [1] * 8, "rollcall:fleets.web-joyent.disks: names 9"),
    ("fleets/web-joyent/disks", ["remaining"] * 2, [5, "remaining"], "disks: has several that are `remaining`"),
    ("fleets/web-joyent/deletionProtection", "yes", True, "rollcall:fleets.web-joyent.deletionProtection"),
    ("joyent/url", "us-east-1", "https://us-east-1.example", "https://HOST"),
    ("drainDelay", -1, 0, "rollcall:drainDelay"),
    ("resolvers", "192.0.2.53", ["192.0.2.53"], "rollcall:resolvers: '192.0.2.53' is not a list"),
    ("resolvers", ["dns.example"], ["192.0.2.53:5353"], "rollcall:resolvers[0]: 'dns.example' is not the address"),
    ("resolvers", ["192.0.2.53:0"], ["[2001:db8::53]:53"], "rollcall:resolvers[0]: '192.0.2.53:0'"),
    ("resolvers", ["192.0.2.53:65536"], ["2001:db8::53"], "rollcall:resolvers[0]: '192.0.2.53:65536'"),
    ("resolvers", ["192.0.2.1"] * 2, ["192.0.2.1", "192.0.2.2"], "rollcall:resolvers: '192.0.2.1' is in it twice"),
    ("resolvers", [""], [], "rollcall:resolvers[0]: ''"),
    ("resolvers", [f"192.0.2.{at}" for at in range(9)], ["192.0.2.1"], "rollcall:resolvers: names 9"),
]


@pytest.mark.parametrize(
    ("path", "wrong", "right", "named"), TABLE, ids=[f"{path}={wrong!r}"[:60] for path, wrong, _, _ in TABLE]
)
def test_a_wrong_value_is_one_fault_that_names_it_and_the_right_one_none(
    path: str, wrong: object, right: object, named: str
) -> None:
    found = faults(changed(path, wrong))
    assert any(named in fault for fault in found), found
    assert len(found) <= 2, found
    assert faults(changed(path, right)) == ()


def test_networks_are_tritons_and_null_is_the_default() -> None:
    (fault,) = faults(changed("fleets/web-aws/networks", ["Joyent-SDC-Public"]))
    assert fault.startswith("rollcall:fleets.web-aws.networks: is for Triton machines. Leave it out")
    config = copy.deepcopy(GOOD)
    for value, networks in ((None, ()), (["My-Fabric-Network", "MNX-Triton-Public"],) * 2):
        config["fleets"]["web-joyent"]["networks"] = value
        assert read("local", config).fleets[1].networks == tuple(networks)


@pytest.mark.parametrize(
    ("key", "value"), [("brand", "kvm"), ("affinity", ["ab==c"]), ("disks", [20480]), ("deletionProtection", False)]
)
def test_what_cloudapi_does_for_machines_is_a_fault_on_ec2(key: str, value: object) -> None:
    (fault,) = faults(changed(f"fleets/web-aws/{key}", value))
    assert fault.startswith(f"rollcall:fleets.web-aws.{key}: is for Triton machines. Leave it out")


def test_disks_of_a_kvm_machine_are_a_fault() -> None:
    config = changed("fleets/web-joyent/disks", [20480])
    config["fleets"]["web-joyent"]["brand"] = "kvm"
    (fault,) = faults(config)
    assert fault.startswith("rollcall:fleets.web-joyent.disks: is for bhyve machines, and the brand is kvm. Leave it")
    config["fleets"]["web-joyent"]["brand"] = "bhyve"
    assert read("local", config).fleets[1].disk_sizes == [20480]


def test_a_machine_with_ipv6_takes_two_records_of_the_site_s_plan() -> None:
    fleets = {"web": {**GOOD["fleets"]["web-aws"], "count": 4}}
    for ipv6, records in ((False, 9), (True, 17)):
        fleets["web"]["ipv6"] = ipv6
        config = {**changed("fleets", fleets), "sites": {"www": {"zone": "scalability.expert", "maxRecords": records}}}
        assert faults(config) == ()
        config["sites"]["www"]["maxRecords"] -= 1
        (fault,) = faults(config)
        assert (
            "4 machines that join sites in scalability.expert with 8 records"
            if ipv6
            else "4 machines that join sites in scalability.expert, and"
        ) in fault


def test_ec2_refuses_a_group_name_that_begins_with_sg() -> None:
    for name, cloud, wrong in (
        ("sg", "aws", True),
        ("sg-web", "aws", True),
        ("sgw", "aws", False),
        ("sg-w", "joyent", False),
    ):
        config = changed("fleets", {name: {**GOOD["fleets"]["web-aws"], "cloud": cloud}})
        assert bool(faults(config)) == wrong, name


@pytest.mark.parametrize(
    "path",
    [
        "sites/www/zone",
        "serviceDiscovery/services/theService/port",
        "fleets/web-aws/size",
        "fleets/web-aws/image",
        "fleets/web-aws/cloud",
    ],
)
def test_what_is_missing_is_named(path: str) -> None:
    assert any("is missing" in fault for fault in faults(changed(path, None)))


def test_a_misspelt_key_is_a_fault_that_suggests_the_right_one() -> None:
    assert any("did you mean proxied?" in fault for fault in faults(changed("sites/www/prxied", True)))


def test_a_service_name_over_15_characters_is_refused() -> None:
    config = copy.deepcopy(GOOD)
    config["serviceDiscovery"]["services"]["aServiceWithALongName"] = {"port": 1, "incarnations": {"v1": {}}}
    assert any("RFC 6335" in fault for fault in faults(config))


def test_services_that_dns_or_the_state_cannot_hold_apart_are_refused() -> None:
    config = changed("serviceDiscovery/services/theservice", {"port": 1, "incarnations": {"v2": {}}})
    assert any("is theService to DNS" in fault for fault in faults(config))
    config = changed("serviceDiscovery/services/api", {"port": 1, "incarnations": {"v2-beta": {}}})
    config["serviceDiscovery"]["services"]["api-v2"] = {"port": 2, "incarnations": {"beta": {}}}
    assert any("directory-api-v2-beta-txt" in fault for fault in faults(config))
    config["serviceDiscovery"]["services"]["api-v2"] = {"port": 2, "incarnations": {"gamma": {}}}
    assert faults(config) == ()


def test_all_faults_are_reported_at_once() -> None:
    config = changed("sites/www/ttl", 5)
    config["fleets"]["web-aws"]["cloud"] = "gcp"
    config["fleets"]["web-joyent"]["count"] = -5
    found = faults(config)
    assert len(found) == 3, found


def test_a_stack_name_that_makes_the_ownership_text_too_long_is_refused() -> None:
    assert any("ownership" in fault for fault in faults(GOOD, stack="s" * 40))
    assert faults(GOOD, stack="s" * 20) == ()


def test_a_closed_site_that_does_not_fit_machine_settings_is_refused() -> None:
    config = copy.deepcopy(GOOD)
    config["sites"]["www"].update(proxied=True, check="http:80:/" + "health" * 6)
    assert faults(config) == ()
    config["fleets"]["a-fleet-with-quite-a-long-name"] = config["fleets"].pop("web-aws")
    assert any("256" in fault and "a-fleet-with" in fault for fault in faults(config))
    config["sites"]["www"]["proxied"] = False
    assert faults(config) == ()


def test_no_fleet_at_all_is_refused_with_an_example() -> None:
    assert any("Add one, as web-aws" in fault for fault in faults({**GOOD, "fleets": {}}))


@pytest.mark.parametrize("value", ["text", 5, ["a"]])
def test_a_section_that_is_not_a_mapping_is_refused_without_a_crash(value: object) -> None:
    assert faults({**GOOD, "sites": value})
    assert faults({**GOOD, "sites": {"www": value}})
    assert faults({**GOOD, "fleets": value})


def camel(word: str) -> str:
    """As the configuration writes a setting of two words."""
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), word)


def test_the_manual_names_every_key() -> None:
    manual = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
    kinds = (
        SiteSettings,
        FleetSettings,
        ServiceDiscoverySettings,
        ServiceSettings,
        IncarnationSettings,
        HealthSettings,
    )
    names = {camel(item.name) for kind in kinds for item in fields(kind)} - {
        "name",
        "label",
        "health",
        "digests",
        "secured",
        "dynamic",
        "architecture",
    }
    assert {name for name in names if f"`{name}`" not in manual} == set()
