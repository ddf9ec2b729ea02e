"""TXT as keys and values: RFC 6763 section 6.4."""

from __future__ import annotations

import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest
from dns.rdtypes.ANY.TXT import TXT
from hypothesis import given, settings
from hypothesis import strategies as st

from rollcall.resolve import pairs


def record(*strings: bytes) -> TXT:
    return TXT(dns.rdataclass.IN, dns.rdatatype.TXT, strings)


@pytest.mark.parametrize(
    ("strings", "expected"),
    [
        ([b"path=/"], {"path": "/"}),
        ([b"path=/", b"note=kept"], {"path": "/", "note": "kept"}),
        # Only the first occurrence counts, whatever its case and its kind.
        ([b"Path=/a", b"PATH=/b", b"path"], {"path": "/a"}),
        ([b"path", b"path=/b"], {"path": None}),
        # Absent, present without a value, with an empty one, and with one: four different things.
        ([], {}),
        ([b"secure"], {"secure": None}),
        ([b"secure="], {"secure": ""}),
        ([b"secure=yes"], {"secure": "yes"}),
        # A value may hold an equals sign and spaces; spaces in a key count.
        ([b"query=a=b c"], {"query": "a=b c"}),
        ([b" key = value "], {" key ": " value "}),
        # Ignored: no key at all, and an empty string, as an empty TXT has one.
        ([b"=value", b"path=/"], {"path": "/"}),
        ([b"="], {}),
        ([b""], {}),
        # Keys are printable ASCII; values are anything.
        ([b"k\xc3\xa9y=1", b"tab\t=2", b"path=/"], {"path": "/"}),
        (["stra\u00dfe=gr\u00fcn".encode(), "farbe=gr\u00fcn".encode()], {"farbe": "gr\u00fcn"}),
        ([b"raw=\xff"], {"raw": "\ufffd"}),
    ],
)
def test_a_text_reads_as_the_rfc_has_it(strings: list[bytes], expected: dict[str, str | None]) -> None:
    assert pairs([record(*strings)] if strings else []) == expected


def test_several_records_read_as_one_in_their_order() -> None:
    assert pairs([record(b"a=1"), record(b"a=2", b"b=2")]) == {"a": "1", "b": "2"}


@settings(deadline=None)
@given(st.lists(st.binary(max_size=255), min_size=1, max_size=20))
def test_any_text_from_the_wire_reads_and_keeps_the_rules(strings: list[bytes]) -> None:
    wire = record(*strings).to_wire()
    assert wire is not None
    found = pairs([dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.TXT, wire, 0, len(wire))])
    named = [each.partition(b"=")[0] for each in strings]
    readable = [each for each in named if each and all(0x20 <= byte <= 0x7E for byte in each)]
    assert list(found) == list(dict.fromkeys(each.decode().lower() for each in readable))
    for key, value in found.items():
        first = next(each for each in strings if each.partition(b"=")[0].lower() == key.encode())
        assert (value is None) == (b"=" not in first)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text("abcdefgh-0123456789", min_size=1, max_size=9),
        st.none() | st.text("a= \u00e9\u20ac\U0001f600", max_size=50),
    )
)
def test_what_is_written_is_read_again(machine_settings: dict[str, str | None]) -> None:
    strings = [
        key.encode() + (b"" if value is None else b"=" + value.encode()) for key, value in machine_settings.items()
    ]
    assert pairs([record(*strings)] if strings else []) == machine_settings
