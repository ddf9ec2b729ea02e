"""components.preflight.cloudflare_fault on the local Cloudflare: what a token lacks is named before anything is made with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pulumi
import pytest

from components.preflight import cloudflare_fault
from components.settings import HealthSettings, SiteSettings
from tests.cloud.cloudflare_server import OPERATOR, ZONE, Front, Lab

pytestmark = pytest.mark.clouds
PLAIN = SiteSettings(zone=ZONE, health=HealthSettings(check="http:80:/"))
CLOSED = replace(PLAIN, proxied=True)
USER = ("API Tokens Write",)


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    made = Front()
    yield made
    made.stop()


@pytest.fixture
def lab(front: Front, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("CLOUDFLARE_BASE_URL", front.url)
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", OPERATOR)
    given(monkeypatch, "")
    monkeypatch.setattr(pulumi.runtime, "is_dry_run", lambda: False)
    return Lab(front)


def given(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    told = {"rollcall:machineToken": token} if token else {}
    monkeypatch.setattr(pulumi.runtime, "get_config", told.get)
    monkeypatch.setattr(pulumi.runtime, "is_config_secret", lambda key: key in told)


def operator(lab: Lab, monkeypatch: pytest.MonkeyPatch, zone: tuple[str, ...], user: tuple[str, ...] = USER) -> None:
    """Work with a token that has just these permission groups."""

    def policy(names: tuple[str, ...], resource: str) -> dict[str, object]:
        groups = [{"id": next(iter(lab.api.user.tokens.permission_groups.list(name=name))).id} for name in names]
        return {"effect": "allow", "permission_groups": groups, "resources": {resource: "*"}}

    me = lab.raw("GET", "/user").json()["result"]["id"]
    policies = [policy(zone, f"com.cloudflare.api.account.zone.{lab.zone}")]
    policies += [policy(user, f"com.cloudflare.api.user.{me}")] if user else []
    made = lab.raw("POST", "/user/tokens", json={"name": "operator's", "policies": policies}).json()
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", made["result"]["value"])


def test_a_token_with_all_that_a_plain_site_needs_is_fine(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cloudflare_fault(PLAIN) is None
    operator(lab, monkeypatch, ("Zone Read", "DNS Write"))
    assert cloudflare_fault(PLAIN) is None


def test_what_a_closed_site_needs_besides_is_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    operator(lab, monkeypatch, ("Zone Read", "DNS Write"))
    lacking = "CLOUDFLARE_API_TOKEN: lacks SSL and Certificates Write, Zone Settings Write; edit its permissions"
    assert cloudflare_fault(CLOSED) == lacking
    operator(lab, monkeypatch, ("Zone Read", "DNS Write", "SSL and Certificates Write", "Zone Settings Write"))
    assert cloudflare_fault(CLOSED) is None


def test_reading_is_not_writing_and_writing_is_reading(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    operator(lab, monkeypatch, ("Zone Write", "DNS Read"))
    assert cloudflare_fault(PLAIN) == "CLOUDFLARE_API_TOKEN: lacks DNS Write; edit its permissions"
    operator(lab, monkeypatch, ("Zone Read", "Zone Write", "DNS Write"))
    assert cloudflare_fault(PLAIN) is None


def test_a_preview_needs_no_right_to_write(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = ("Zone Read", "DNS Read", "SSL and Certificates Read", "Zone Settings Read")
    operator(lab, monkeypatch, reads, user=("API Tokens Read",))
    lacking = "lacks DNS Write, SSL and Certificates Write, Zone Settings Write, API Tokens Write"
    assert lacking in str(cloudflare_fault(CLOSED))
    monkeypatch.setattr(pulumi.runtime, "is_dry_run", lambda: True)
    assert cloudflare_fault(CLOSED) is None


def test_protection_needs_the_right_to_set_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    operator(lab, monkeypatch, ("Zone Read", "DNS Write"))
    assert "lacks Zone Settings Write" in str(cloudflare_fault(replace(PLAIN, protection="high")))


def test_a_token_that_makes_no_tokens_is_told_both_ways_out(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    operator(lab, monkeypatch, ("Zone Read", "DNS Write"), user=())
    said = str(cloudflare_fault(PLAIN))
    assert "may make no token for the machines (HTTP 403)" in said
    assert "User API Tokens Write" in said and "pulumi config set --secret rollcall:machineToken" in said


def test_a_token_for_the_machines_that_was_made_elsewhere_is_enough(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    operator(lab, monkeypatch, ("Zone Read", "DNS Write"), user=())
    given(monkeypatch, str(lab.token("DNS Write").api_token))
    assert cloudflare_fault(PLAIN) is None


@pytest.mark.parametrize(
    ("token", "wrong"), [("short", "is no API token"), ("x" * 40, "does not accept it (HTTP 401)")]
)
def test_one_that_is_not_valid_is_named_and_never_printed(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, token: str, wrong: str
) -> None:
    given(monkeypatch, token)
    said = str(cloudflare_fault(PLAIN))
    assert said.startswith("rollcall:machineToken: ") and wrong in said and token not in said.replace(wrong, "")


def test_one_in_plain_text_is_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, str(lab.token("DNS Write").api_token))
    monkeypatch.setattr(pulumi.runtime, "is_config_secret", lambda key: False)
    assert "rollcall:machineToken: is in plain text" in str(cloudflare_fault(PLAIN))


def test_a_zone_that_is_not_in_the_account_is_named(lab: Lab) -> None:
    assert "other.example is not in the account" in str(cloudflare_fault(replace(PLAIN, zone="other.example")))
    assert cloudflare_fault(replace(PLAIN, zone="other.example", create=True)) is None
