"""HTTP signatures: the two parsers that CloudAPI's server tries one after the other, and the check of a signature.

draft-cavage-http-signatures as npm's http-signature 1.x reads it, and the 0.9 form with the signature after the
parameters, which signs bare values (lib/authorization.js, lib/node-http-signature of sdc-cloudapi).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from localcloud.triton.errors import invalid_header

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
ALLOWED_SKEW = 300.0
# The server's allow-list has sha384, too, but http-signature does not know it: such requests fail before the list is asked.
_ALGORITHMS = ("rsa-sha1", "rsa-sha256", "rsa-sha512", "ecdsa-sha256", "ecdsa-sha512", "ed25519-sha512")
_OLD_ALGORITHMS = ("rsa-sha1", "rsa-sha256", "rsa-sha512")
_HASHES: Mapping[str, type[hashes.SHA1 | hashes.SHA256 | hashes.SHA512]] = {
    "sha1": hashes.SHA1,
    "sha256": hashes.SHA256,
    "sha512": hashes.SHA512,
}
# One parameter and the comma after it; numbers are unquoted. A space between parameters is an error.
_PARAMETER = re.compile(r'([A-Za-z]+)=(?:"([^"]*)"|([0-9]+))(,|$)')
_OLD_FORM = re.compile(r'Signature ((?:[^" ]*"[^"]*")+) (.+)', re.DOTALL)
_OLD_PARAMETER = re.compile(r'([^",=]+)="([^"]*)"')


@dataclass(frozen=True)
class Wire:
    """A request as it was sent. `headers` by lower-case name; `target` is path and query, not decoded."""

    method: str
    target: str
    headers: Mapping[str, str]
    protocol: str = "HTTP/1.1"


@dataclass(frozen=True)
class Signed:
    """The signature in a request with its parameters, and the text that must have been signed."""

    key_id: str
    algorithm: str
    signature: str
    text: str


def parse(wire: Wire, now: float) -> Signed:
    """Raise ApiError 400 InvalidHeader with the modern parser's message where neither form fits."""
    try:
        return _modern(wire, now)
    except _UnreadableError as wrong:
        try:
            return _obsolete(wire, now)
        except _UnreadableError:
            raise invalid_header(f"Authorization header invalid: {wrong}") from wrong


def verified(signed: Signed, key: PublicKey) -> bool:
    """Return whether `key` made this signature with an algorithm for its type of key."""
    kind, _, digest = signed.algorithm.partition("-")
    algorithm = _HASHES[digest]()
    try:
        signature = base64.b64decode(signed.signature, validate=True)
        if isinstance(key, rsa.RSAPublicKey) and kind == "rsa":
            key.verify(signature, signed.text.encode(), padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey) and kind == "ecdsa":
            key.verify(signature, signed.text.encode(), ec.ECDSA(algorithm))
        elif isinstance(key, ed25519.Ed25519PublicKey) and kind == "ed25519":
            key.verify(signature, signed.text.encode())
        else:
            return False
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


class _UnreadableError(Exception):
    """This parser cannot read the request's signature."""


def _modern(wire: Wire, now: float) -> Signed:
    scheme, _, rest = wire.headers["authorization"].partition(" ")
    parameters: dict[str, str] = {}
    position = 0
    while position < len(rest):
        found = _PARAMETER.match(rest, position)
        if found is None:
            raise _UnreadableError("bad param format")
        parameters[found[1]] = found[2] if found[2] is not None else found[3]
        position = found.end()
    _complete(scheme, parameters)
    if not parameters.get("signature"):
        raise _UnreadableError("signature was not specified")
    names = _signed_names(wire, parameters)
    text = "\n".join(_line(wire, name, parameters) for name in names)
    _check_date(wire, names, now)
    algorithm = parameters["algorithm"]
    if algorithm not in _ALGORITHMS:
        raise _UnreadableError(f"{algorithm} is not supported")
    return Signed(parameters["keyId"], algorithm, parameters["signature"], text)


def _line(wire: Wire, name: str, parameters: Mapping[str, str]) -> str:
    if name == "request-line":
        return f"{wire.method} {wire.target} {wire.protocol}"
    if name == "(request-target)":
        return f"(request-target): {wire.method.lower()} {wire.target}"
    pseudo = {"(keyid)": "keyId", "(algorithm)": "algorithm", "(created)": "created", "(expires)": "expires"}
    if name in pseudo:
        return f"{name}: {parameters.get(pseudo[name], 'undefined')}"
    return f"{name}: {_header(wire, name)}"


def _obsolete(wire: Wire, now: float) -> Signed:
    found = _OLD_FORM.fullmatch(wire.headers["authorization"])
    if found is None:
        raise _UnreadableError("signature was empty")
    parameters = dict(_OLD_PARAMETER.findall(found[1]))
    _complete("Signature", parameters)
    algorithm = parameters["algorithm"].lower()
    if algorithm not in _OLD_ALGORITHMS:
        raise _UnreadableError(f"{algorithm} is not supported")
    names = _signed_names(wire, parameters)
    request_line = f"{wire.method} {wire.target} {wire.protocol}"
    text = "\n".join(request_line if name == "request-line" else _header(wire, name) for name in names)
    _check_date(wire, names, now)
    return Signed(parameters["keyId"], algorithm, found[2], text)


def _complete(scheme: str, parameters: Mapping[str, str]) -> None:
    if scheme != "Signature":
        raise _UnreadableError('scheme was not "Signature"')
    for name in ("keyId", "algorithm"):
        if not parameters.get(name):
            raise _UnreadableError(f"{name} was not specified")


def _signed_names(wire: Wire, parameters: Mapping[str, str]) -> list[str]:
    listed = parameters.get("headers")
    return [name.lower() for name in listed.split(" ")] if listed else [_date_name(wire)]


def _date_name(wire: Wire) -> str:
    return "x-date" if "x-date" in wire.headers else "date"


def _header(wire: Wire, name: str) -> str:
    if name not in wire.headers:
        raise _UnreadableError(f"{name} was not in the request")
    return wire.headers[name]


def _check_date(wire: Wire, names: list[str], now: float) -> None:
    """Check the date before any key is read, so that a skewed clock is never reported as a wrong key."""
    name = _date_name(wire)
    if name in wire.headers:
        skew = abs(now - _seconds(wire.headers[name]))
        if skew > ALLOWED_SKEW:
            raise _UnreadableError(f"clock skew of {skew:g}s was greater than {ALLOWED_SKEW:g}s")
    if name not in names:
        raise _UnreadableError(f"{name} was not a signed header")


def _seconds(text: str) -> float:
    try:
        date = parsedate_to_datetime(text)
    except ValueError as wrong:
        raise _UnreadableError("the date is invalid") from wrong
    return (date if date.tzinfo else date.replace(tzinfo=timezone.utc)).timestamp()
