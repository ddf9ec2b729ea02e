"""Several sites in a stack: what each may say, what those of one zone must agree on, and which names are refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from components.config import floors
from components.config.reader import read, read_whole
from components.config.site_zones import machines_in, records_of, zones_of

FLEET = {"cloud": "joyent", "count": 2, "size": "g1.micro", "image": "debian-12"}
DYNAMIC = {"zone": "example.org", "provider": "rfc2136", "server": "192.0.2.53"}
GOOD: dict[str, Any] = {
    "sites": {
        "www": {"zone": "scalability.expert"},
        "shop": {"zone": "scalability.expert", "host": "shop", "apex": False},
        "docs": {**DYNAMIC, "host": "docs"},
    },
    "fleets": {
        "web": {**FLEET, "joins": ["site/www", "site/docs"]},
        "shop": {**FLEET, "cloud": "aws", "size": "t3.micro", "count": 3, "joins": ["site/shop", "site/www"]},
    },
}


def changed(site: str, **keys: Any) -> dict[str, Any]:
    """GOOD with other keys at a site; None removes one."""
    config = copy.deepcopy(GOOD)
    given = config["sites"].setdefault(site, {})
    given.update(keys)
    for key in (name for name, value in keys.items() if value is None):
        del given[key]
    return config


def faults(config: dict[str, Any]) -> list[str]:
    return read_whole("local", config)[1]


def test_sites_of_several_zones_and_providers_are_read_by_their_names() -> None:
    settings = read("local", GOOD)
    assert [(each.name, each.join, each.fqdn) for each in settings.sites] == [
        ("www", "site/www", "www.scalability.expert"),
        ("shop", "site/shop", "shop.scalability.expert"),
        ("docs", "site/docs", "docs.example.org"),
    ]
    assert settings.joins == ("site/www", "site/shop", "site/docs")
    zones = zones_of(settings)
    assert [(each.zone, len(each.sites), each.provider) for each in zones] == [
        ("scalability.expert", 2, "cloudflare"),
        ("example.org", 1, "rfc2136"),
    ]
    assert [each.join for each in settings.sites_of(settings.fleets[1])] == ["site/shop", "site/www"]
    assert [machines_in(settings, each) for each in zones] == [5, 2]
    # A machine that joins two sites of a zone has two records there.
    assert [records_of(settings, each) for each in zones] == [[2, 6], [2, 0]]
    assert [floors.of_site(settings, each)[0] for each in settings.sites] == [2, 1, 1]


@pytest.mark.parametrize(
    ("site", "keys", "fault"),
    [
        ("shop", {"host": "www"}, "rollcall:sites.shop.host: makes www.scalability.expert, which is the host of www, too. "),
        ("new", {"zone": "example.net"}, "rollcall:sites.new: is joined by no fleet. Add site/new to the joins of a fleet, "),
        ("shop", {"apex": None}, "rollcall:sites.shop.apex: is on, and that of www is, too, and the zone scalability.expert has one apex"),
        (
            "shop",
            {"provider": "rfc2136", "server": "192.0.2.53"},
            "rollcall:sites.shop.provider: is rfc2136, and www in the same zone has cloudflare. Set the same: ",
        ),
        (
            "shop",
            {"host": "shop.scalability.expert"},
            "rollcall:sites.shop.host: ends with the zone scalability.expert, which is added to it. Write shop.",
        ),
        (
            "shop",
            {"host": "shop.example.org"},
            "rollcall:sites.shop.host: is in the zone example.org of the site docs, and scalability.expert would be added to it. "
            "Set rollcall:sites.shop.zone to example.org, and host to the name below it.",
        ),
        ("shop", {"host": "example.org"}, "rollcall:sites.shop.host: is in the zone example.org of the site docs"),
        (
            "docs",
            {"zone": "eu.scalability.expert", "host": "docs"},
            None,
        ),
        (
            "docs",
            {"zone": "shop.scalability.expert", "host": "docs"},
            "rollcall:sites.shop.host: makes shop.scalability.expert, which is in the zone shop.scalability.expert of the site docs and "
            "not in scalability.expert. ",
        ),
        ("Shop_1", {"zone": "example.net"}, "rollcall:sites.Shop_1: is not the name of a site. Use 1 to 30 of a-z, 0-9 and inner hyphens."),
        ("docs", {"port": 0}, "rollcall:sites.docs.port: 0 is out of range (1 to 65535). "),
        ("docs", {"server": None}, "rollcall:sites.docs.server: is missing. "),
        ("shop", {"server": "192.0.2.53"}, "rollcall:sites.shop.server: is for provider: rfc2136. "),
        (
            "docs",
            {"check": "workload:docs"},
            "rollcall:sites.docs.check: names the workload docs, which does not exist. Write a check, as http:80:/.",
        ),
    ],
)  # fmt: skip
def test_a_wrong_site_is_one_fault_with_the_key_and_the_fix(site: str, keys: dict[str, Any], fault: str | None) -> None:
    found = faults(changed(site, **keys))
    if fault is None:
        assert found == []
    else:
        assert any(each.startswith(fault) for each in found), found
        assert len(found) == 1, found


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("zoneId", "0" * 32, "1" * 32),
        ("protection", "high", "low"),
        ("maxRecords", 1000, 2000),
    ],
)
def test_a_key_of_the_zone_is_set_at_one_site_or_alike_at_several(key: str, one: object, other: object) -> None:
    for site in ("www", "shop"):
        assert faults(changed(site, **{key: one})) == []
    config = changed("www", **{key: one})
    config["sites"]["shop"][key] = one
    assert faults(config) == []
    config["sites"]["shop"][key] = other
    (fault,) = faults(config)
    assert fault == (
        f"rollcall:sites.shop.{key}: differs from that of www, which is in the same zone. Set it at one of the two sites."
    )


def test_what_one_site_says_of_the_zone_holds_for_the_zone_and_is_named_by_that_site() -> None:
    (zone, _) = zones_of(read("local", changed("shop", zoneId="1" * 32, acceleration=True, maxRecords=900)))
    assert (zone.zone_id, zone.acceleration, zone.max_records) == ("1" * 32, True, 900)
    assert zone.key("zone_id") == "rollcall:sites.shop.zoneId" and zone.key("create") == "rollcall:sites.www.create"
    assert zone.apex is not None and zone.apex.name == "www" and not zone.proxied
    config = changed("shop", zoneId="1" * 32)
    config["sites"]["www"]["create"] = True
    assert faults(config) == [
        "rollcall:sites.shop.zoneId: names a zone that exists, and create: true makes another. Keep one of the two."
    ]


def test_the_plan_of_a_zone_counts_all_its_sites() -> None:
    # 2 machines at one site, 3 at two, the 3 twice while they are replaced, and the apex: 2 + 6 + 6 + 1.
    assert faults(changed("www", maxRecords=15)) == []
    (fault,) = faults(changed("www", maxRecords=14))
    assert fault == (
        "rollcall:fleets: has 5 machines that join sites in scalability.expert with 8 records, and a replacement adds up to 6; the zone's "
        "plan holds 14 records. Lower the counts, or set rollcall:sites.www.maxRecords to what your plan holds."
    )


@pytest.mark.parametrize(
    ("join", "fault"),
    [
        ("site", "'site' leads nowhere (did you mean site/www?). Name one of site/www, site/shop, site/docs."),
        ("site/shopp", "'site/shopp' leads nowhere (did you mean site/shop?). Name one of site/www, site/shop, site/docs."),
        ("shop", "'shop' leads nowhere (did you mean site/shop?). Name one of site/www, site/shop, site/docs."),
    ],
)  # fmt: skip
def test_a_join_to_an_unknown_site_is_named_with_the_one_that_was_meant(join: str, fault: str) -> None:
    config = copy.deepcopy(GOOD)
    config["fleets"]["web"]["joins"].append(join)
    assert faults(config) == [f"rollcall:fleets.web.joins: {fault}"]


def test_a_service_is_not_called_as_the_word_before_a_site_s_name() -> None:
    config = copy.deepcopy(GOOD)
    config["serviceDiscovery"] = {"zone": "unilans.net", "services": {"site": {"port": 80, "incarnations": {"v1": {}}}}}
    assert (
        "rollcall:serviceDiscovery.services.site: is the word before the name of a site in joins. Rename it."
        in faults(config)
    )


def workloads(**site: Any) -> dict[str, Any]:
    config = changed("docs", **site)
    config["workloads"] = {
        "docs": {"run": "python3 -m docs", "check": {"http": ":8080/healthz"}},
        "api": {"run": "python3 -m api", "check": {"tcp": ":5432"}},
        "plain": {"run": "python3 -m plain"},
    }
    config["fleets"]["web"]["runs"] = ["api", "docs", "plain", "site"]
    config["sites"]["www"]["check"] = "http:80:/"
    return config


def test_a_site_may_name_the_workload_with_the_deciding_check() -> None:
    settings = read("local", workloads(check="workload:docs", port=8080))
    (www, docs) = settings.sites_of(settings.fleets[0])
    assert (www.health.check, docs.health.check, docs.port) == ("http:80:/", "http:8080:/healthz", 8080)
    (fault,) = faults(workloads())
    assert fault.startswith("rollcall:fleets.web.runs: has workloads with several checks. Set check of the sites and ")
    (fault,) = faults(workloads(check="workload:doc"))
    assert fault.startswith(
        "rollcall:sites.docs.check: names the workload doc, which does not exist (did you mean docs?). Name one of docs, api"
    )
    (fault,) = faults(workloads(check="workload:plain"))
    assert fault == (
        "rollcall:sites.docs.check: names the workload plain, which has no check. Set rollcall:workloads.plain.check."
    )


def test_a_port_that_only_nginx_would_serve_is_refused() -> None:
    settings = read("local", workloads(port=8080, check="tcp:8080"))
    assert settings.sites[2].health.check == "tcp:8080"
    (_, _, docs) = read_whole("local", workloads(port=8080))[0].sites
    assert docs.health.check == "http:8080:/"
    config = changed("docs", port=8080)
    # Without `runs` the sample site is served.
    for runs in ([], ["site"]):
        config["fleets"]["web"].update({"runs": runs} if runs else {})
        assert faults(config) == [
            "rollcall:fleets.web.runs: serves site/docs at 80 by nginx. Take rollcall:sites.docs.port out, or add a workload with run."
        ]


def test_a_fleet_runs_the_workload_with_the_deciding_check() -> None:
    config = workloads(check="workload:docs")
    config["fleets"]["web"]["runs"] = ["api", "site"]
    assert faults(config) == [
        "rollcall:fleets.web.runs: lacks docs, which checks whether a machine may join site/docs. Add docs, or change "
        "rollcall:sites.docs.check."
    ]


def test_a_site_that_is_open_to_all_does_not_share_the_port_of_a_closed_one() -> None:
    config = changed("www", proxied=True)
    (fault, other) = faults(config)
    assert fault.startswith(
        "rollcall:fleets.web.joins: has site/docs, which opens port 80 of machines that only Cloudflare's edge may reach for site/www. "
        "Let another fleet join it, "
    )
    assert other.startswith("rollcall:fleets.shop.joins: has site/shop, which opens port 80 ")
    config["sites"]["shop"]["proxied"] = True
    del config["sites"]["docs"]
    config["fleets"]["web"]["joins"].remove("site/docs")
    assert faults(config) == []
    config["sites"]["www"]["port"] = 443
    assert faults(config) == [
        "rollcall:sites.www.port: is set, and Cloudflare's edge asks a proxied site's machines at 443. Leave it out."
    ]


def test_ten_sites_are_the_most_that_a_machine_joins() -> None:
    names = [f"s{each}" for each in range(11)]
    for most, wanted in ((10, 0), (11, 1)):
        config = {
            "sites": {
                each: {"zone": "scalability.expert", "host": each, "apex": each == "s0"} for each in names[:most]
            },
            "fleets": {"web": {**FLEET, "joins": [f"site/{each}" for each in names[:most]]}},
        }
        assert len(faults(config)) == wanted


def test_an_error_of_a_fleet_causes_no_error_of_a_site_that_it_may_join() -> None:
    config = copy.deepcopy(GOOD)
    config["fleets"]["web"]["joins"] = "site/docs"
    assert [each.partition(": ")[0] for each in faults(config)] == ["rollcall:fleets.web.joins"]
