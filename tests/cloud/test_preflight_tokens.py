"""components.preflight.credentials on the local Cloudflare: what a token lacks is named before anything is made with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pulumi
import pytest

from components.config.models import SiteSettings
from components.config.site_zones import ZoneSettings
from components.dns import cloudflare_api
from components.preflight.credentials import cloudflare_fault, cloudflare_found
from rollcall import retrying
from tests.cloud.cloudflare_server import OPERATOR, ZONE, Front, Lab

pytestmark = pytest.mark.clouds


def fault_of(site: SiteSettings, *, joined: bool = False) -> str | None:
    return cloudflare_fault(ZoneSettings(sites=(site,)), joined=joined)


PLAIN = SiteSettings(name="www", zone=ZONE)
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
    given_settings = {"rollcall:machineToken": token} if token else {}
    monkeypatch.setattr(pulumi.runtime, "get_config", given_settings.get)
    monkeypatch.setattr(pulumi.runtime, "is_config_secret", lambda key: key in given_settings)


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
    assert fault_of(PLAIN) is None
    operator(lab, monkeypatch, ("Zone Read", "DNS Write"))
    assert fault_of(PLAIN) is None


def test_what_a_closed_site_needs_besides_is_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    operator(lab, monkeypatch, ("Zone Read", "DNS Write"))
    lacking = "CLOUDFLARE_API_TOKEN: lacks SSL and Certificates Write, Zone Settings Write. Edit its permissions."
    assert fault_of(CLOSED) == lacking
    operator(lab, monkeypatch, ("Zone Read", "DNS Write", "SSL and Certificates Write", "Zone Settings Write"))
    assert fault_of(CLOSED) is None


def test_reading_is_not_writing_and_writing_is_reading(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    operator(lab, monkeypatch, ("Zone Write", "DNS Read"))
    assert fault_of(PLAIN) == "CLOUDFLARE_API_TOKEN: lacks DNS Write. Edit its permissions."
    operator(lab, monkeypatch, ("Zone Read", "Zone Write", "DNS Write"))
    assert fault_of(PLAIN) is None


def test_a_preview_needs_no_right_to_write(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = ("Zone Read", "DNS Read", "SSL and Certificates Read", "Zone Settings Read")
    operator(lab, monkeypatch, reads, user=("API Tokens Read",))
    lacking = "lacks DNS Write, SSL and Certificates Write, Zone Settings Write, API Tokens Write"
    assert lacking in str(fault_of(CLOSED))
    monkeypatch.setattr(pulumi.runtime, "is_dry_run", lambda: True)
    assert fault_of(CLOSED) is None


def test_protection_needs_the_right_to_set_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    operator(lab, monkeypatch, ("Zone Read", "DNS Write"))
    assert "lacks Zone Settings Write" in str(fault_of(replace(PLAIN, protection="high")))


def test_the_error_of_a_token_that_makes_no_tokens_has_both_fixes(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    operator(lab, monkeypatch, ("Zone Read", "DNS Write"), user=())
    message = str(fault_of(PLAIN))
    assert "may make no token for the machines (HTTP 403)" in message
    assert "User API Tokens Write" in message and "pulumi config set --secret rollcall:machineToken" in message


def test_a_token_for_the_machines_that_was_made_elsewhere_is_enough(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    operator(lab, monkeypatch, ("Zone Read", "DNS Write"), user=())
    given(monkeypatch, str(lab.token("DNS Write").api_token))
    assert fault_of(PLAIN) is None


@pytest.mark.parametrize(
    ("token", "wrong"), [("short", "is not an API token"), ("x" * 40, "does not accept it (HTTP 401)")]
)
def test_one_that_is_not_valid_is_named_and_never_printed(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, token: str, wrong: str
) -> None:
    given(monkeypatch, token)
    message = str(fault_of(PLAIN))
    assert (
        message.startswith("rollcall:machineToken: ") and wrong in message and token not in message.replace(wrong, "")
    )


def test_one_in_plain_text_is_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, str(lab.token("DNS Write").api_token))
    monkeypatch.setattr(pulumi.runtime, "is_config_secret", lambda key: False)
    assert "rollcall:machineToken: is in plain text" in str(fault_of(PLAIN))


def test_a_zone_that_is_not_in_the_account_is_named(lab: Lab) -> None:
    assert "other.example is not in the account" in str(fault_of(replace(PLAIN, zone="other.example")))
    assert fault_of(replace(PLAIN, zone="other.example", create=True)) is None


class Outage:
    """A front of the local Cloudflare that answers with these replies (status, headers, body) after so many requests have gone through.
    A negative status is answered again and again."""

    def __init__(
        self,
        lab: Lab,
        monkeypatch: pytest.MonkeyPatch,
        *replies: tuple[int, dict[str, str], bytes],
        after: int = 0,
    ) -> None:
        self.replies, self.after, self.through, self._app = list(replies), after, 0, lab.cloud.app
        monkeypatch.setattr(lab.cloud, "app", self)

    def __call__(self, environ: Any, start_response: Any) -> Any:
        if self.through < self.after or not self.replies:
            self.through += 1
            return self._app(environ, start_response)
        status, headers, body = self.replies[0] if self.replies[0][0] < 0 else self.replies.pop(0)
        start_response(f"{abs(status)} Text", [("Content-Type", "text/html"), *headers.items()])
        return [body]


def account_token(lab: Lab, *groups: str, account: tuple[str, ...] = (), **more: Any) -> str:
    """The value of a token that the account owns, with these permission groups on the zone, and `account` on the account."""
    home = lab.cloud.account_id

    def policy(names: tuple[str, ...], resource: str) -> dict[str, object]:
        listed = lab.raw("GET", f"/accounts/{home}/tokens/permission_groups").json()["result"]
        ids = [{"id": each["id"]} for each in listed if each["name"] in names]
        return {"effect": "allow", "permission_groups": ids, "resources": {resource: "*"}}

    policies = [policy(groups, f"com.cloudflare.api.account.zone.{lab.zone}")]
    policies += [policy(account, f"com.cloudflare.api.account.{home}")] if account else []
    made = lab.raw("POST", f"/accounts/{home}/tokens", json={"name": "ours", "policies": policies, **more}).json()
    return str(made["result"]["value"])


class TestAccountOwned:
    """https://developers.cloudflare.com/fundamentals/api/get-started/account-owned-tokens/"""

    def test_one_that_makes_tokens_of_its_account_is_fine(self, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        value = account_token(lab, "Zone Read", "DNS Write", account=("Account API Tokens Write",))
        assert lab.raw("GET", "/user/tokens/verify", token=value).status_code == 401
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", value)
        found = cloudflare_found(ZoneSettings(sites=(PLAIN,)))
        assert (found.fault, found.token_account) == (None, lab.cloud.account_id)
        assert fault_of(CLOSED) == (
            "CLOUDFLARE_API_TOKEN: lacks SSL and Certificates Write, Zone Settings Write. Edit its permissions."
        )

    def test_the_error_of_an_account_token_that_makes_none_has_both_fixes(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", account_token(lab, "Zone Read", "DNS Write"))
        message = str(fault_of(PLAIN))
        assert (
            "may make no token for the machines (HTTP 403). Give it Account API Tokens Write, or make one with"
            in message
        )
        given(monkeypatch, str(lab.token("DNS Write").api_token))
        assert fault_of(PLAIN) is None

    def test_one_that_sees_neither_zone_nor_account_is_not_called_invalid(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", account_token(lab, "DNS Write"))
        message = str(fault_of(PLAIN))
        assert message.startswith(
            "CLOUDFLARE_API_TOKEN: the token is an account's, and sees neither the site's zone nor its account"
        )
        assert message.endswith("Give it Zone Read for the zone, or Account Settings Read.")
        made = replace(PLAIN, zone="new.example", create=True)
        rights = ("Account API Tokens Write",)
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", account_token(lab, "Zone Write", "DNS Write", account=rights))
        assert "sees neither" in str(fault_of(made))
        assert fault_of(replace(made, account_id=lab.cloud.account_id)) is None

    def test_one_for_the_machines_is_fine(self, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        given(monkeypatch, account_token(lab, "DNS Write"))
        assert fault_of(PLAIN) is None

    @pytest.mark.parametrize("owner", ["operator", "machines"])
    def test_one_that_has_expired_says_so(self, lab: Lab, monkeypatch: pytest.MonkeyPatch, owner: str) -> None:
        value = account_token(lab, "Zone Read", "DNS Write", expires_on="2027-01-01T00:00:00Z")
        if owner == "operator":
            monkeypatch.setenv("CLOUDFLARE_API_TOKEN", value)
        else:
            given(monkeypatch, value)
        lab.clock.now = 1_800_000_000.0
        key = "CLOUDFLARE_API_TOKEN" if owner == "operator" else "rollcall:machineToken"
        message = str(fault_of(PLAIN))
        # An expired token lists no zones, so its account is not found unless another token tells it.
        expected = "Cloudflare does not accept it" if owner == "operator" else "the token has expired (2027-01-01"
        assert message.startswith(f"{key}: {expected}")


class TestNotTheTokensFault:
    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cloudflare_api, "PATIENCE_S", 1.5)
        monkeypatch.setattr(retrying, "FIRST", 0.01)

    @pytest.mark.parametrize("after", range(3))
    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    def test_what_passes_is_retried_whichever_request_it_hits(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch, status: int, after: int
    ) -> None:
        outage = Outage(lab, monkeypatch, (status, {"Retry-After": "0"}, b"no JSON"), after=after)
        assert fault_of(PLAIN) is None
        assert (outage.through, outage.replies) == (3, [])

    @pytest.mark.parametrize(
        ("reply", "message"),
        [
            (
                (429, {"Retry-After": "240"}),
                "takes no more requests of this token's owner for now (HTTP 429) and asks to wait 240 s.",
            ),
            ((429, {}), "for now (HTTP 429). The token is not at fault. Wait"),
            (
                (503, {}),
                "CLOUDFLARE_BASE_URL: Cloudflare's API fails (HTTP 503). The token is not at fault. Try again later",
            ),
            ((500, {}), "Cloudflare's API fails (HTTP 500)"),
            ((200, {}), "is not Cloudflare's API (HTTP 200). Correct the address"),
            ((403, {}), "is not Cloudflare's API (HTTP 403)"),
        ],
    )
    def test_what_stays_is_reported_as_what_it_is(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch, reply: tuple[int, dict[str, str]], message: str
    ) -> None:
        Outage(lab, monkeypatch, (-reply[0], reply[1], b"<html>"))
        found = str(fault_of(PLAIN))
        assert message in found and "valid token" not in found and "permission" not in found

    def test_an_address_where_nothing_answers_is_not_a_fault_of_the_token(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CLOUDFLARE_BASE_URL", "http://127.0.0.1:9/client/v4")
        assert str(fault_of(PLAIN)).startswith(
            "CLOUDFLARE_BASE_URL: http://127.0.0.1:9/client/v4 cannot be reached (ConnectionError). Check the network"
        )


class TestTheTokensFault:
    def test_an_unknown_one_is_named_with_cloudflares_own_words(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "x" * 40)
        message = "CLOUDFLARE_API_TOKEN: Cloudflare does not accept it (HTTP 401): Invalid API Token (1000). Give a valid token."
        assert fault_of(PLAIN) == message

    def test_a_value_that_is_not_a_token_is_reported(self, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "short")
        message = str(fault_of(PLAIN))
        assert message.startswith(
            "CLOUDFLARE_API_TOKEN: is not an API token (HTTP 400): Invalid request headers: Invalid format for"
        )

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"status": "disabled"}, "CLOUDFLARE_API_TOKEN: the token is disabled. Enable it"),
            (
                {"expires_on": "2026-09-01T00:00:00Z"},
                "CLOUDFLARE_API_TOKEN: the token has expired (2026-09-01T00:00:00Z).",
            ),
            (
                {"not_before": "2200-01-01T00:00:00Z"},
                "CLOUDFLARE_API_TOKEN: the token works from 2200-01-01T00:00:00Z on.",
            ),
            (
                {"condition": {"request_ip": {"in": ["192.0.2.0/24"]}}},
                "CLOUDFLARE_API_TOKEN: the token may not be used from this machine (HTTP 403): Cannot use the access token from",
            ),
        ],
    )
    def test_one_that_does_not_work_now_or_here_says_why(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], message: str
    ) -> None:
        operator(lab, monkeypatch, ("Zone Read", "DNS Write"))
        (made,) = [each for each in lab.raw("GET", "/user/tokens").json()["result"] if each["name"] == "operator's"]
        body = {"name": made["name"], "policies": made["policies"], **change}
        assert lab.raw("PUT", f"/user/tokens/{made['id']}", json=body).status_code == 200
        assert str(fault_of(PLAIN)).startswith(message)

    def test_one_for_the_machines_that_cannot_use_the_zone_is_named(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = lab.cloud.add_zone("other.example")
        given(
            monkeypatch,
            str(lab.token("DNS Write", resources={f"com.cloudflare.api.account.zone.{other}": "*"}).api_token),
        )
        assert fault_of(PLAIN) == (
            "rollcall:machineToken: the token may not read the records of "
            + ZONE
            + " (HTTP 403). Give it DNS Write for this zone."
        )
