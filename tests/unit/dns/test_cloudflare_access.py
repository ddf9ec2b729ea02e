"""components.dns.cloudflare_access: where the operator's access to Cloudflare comes from."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import requests

from components.dns.cloudflare import Place
from components.dns.cloudflare_access import (
    CLOUDFLARE_KEYS,
    cloudflare_faults,
    cloudflare_token,
    cloudflare_token_key,
    cloudflare_url,
)
from components.registration.props import registries_of
from rollcall.errors import TransientError

CONFIG = {"cloudflare:apiToken": "configured", "cloudflare:baseUrl": "http://198.51.100.1/v4/"}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_TOKEN", "BASE_URL", "API_KEY", "API_USER_SERVICE_KEY"):
        monkeypatch.delenv(f"CLOUDFLARE_{name}", raising=False)


def test_the_config_counts_before_the_environment_as_with_the_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: Callable[[str], str | None] = {"other:key": "x"}.get
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "exported")
    monkeypatch.setenv("CLOUDFLARE_BASE_URL", "http://198.51.100.2/v4")
    assert (cloudflare_token(CONFIG.get), cloudflare_url(CONFIG.get)) == ("configured", "http://198.51.100.1/v4")
    assert (cloudflare_token(nothing), cloudflare_url(nothing)) == ("exported", "http://198.51.100.2/v4")
    assert cloudflare_token_key(CONFIG.get) == "cloudflare:apiToken"
    assert cloudflare_token_key(nothing) == "CLOUDFLARE_API_TOKEN"
    assert {*CLOUDFLARE_KEYS} == {*CONFIG}


@pytest.mark.parametrize("key", ["cloudflare:apiKey", "cloudflare:apiUserServiceKey"])
def test_what_only_the_provider_would_use_is_a_fault(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cloudflare_faults({**CONFIG}.get) == []
    (fault,) = cloudflare_faults({**CONFIG, key: "x"}.get)
    assert fault.startswith(f"{key}: the provider would use it") and "Give an API token" in fault
    variable = "CLOUDFLARE_API_KEY" if key.endswith("apiKey") else "CLOUDFLARE_API_USER_SERVICE_KEY"
    monkeypatch.setenv(variable, "x")
    (fault,) = cloudflare_faults(CONFIG.get)
    assert fault.startswith(f"{variable}: the provider would use it")


def test_without_either_there_is_no_token_and_the_public_address() -> None:
    nothing: Callable[[str], str | None] = {"other:key": "x"}.get
    assert (cloudflare_token(nothing), cloudflare_url(nothing)) == ("", "https://api.cloudflare.com/client/v4")


def test_a_roll_call_asks_the_address_that_only_the_config_has(monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[tuple[str, str]] = []

    def request(session: requests.Session, _method: str, url: str, **_: object) -> requests.Response:
        requested.append((url, str(session.headers["Authorization"])))
        raise requests.ConnectionError

    monkeypatch.setattr(requests.Session, "request", request)
    monkeypatch.setattr("components.dns.cloudflare.WITHIN", 0.0)
    place = Place(zone="Z", domain="scalability.expert", host="www.scalability.expert", ttl=60, proxied=False)
    props = {
        "stack": "local",
        "places": [place.as_inputs()],
        "fleet": "web",
        "cloud": {"cloud": "aws", "region": "us-west-2"},
    }
    with pytest.raises(TransientError):
        registries_of(props, CONFIG).dns_records()
    assert requested == [("http://198.51.100.1/v4/zones/Z/dns_records", "Bearer configured")]
