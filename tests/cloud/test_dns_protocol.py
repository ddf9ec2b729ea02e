"""How the name servers answer odd questions, and which SOA they show."""

from __future__ import annotations

from collections.abc import Iterator

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import pytest

from localcloud.dns.data import RecordSet
from localcloud.dns.server import Authority, Resolver
from localcloud.network.faults import Faults
from tests.cloud.test_dns import SERVERS, ZONE, Served, Zones, rcode, records, serving, values

pytestmark = pytest.mark.clouds

SOA = f"ns1.example.net. admin.{ZONE}. 7 7200 900 1209600 60"
RECORDS = records(
    RecordSet(ZONE, "SOA", 900, (SOA,)),
    RecordSet(ZONE, "NS", 3600, ("ns1.example.net.",)),
    RecordSet(f"deep.{ZONE}", "NS", 3600, ("ns2.example.net",)),
    RecordSet(f"www.{ZONE}", "A", 60, ("198.51.100.10",)),
    RecordSet(f"www.{ZONE}", "TXT", 60, ('"text"',)),
    RecordSet(f"alias.{ZONE}", "CNAME", 60, ("api.cloudflare.com",)),
    RecordSet(f"lost.{ZONE}", "CNAME", 60, ("www.example.com",)),
)


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    faults = Faults()
    with serving(Authority([Zones(RECORDS)], SERVERS, faults), faults) as found:
        yield found


@pytest.fixture(scope="module")
def resolver() -> Iterator[Served]:
    faults = Faults()
    hosts = {"api.cloudflare.com": "198.51.100.1"}
    with serving(Resolver([Zones(RECORDS)], SERVERS, hosts, faults), faults) as found:
        yield found


def send(server: Served, query: dns.message.Message) -> dns.message.Message:
    return dns.query.udp(query, "127.0.0.1", port=server.port, timeout=5)


def test_any_is_answered_with_as_little_as_rfc_8482_allows(server: Served) -> None:
    reply = server.ask(f"www.{ZONE}", "ANY")
    assert [each.rdtype for each in reply.answer] == [dns.rdatatype.HINFO]
    assert values(reply) == ['"RFC8482" ""']
    assert rcode(server.ask(f"nowhere.{ZONE}", "ANY")) == "NXDOMAIN"


@pytest.mark.parametrize("words", [["AXFR", f"www.{ZONE}"], [f"www.{ZONE}", "-c", "CH", "-t", "TXT"]])
def test_dig_gets_no_zone_and_no_other_class(server: Served, words: list[str]) -> None:
    printed = server.dig("+tcp", *words)
    assert "Transfer failed" in printed or "status: REFUSED" in printed
    assert "198.51.100.10" not in printed and '"text"' not in printed


def test_a_newer_edns_is_answered_with_the_supported_version(server: Served) -> None:
    query = dns.message.make_query(f"www.{ZONE}", "A", use_edns=1)
    reply = send(server, query)
    assert (reply.rcode(), reply.edns, reply.answer) == (dns.rcode.BADVERS, 0, [])


def test_a_query_that_breaks_off_is_a_format_error(server: Served) -> None:
    wire = dns.message.make_query(f"www.{ZONE}", "A", id=4711).to_wire()
    answered = server.authority.answer(wire[:-3])
    assert answered is not None
    reply = dns.message.from_wire(answered)
    assert (reply.id, rcode(reply)) == (4711, "FORMERR")
    assert reply.flags & dns.flags.QR and reply.flags & dns.flags.RD


def test_a_response_that_breaks_off_is_not_answered(server: Served) -> None:
    wire = bytearray(dns.message.make_query(f"www.{ZONE}", "A").to_wire())
    wire[2] |= 0x80
    assert server.authority.answer(bytes(wire[:-3])) is None


def test_a_zone_that_has_a_soa_shows_it_for_what_does_not_exist(server: Served) -> None:
    (found,) = server.ask(f"nowhere.{ZONE}").authority
    assert (found[0].to_text(), found.ttl) == (SOA, 60)
    assert values(server.ask(ZONE, "SOA")) == [SOA]
    assert server.ask(ZONE, "SOA").answer[0].ttl == 900


def test_a_zone_without_a_soa_names_its_own_server_in_one(server: Served) -> None:
    (found,) = values(server.ask(f"deep.{ZONE}", "SOA"))
    assert found.startswith(f"ns2.example.net. hostmaster.deep.{ZONE}. ")


def test_a_resolver_goes_after_an_alias_out_of_the_zones(resolver: Served) -> None:
    reply = resolver.ask(f"alias.{ZONE}")
    assert (rcode(reply), values(reply)) == ("NOERROR", ["api.cloudflare.com.", "198.51.100.1"])
    reply = resolver.ask(f"lost.{ZONE}")
    assert (rcode(reply), values(reply)) == ("NXDOMAIN", ["www.example.com."])
