"""The key and the request for a closed site's certificate, and when a new one is due."""

from __future__ import annotations

import base64
import pickle
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from pulumi.dynamic.dynamic import serialize_provider

from components.resources.origin_tls import DAY, OriginKeyProvider, RevocationProvider
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
    OriginKeyProvider: "gASVPAAAAAAAAACMH2NvbXBvbmVudHMucmVzb3VyY2VzLm9yaWdpbl90bHOUjBFPcmlnaW5LZXlQcm92aWRlcpSTlCmBlC4=",
    RevocationProvider: "gASVPQAAAAAAAACMH2NvbXBvbmVudHMucmVzb3VyY2VzLm9yaWdpbl90bHOUjBJSZXZvY2F0aW9uUHJvdmlkZXKUk5QpgZQu",
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
    requested = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert requested.get_values_for_type(x509.DNSName) == NAMES


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


OLD = {"certificate": "1", "zone": "z", "host": NAMES[1], "expires": "2027-01-01 00:00:00 +0000 UTC"}


def certificate(id_: str, host: str, expires: str) -> dict[str, Any]:
    return {"id": id_, "hostnames": [NAMES[0], host], "expires_on": f"{expires} 00:00:00 +0000 UTC"}


@pytest.mark.parametrize(
    ("others", "revoked"),
    [
        ([], True),
        ([certificate("2", NAMES[1], "2027-06-01")], False),
        ([certificate("2", NAMES[1], "2026-06-01")], True),
        ([certificate("2", "staging.scalability.expert", "2027-06-01")], True),
    ],
    ids=["none", "a successor", "a predecessor", "another stack's"],
)
def test_a_certificate_is_revoked_unless_it_has_a_successor(
    monkeypatch: pytest.MonkeyPatch, others: list[dict[str, Any]], revoked: bool
) -> None:
    requested: list[tuple[str, str, Any]] = []

    def call(_: Any, method: str, path: str, query: Any = None) -> list[dict[str, Any]]:
        requested.append((method, path, query))
        return [certificate("1", NAMES[1], "2027-01-01"), *others] if method == "GET" else []

    monkeypatch.setattr(RevocationProvider, "_call", call)
    RevocationProvider().delete("1", OLD)
    assert requested[0] == ("GET", "/certificates", {"zone_id": "z", "per_page": "50"})
    assert requested[1:] == ([("DELETE", "/certificates/1", None)] if revoked else [])


def test_another_certificate_is_another_revocation() -> None:
    provider = RevocationProvider()
    assert provider.diff("1", OLD, {**OLD, "certificate": "2"}).replaces == ["certificate"]
    assert provider.diff("1", OLD, {**OLD, "expires": "later"}).changes is False


@pytest.mark.parametrize("kind", STORED)
def test_a_provider_in_an_old_state_is_found_and_written_again_the_same(kind: type[Any]) -> None:
    assert kind.serialize_as_secret_always is False
    assert serialize_provider(kind()) == STORED[kind]
    assert type(pickle.loads(base64.b64decode(STORED[kind]))) is kind  # noqa: S301
