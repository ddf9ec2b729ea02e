"""What Route53 takes as the values of each record type.

https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/ResourceRecordTypes.html
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass

from localcloud.aws.route53.names import BadNameError, normalize

TYPES = (
    "SOA", "A", "TXT", "NS", "CNAME", "MX", "NAPTR", "PTR", "SRV", "SPF", "AAAA", "CAA", "DS", "TLSA", "SSHFP", "SVCB", "HTTPS",
)  # fmt: skip
_LONGEST_VALUE = 4000
_LONGEST_STRING = 255
# One string may follow the other without a space: Terraform's documentation of aws_route53_record tells to write it so.
_STRING = re.compile(r'"((?:[^"\\]|\\[0-7]{3}|\\.)*)"(?:\s+|$|(?="))')
_WORD16 = 65535
_Fault = tuple[str, str] | None


def fault(record_type: str, value: str) -> str | None:
    """Why Route53 refuses this value of this type, in its own form; None where it takes it."""
    if len(value) > _LONGEST_VALUE:
        return _fatal("ValueTooLong", f"Value is longer than {_LONGEST_VALUE} characters", value[:64])
    check = _CHECKS.get(record_type)
    found = check(value) if check is not None else _unreadable(record_type, value)
    return _fatal(*found, value) if found is not None else None


def presented(value: str) -> str:
    """Route53 escapes in octal, the presentation format (RFC 1035 section 5.1) in decimal."""
    return re.sub(r"\\([0-3][0-7]{2})", lambda found: f"\\{int(found[1], 8):03d}", value) if "\\" in value else value


def _fatal(code: str, meaning: str, value: str) -> str:
    return f"Invalid Resource Record: 'FATAL problem: {code} ({meaning}) encountered with '{value}''"


def _unreadable(record_type: str, value: str) -> _Fault:
    """What no name server could send: another number of fields, hexadecimal of an odd length, a digest of another one."""
    if record_type not in TYPES:
        return None
    try:
        dns.rdata.from_text(dns.rdataclass.IN, record_type, presented(value), origin=dns.name.root, relativize=False)
    except (dns.exception.DNSException, ValueError) as wrong:
        return f"{record_type}RRDATAInvalid", f"Value is not in the format of {record_type}: {wrong}"
    return None


def _ipv4(value: str) -> _Fault:
    try:
        IPv4Address(value)
    except AddressValueError:
        return "ARRDATAIllegalIPv4Address", "Value is not a valid IPv4 address"
    return None


def _ipv6(value: str) -> _Fault:
    try:
        IPv6Address(value)
    except AddressValueError:
        return "AAAARRDATAIllegalIPv6Address", "Value is not a valid IPv6 address"
    return None


def _host(record_type: str) -> Callable[[str], _Fault]:
    def check(value: str) -> _Fault:
        return _host_fault(record_type, value)

    return check


def _host_fault(record_type: str, value: str) -> _Fault:
    if not value or any(char.isspace() for char in value):
        return f"{record_type}RRDATAIllegalName", "Value is not a valid domain name"
    try:
        normalize(value)
    except BadNameError as wrong:
        code, _, meaning = str(wrong).partition(": ")
        return code, meaning
    return None


def _srv(value: str) -> _Fault:
    parts = value.split(" ")
    if len(parts) != 4:
        return "SRVRRDATANotFourFields", "SRV record doesn't have 4 fields"
    for name, number in zip(("Priority", "Weight", "Port"), parts, strict=False):
        if not number.isdecimal() or int(number) > _WORD16:
            return f"SRVRRDATA{name}NotUnsigned16", f"{name} is not a whole number from 0 to {_WORD16}"
    return _host_fault("SRV", parts[3])


def _mx(value: str) -> _Fault:
    parts = value.split(" ")
    if len(parts) != 2:
        return "MXRRDATANotTwoFields", "MX record doesn't have 2 fields"
    if not parts[0].isdecimal() or int(parts[0]) > _WORD16:
        return "MXRRDATAPriorityNotUnsigned16", f"Priority is not a whole number from 0 to {_WORD16}"
    return _host_fault("MX", parts[1])


def _txt(value: str) -> _Fault:
    position = 0
    while position < len(value):
        found = _STRING.match(value, position)
        if found is None:
            return "InvalidCharacterString", "Value should be enclosed in quotation marks"
        content = re.sub(r"\\[0-7]{3}|\\.", "x", found[1])
        if len(content.encode()) > _LONGEST_STRING:
            return "CharacterStringTooLong", f"Value is longer than {_LONGEST_STRING} characters"
        if not content.isascii():
            return "UnsupportedCharacter", "Value contains unsupported characters"
        position = found.end()
    return None if value else ("EmptyValue", "Value is empty")


_CHECKS: dict[str, Callable[[str], _Fault]] = {
    "A": _ipv4,
    "AAAA": _ipv6,
    "CNAME": _host("CNAME"),
    "PTR": _host("PTR"),
    "NS": _host("NS"),
    "SRV": _srv,
    "MX": _mx,
    "TXT": _txt,
    "SPF": _txt,
}
