"""Origin CA: certificates that the edge trusts on origins, signed by a CA made when the first is asked for.

https://developers.cloudflare.com/api/resources/origin_ca_certificates/
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from localcloud.cloudflare import names
from localcloud.cloudflare.errors import ApiError

VALIDITIES = (7, 30, 90, 365, 730, 1095, 5475)
_USUAL_VALIDITY = 5475
_MOST_HOSTS = 200
_KINDS = {"origin-rsa": rsa.RSAPublicKey, "origin-ecc": ec.EllipticCurvePublicKey}


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """`id` is the serial number in decimal; `days` its validity; times are seconds since the epoch."""

    id: str
    csr: str
    hosts: tuple[str, ...]
    kind: str
    days: int
    pem: str
    expires_on: float
    revoked_at: float | None = None

    def body(self) -> dict[str, Any]:
        expires = datetime.datetime.fromtimestamp(self.expires_on, datetime.UTC)
        return {
            "id": self.id,
            "certificate": self.pem,
            "csr": self.csr,
            "hostnames": list(self.hosts),
            "request_type": self.kind,
            "requested_validity": self.days,
            "expires_on": expires.strftime("%Y-%m-%d %H:%M:%S +0000 UTC"),
        }


class OriginCa:
    """The CA. `pem` is what the edge trusts in `full (strict)`."""

    def __init__(self, now: float) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "CloudFlare, Inc."),
                x509.NameAttribute(NameOID.COMMON_NAME, "Local stand-in for CloudFlare Origin CA"),
            ]
        )
        start = datetime.datetime.fromtimestamp(now, datetime.UTC)
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start - datetime.timedelta(days=1))
            .not_valid_after(start + datetime.timedelta(days=2 * _USUAL_VALIDITY))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> str:
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def sign(self, body: Mapping[str, Any], now: float) -> Certificate:
        """Return a certificate for `body`. Raises ApiError. The caller has checked that the account owns the hosts."""
        request = _request(body.get("csr"))
        kind, days = body.get("request_type"), body.get("requested_validity", _USUAL_VALIDITY)
        if kind not in _KINDS or not isinstance(request.public_key(), _KINDS[kind]):
            raise _refused("request_type must be origin-rsa or origin-ecc and fit the key of the CSR")
        if days not in VALIDITIES:
            raise _refused(f"requested_validity must be one of {', '.join(map(str, VALIDITIES))}")
        hosts = hostnames(body)
        start = datetime.datetime.fromtimestamp(int(now), datetime.UTC)
        expires = start + datetime.timedelta(days=int(days))
        serial = x509.random_serial_number()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(
                x509.Name(
                    [
                        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "CloudFlare, Inc."),
                        x509.NameAttribute(NameOID.COMMON_NAME, "CloudFlare Origin Certificate"),
                    ]
                )
            )
            .issuer_name(self._name)
            .public_key(request.public_key())
            .serial_number(serial)
            .not_valid_before(start - datetime.timedelta(minutes=5))
            .not_valid_after(expires)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in hosts]), critical=False)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(request.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Certificate(
            id=str(serial),
            csr=str(body["csr"]),
            hosts=hosts,
            kind=str(kind),
            days=int(days),
            pem=certificate.public_bytes(serialization.Encoding.PEM).decode(),
            expires_on=expires.timestamp(),
        )


def hostnames(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the hosts of a requested certificate. A host may begin with `*.`. Raises ApiError."""
    given = body.get("hostnames")
    if not isinstance(given, list) or not 0 < len(given) <= _MOST_HOSTS:
        raise _refused(f"hostnames must be a list of 1 to {_MOST_HOSTS} names")
    hosts = []
    for each in given:
        bare = each.removeprefix("*.") if isinstance(each, str) else each
        host = names.host(bare)
        if host is None:
            raise not_yours(str(each))
        hosts.append(host if bare == each else f"*.{host}")
    return tuple(hosts)


def not_yours(host: str) -> ApiError:
    return ApiError(
        400,
        1010,
        f"Failed to validate requested hostname {host}: "
        "This zone is either not part of your account, or you do not have access to it.",
    )


def no_zone_named() -> ApiError:
    return ApiError(
        400, 1012, "Please provide a zone id when requesting a stored certificate, or fetch by serial number."
    )


def not_authorized() -> ApiError:
    return ApiError(403, 1016, "User is not authorized to perform this action")


def unknown() -> ApiError:
    return ApiError(404, 1101, "Certificate not found")


def _refused(what: str) -> ApiError:
    return ApiError(400, 1004, what)


def _request(given: object) -> x509.CertificateSigningRequest:
    try:
        request = x509.load_pem_x509_csr(given.encode()) if isinstance(given, str) else None
    except ValueError as unreadable:
        raise _refused("csr is not a readable certificate signing request") from unreadable
    if request is None or not request.is_signature_valid:
        raise _refused("csr must be a certificate signing request with a valid signature")
    return request


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=not signs_certificates,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
