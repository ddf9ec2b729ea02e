"""The key and the request for a closed site's certificate, and when a new one is due."""

from __future__ import annotations

import base64
import pickle
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from pulumi.dynamic.dynamic import serialize_provider

from components import origin
from components.origin import DAY, HandoverProvider, OriginKeyProvider
from localcloud.cloudflare.certificates import OriginCa

NAMES = ["scalability.expert", "www.scalability.expert"]
INPUTS: dict[str, Any] = {
    "hostnames": NAMES,
    "days": 365,
    "renewal": "",
    "private_key": None,
    "csr": None,
    "made": None,
}
# As a state of this version has them: users' states are read by later ones.
STORED: dict[type[Any], str] = {
    OriginKeyProvider: "gASVLgAAAAAAAACMEWNvbXBvbmVudHMub3JpZ2lulIwRT3JpZ2luS2V5UHJvdmlkZXKUk5QpgZQu",
    HandoverProvider: "gASVLQAAAAAAAACMEWNvbXBvbmVudHMub3JpZ2lulIwQSGFuZG92ZXJQcm92aWRlcpSTlCmBlC4=",
}


def made() -> tuple[str, dict[str, Any]]:
    found = OriginKeyProvider().create(INPUTS)
    return found.id, found.outs


def test_the_request_is_for_the_key_and_cloudflare_signs_it() -> None:
    _, outs = made()
    key = serialization.load_pem_private_key(outs["private_key"].encode(), None)
    body = {"csr": outs["csr"], "hostnames": NAMES, "request_type": "origin-ecc", "requested_validity": 365}
    signed = x509.load_pem_x509_certificate(OriginCa(0.0).sign(body, 0.0).pem.encode())
    assert signed.public_key() == key.public_key()
    request = x509.load_pem_x509_csr(outs["csr"].encode())
    asked = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert asked.get_values_for_type(x509.DNSName) == NAMES


def test_each_key_is_another_one() -> None:
    (first, one), (second, two) = made(), made()
    assert first != second and one["private_key"] != two["private_key"]


@pytest.mark.parametrize(
    ("days_later", "renewal"),
    [(0, ""), (335, ""), (335.1, "30 days left"), (345, "20 days left"), (400, "0 days left")],
)
def test_a_refresh_says_when_a_new_one_is_due(monkeypatch: pytest.MonkeyPatch, days_later: float, renewal: str) -> None:
    id_, outs = made()
    monkeypatch.setattr("time.time", lambda: outs["made"] + days_later * DAY)
    read = OriginKeyProvider().read(id_, outs)
    assert (read.id, read.outs["renewal"]) == (id_, renewal)
    assert read.inputs == {"hostnames": NAMES, "days": 365, "renewal": renewal}
    assert {key: read.outs[key] for key in ("private_key", "csr", "made")} == {
        key: outs[key] for key in ("private_key", "csr", "made")
    }
    difference = OriginKeyProvider().diff(id_, read.outs, INPUTS)
    assert (difference.changes, difference.replaces) == (bool(renewal), ["renewal"] if renewal else [])
    assert difference.delete_before_replace is False


@pytest.mark.parametrize(("name", "value"), [("hostnames", ["www.example.org"]), ("days", 90)])
def test_what_the_certificate_is_for_replaces_the_key(name: str, value: Any) -> None:
    id_, outs = made()
    assert OriginKeyProvider().diff(id_, outs, INPUTS).changes is False
    assert OriginKeyProvider().diff(id_, outs, {**INPUTS, name: value}).replaces == [name]


@pytest.mark.parametrize("handed_over", [False, True])
def test_a_revocation_waits_only_after_a_successor_was_handed_over(
    monkeypatch: pytest.MonkeyPatch, handed_over: bool
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(origin, "_handed_over", False)
    monkeypatch.setattr("components.progress.Engine.sleep", lambda _, seconds: slept.append(seconds))
    provider = HandoverProvider()
    if handed_over:
        provider.create({"certificate": "2"})
    provider.delete("1", {"certificate": "1"})
    assert slept == ([origin.HANDOVER] if handed_over else [])
    assert provider.diff("1", {"certificate": "1"}, {"certificate": "2"}).replaces == ["certificate"]
    assert provider.diff("1", {"certificate": "1"}, {"certificate": "1"}).changes is False


@pytest.mark.parametrize("kind", STORED)
def test_a_provider_in_an_old_state_is_found_and_written_again_the_same(kind: type[Any]) -> None:
    assert kind.serialize_as_secret_always is False
    assert serialize_provider(kind()) == STORED[kind]
    assert type(pickle.loads(base64.b64decode(STORED[kind]))) is kind  # noqa: S301
