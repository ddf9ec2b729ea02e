"""rollcall.settings: the table of tags and metadata survives the way to a machine, within EC2's limits."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.settings import CloudflareJoin, MachineSettings, Route53Join, SettingsError, format_join, parse_join
from tests.unit.agent.told import as_keys

SITE = CloudflareJoin(zone="a" * 32, host="www.scalability.expert", token="/rollcall/local/cloudflare-token")
SERVICE = Route53Join(
    zone="Z0123456789ABCDEFGHIJ", domain="unilans.net", service="_theService._tcp", incarnation="v1", port=4218
)
TOLD = MachineSettings(
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
    assert MachineSettings.from_keys(as_keys(TOLD)) == TOLD
    assert MachineSettings.from_keys(as_keys(replace(TOLD, drain=True))).drain


def test_keys_and_values_fit_ec2_tags_as_imds_shows_them() -> None:
    for key, value in as_keys(TOLD).items():
        assert EC2_IMDS_KEY.fullmatch(key), key
        assert EC2_VALUE.fullmatch(value), value


def test_the_keys_of_others_are_ignored() -> None:
    assert MachineSettings.from_keys({**as_keys(TOLD), "Name": "x", "rollcall-join-x": "y", "user-script": "z"}) == TOLD


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
        ("cloudflare zone=a host=b token=c colour=red", "colour=red"),
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
