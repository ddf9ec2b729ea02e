"""rollcall.settings: the table of tags and metadata survives the way to a machine, within EC2's limits."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.in_place import GATE, HOLD, WantedRelease
from rollcall.settings import CloudflareJoin, MachineSettings, Route53Join, SettingsError, format_join, parse_join
from tests.unit.agent.settings_fixtures import as_keys

SITE = CloudflareJoin(zone="a" * 32, host="www.scalability.expert", token="/rollcall/local/token-scalability_expert")
SERVICE = Route53Join(
    zone="Z0123456789ABCDEFGHIJ", domain="unilans.net", service="_theService._tcp", incarnation="v1", port=4218
)
SETTINGS = MachineSettings(
    stack="local",
    fleet="web",
    machine="0",
    generation="ab12cd",
    workloads=("site", "the-service"),
    joins=(SITE, SERVICE),
)
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html: what may be in a tag, and in a key that IMDS shows
EC2_VALUE = re.compile(r"[\w .:/=+@-]{0,256}")
EC2_IMDS_KEY = re.compile(r"[A-Za-z0-9+=.,_:@-]{1,128}")


def test_machine_settings_are_read_back() -> None:
    assert MachineSettings.from_keys(as_keys(SETTINGS)) == SETTINGS
    assert MachineSettings.from_keys(as_keys(replace(SETTINGS, drain=True))).drain


def test_the_live_settings_are_read_with_the_others() -> None:
    wanted = WantedRelease(workload="www", digest="a" * 64, rollout="0a1b2c3d")
    keys = {**as_keys(SETTINGS), wanted.key: wanted.words(), HOLD: "disk full", f"{GATE}www": "x"}
    assert MachineSettings.from_keys(keys) == replace(SETTINGS, wanted=(wanted,), hold="disk full")
    assert MachineSettings.from_keys({**as_keys(SETTINGS), HOLD: ""}).hold == "no reason given"


def test_keys_and_values_fit_ec2_tags_as_imds_shows_them() -> None:
    for key, value in as_keys(SETTINGS).items():
        assert EC2_IMDS_KEY.fullmatch(key), key
        assert EC2_VALUE.fullmatch(value), value


def test_the_keys_of_others_are_ignored() -> None:
    assert (
        MachineSettings.from_keys({**as_keys(SETTINGS), "Name": "x", "rollcall-join-x": "y", "user-script": "z"})
        == SETTINGS
    )


@given(st.integers(0, 65535), st.integers(0, 65535), st.integers(1, 86400), st.booleans())
def test_every_number_and_flag_survives(priority: int, weight: int, ttl: int, proxied: bool) -> None:
    service = replace(SERVICE, priority=priority, weight=weight, ttl=ttl)
    assert parse_join(format_join(service)) == service
    site = replace(SITE, ttl=ttl, proxied=proxied)
    assert parse_join(format_join(site)) == site


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("consul host=x", "none of cloudflare, route53"),
        ("cloudflare zone=a host=b token=c ttl=soon", "ttl must be a whole number"),
        ("cloudflare zone=a host=b token=c proxied=yes", "proxied must be true or false"),
        ("cloudflare zone=a host=b token=c colour", "'colour' is not NAME=VALUE"),
        ("cloudflare zone=a", "missing"),
        ("route53 zone", "zone"),
    ],
)
def test_a_wrong_membership_names_the_key_and_the_word(text: str, named: str) -> None:
    with pytest.raises(SettingsError, match=named) as error:
        parse_join(text, "rollcall-join-0")
    assert "rollcall-join-0" in str(error.value)


def test_a_machine_without_identity_names_all_that_lacks() -> None:
    with pytest.raises(SettingsError, match="rollcall-stack, rollcall-fleet, rollcall-machine, rollcall-generation"):
        MachineSettings.from_keys({})


def test_a_value_over_ec2s_limit_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=r"characters long, EC2 takes 256"):
        format_join(replace(SITE, host="x" * 250))


# What the program of format 1 writes, recorded when the format was given its number. Never change it: add a row.
RECORDED = {
    "rollcall-stack": "local",
    "rollcall-fleet": "web",
    "rollcall-machine": "0",
    "rollcall-generation": "ab12cd",
    "rollcall-workloads": "www shop",
    "rollcall-workload-www": "0" * 64,
    "rollcall-release": "1" * 64,
    "rollcall-store": "s3 bucket=rollcall-releases-1a2b3c4 region=us-west-2",
    "rollcall-probe": "/rollcall/local/web/probe-key",
    "rollcall-secrets-shop": "revision=0123456789abcdef turn=3 prefix=/rollcall/local/web/shop.",
    "rollcall-join-0": "cloudflare zone=z host=www.scalability.expert token=t ttl=60 proxied=true origin=o check=tcp:80 labels=2",
    "rollcall-join-1": "route53 zone=Z1 domain=unilans.net service=_theService._tcp incarnation=v1 port=4218 weight=20"
    " check=tcp:4218 srv=incarnation key=route53-key floor=2 ttl=15 priority=5 ipv6=true rise=2 fall=3",
    "rollcall-join-2": "rfc2136-site server=192.0.2.53@53 host=www.example.net key=tsig-key floor6=2",
    "rollcall-join-3": "rfc2136 server=192.0.2.53@53 zone=example.net domain=example.net service=_a._tcp incarnation=v1 port=1 key=k",
}


def test_this_agent_reads_the_settings_of_an_older_program_with_its_defaults() -> None:
    read = MachineSettings.from_keys(RECORDED)
    site, service, dynamic_site, dynamic = read.joins
    assert isinstance(site, CloudflareJoin) and isinstance(service, Route53Join)
    assert (site.ttl, site.proxied, site.origin, site.labels, site.floor, site.fall) == (60, True, "o", 2, 1, 5)
    assert (service.weight, service.srv, service.floor, service.rise, service.fall) == (20, "incarnation", 2, 2, 3)
    assert dynamic_site.floors == {"A": 1, "AAAA": 2} and dynamic.checks == ("tcp:1",)
    assert read.secrets[0].words == RECORDED["rollcall-secrets-shop"] and not read.drain
    # The oldest that are possible: only what has no default.
    bare = {key: RECORDED[key] for key in list(RECORDED)[:4]}
    least = MachineSettings.from_keys(
        {**bare, "rollcall-join-0": "route53 zone=Z domain=d service=s incarnation=v port=1"}
    )
    assert (least.workloads, least.probe, least.secrets, least.joins[0].checks) == ((), "", (), ("tcp:1",))


def test_this_agent_ignores_what_a_newer_program_adds() -> None:
    newer = {**RECORDED, "rollcall-colour": "red", "rollcall-format": "1"}
    for key in (each for each in RECORDED if each.startswith(("rollcall-join-", "rollcall-secrets-"))):
        newer[key] += " colour=red shape=round"
    assert MachineSettings.from_keys(newer) == MachineSettings.from_keys(RECORDED)


@pytest.mark.parametrize("newer", ["2", "10", "", "x", "-1"])
def test_this_agent_refuses_another_major_format_by_its_number(newer: str) -> None:
    with pytest.raises(
        SettingsError, match=f"^rollcall-format: has format '{newer}', and this agent reads 1\\. Replace"
    ):
        MachineSettings.from_keys({**RECORDED, "rollcall-format": newer})
