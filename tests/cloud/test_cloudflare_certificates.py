"""Origin CA certificates of the local Cloudflare through the official SDK."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.cloud.cloudflare_server import ZONE, Front, Lab, refused

pytestmark = pytest.mark.clouds

HOSTS = [ZONE, f"*.{ZONE}"]


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    made = Front()
    yield made
    made.stop()


@pytest.fixture
def lab(front: Front) -> Lab:
    return Lab(front)


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def request_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.PEM).decode()


def ask(api: Any, key: ec.EllipticCurvePrivateKey, **changes: Any) -> Any:
    usual = {"csr": request_of(key), "hostnames": HOSTS, "request_type": "origin-ecc", "requested_validity": 90}
    return api.origin_ca_certificates.create(**{**usual, **changes})


def test_a_certificate_is_signed_for_the_key_and_the_hosts(lab: Lab, key: ec.EllipticCurvePrivateKey) -> None:
    made = ask(lab.api, key)
    certificate = x509.load_pem_x509_certificate(made.certificate.encode())
    authority = x509.load_pem_x509_certificate(lab.cloud.origin_ca_pem.encode())
    certificate.verify_directly_issued_by(authority)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == HOSTS
    assert certificate.public_key() == key.public_key()
    assert certificate.not_valid_after_utc.timestamp() - lab.clock.now == datetime.timedelta(days=90).total_seconds()
    assert made.id == str(certificate.serial_number)


def test_it_is_read_listed_and_revoked(lab: Lab, key: ec.EllipticCurvePrivateKey) -> None:
    made = ask(lab.api, key)
    assert lab.api.origin_ca_certificates.get(made.id) == made
    assert [each.id for each in lab.api.origin_ca_certificates.list(zone_id=lab.zone)] == [made.id]
    gone = lab.api.origin_ca_certificates.delete(made.id)
    assert gone is not None and gone.id == made.id and gone.revoked_at is not None
    assert list(lab.api.origin_ca_certificates.list(zone_id=lab.zone)) == []
    assert lab.raw("GET", f"/certificates/{made.id}").status_code == 404


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"hostnames": ["elsewhere.example"]}, 1010),
        ({"hostnames": [f"*.*.{ZONE}"]}, 1010),
        ({"hostnames": ["198.51.100.1"]}, 1010),
        ({"hostnames": []}, 1004),
        ({"csr": "nonsense"}, 1004),
        ({"request_type": "origin-rsa"}, 1004),
        ({"requested_validity": 91}, 1004),
    ],
    ids=str,
)
def test_what_cannot_be_signed_is_refused(
    lab: Lab, key: ec.EllipticCurvePrivateKey, changes: dict[str, Any], code: int
) -> None:
    with refused(400, code):
        ask(lab.api, key, **changes)


def test_a_request_with_a_forged_signature_is_refused(lab: Lab, key: ec.EllipticCurvePrivateKey) -> None:
    der = bytearray(x509.load_pem_x509_csr(request_of(key).encode()).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM).decode()
    with refused(400, 1004, "signature"):
        ask(lab.api, key, csr=forged)


def test_rsa_keys_are_signed_as_such(lab: Lab) -> None:
    made = ask(
        lab.api, rsa.generate_private_key(65537, 2048), request_type="origin-rsa"  # type: ignore[arg-type]
    )  # fmt: skip
    assert x509.load_pem_x509_certificate(made.certificate.encode())


def test_only_a_token_with_the_certificate_permission_gets_one(lab: Lab, key: ec.EllipticCurvePrivateKey) -> None:
    with refused(403, 1016, "User is not authorized"):
        ask(lab.token("DNS Write"), key)
    made = ask(lab.token("SSL and Certificates Write"), key)
    reader = lab.token("SSL and Certificates Read")
    assert reader.origin_ca_certificates.get(made.id) == made
    with refused(403, 1016):
        reader.origin_ca_certificates.delete(made.id)


def test_a_list_needs_its_zone(lab: Lab) -> None:
    reply = lab.raw("GET", "/certificates")
    assert (reply.status_code, reply.json()["errors"][0]["code"]) == (400, 1012)
