"""The local name server and the machines' resolver, asked by dnspython and by dig."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from localcloud.dns.data import RecordSet
from localcloud.dns.server import NEGATIVE_TTL, Authority, Listener, Resolver, bound_pair
from localcloud.network.faults import Faults
from tests.patience import came_true

pytestmark = pytest.mark.clouds

ZONE = "scalability.expert"
SERVERS = {"anna.ns.cloudflare.com": "198.51.100.1", "bob.ns.cloudflare.com": "203.0.113.1"}
MANY = tuple(f"198.51.100.{at}" for at in range(1, 61))


@dataclass
class Zones:
    """Two zones, one inside the other, in a dictionary."""

    records: Mapping[str, tuple[RecordSet, ...]] = field(default_factory=dict)

    def zones(self) -> tuple[str, ...]:
        return (ZONE, f"deep.{ZONE}")

    def lookup(self, zone: str, name: str) -> tuple[RecordSet, ...] | None:
        return self.records.get(name)


def records(*made: RecordSet) -> dict[str, tuple[RecordSet, ...]]:
    return {each.name: tuple(other for other in made if other.name == each.name) for each in made}


RECORDS = records(
    RecordSet(f"www.{ZONE}", "A", 60, ("198.51.100.10", "198.51.100.11", "203.0.113.12")),
    RecordSet(f"www.{ZONE}", "TXT", 60, ('"two words"',)),
    RecordSet(f"many.{ZONE}", "A", 60, MANY),
    RecordSet(f"two.{ZONE}", "A", 60, MANY[:2]),
    RecordSet(f"pair.{ZONE}", "A", 60, MANY[2:4]),
    RecordSet(f"alias.{ZONE}", "CNAME", 60, (f"second.{ZONE}",)),
    RecordSet(f"second.{ZONE}", "CNAME", 60, (f"WWW.{ZONE}.",)),
    RecordSet(f"lost.{ZONE}", "CNAME", 60, (f"nowhere.{ZONE}",)),
    RecordSet(f"out.{ZONE}", "CNAME", 60, ("www.example.com",)),
    RecordSet(f"loop.{ZONE}", "CNAME", 60, (f"loop.{ZONE}",)),
    RecordSet(f"svc.{ZONE}", "HTTPS", 60, ("0 other.example",)),
    RecordSet(f"svc.{ZONE}", "NAPTR", 60, ('100 50 "s" "SIP+D2U" "" _sip._udp.example',)),
    RecordSet(f"broken.{ZONE}", "DS", 60, ("60485 5 1 2BB",)),
    RecordSet(f"_http._tcp.{ZONE}", "SRV", 60, (f"0 0 80 www.{ZONE}",)),
    RecordSet(f"www.deep.{ZONE}", "A", 60, ("203.0.113.99",)),
    RecordSet(f"child.{ZONE}", "NS", 300, ("ns1.elsewhere.example", "ns2.elsewhere.example")),
    RecordSet(f"child.{ZONE}", "TXT", 60, ('"never answered"',)),
    RecordSet(f"www.child.{ZONE}", "A", 60, ("203.0.113.98",)),
    RecordSet(f"to-child.{ZONE}", "CNAME", 60, (f"www.child.{ZONE}",)),
)


@dataclass
class Served:
    authority: Authority
    faults: Faults
    port: int

    def ask(self, name: str, rtype: str = "A", timeout: float = 5) -> dns.message.Message:
        return dns.query.udp(dns.message.make_query(name, rtype), "127.0.0.1", port=self.port, timeout=timeout)

    def dig(self, *words: str) -> str:
        command = ["dig", "@127.0.0.1", "-p", str(self.port), "+tries=1", "+time=5", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout


@contextlib.contextmanager
def serving(authority: Authority, faults: Faults) -> Iterator[Served]:
    udp, tcp = bound_pair("127.0.0.1")
    listener = Listener(authority, [udp], [tcp])
    listener.start()
    try:
        yield Served(authority, faults, udp.getsockname()[1])
    finally:
        listener.stop()


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    faults = Faults()
    with serving(Authority([Zones(RECORDS)], SERVERS, faults), faults) as found:
        yield found


@pytest.fixture
def server(shared: Served) -> Iterator[Served]:
    yield shared
    shared.faults.clear()


@pytest.fixture(scope="module")
def resolver() -> Iterator[Served]:
    faults = Faults()
    hosts = {"api.cloudflare.com": "198.51.100.1", "*.amazonaws.com": "198.51.100.1"}
    with serving(Resolver([Zones(RECORDS)], SERVERS, hosts, faults), faults) as found:
        yield found


def values(reply: dns.message.Message) -> list[str]:
    return [item.to_text() for rrset in reply.answer for item in rrset]


def negative_ttls(reply: dns.message.Message) -> list[int]:
    return [each.ttl for each in reply.authority if each.rdtype == dns.rdatatype.SOA]


def rcode(reply: dns.message.Message) -> str:
    return dns.rcode.to_text(reply.rcode())


class TestAuthority:
    def test_an_answer_is_authoritative_and_offers_no_recursion(self, server: Served) -> None:
        reply = server.ask(f"www.{ZONE}")
        assert sorted(values(reply)) == ["198.51.100.10", "198.51.100.11", "203.0.113.12"]
        assert reply.answer[0].ttl == 60
        assert reply.flags & dns.flags.AA and not reply.flags & dns.flags.RA
        assert reply.authority == []

    def test_a_name_that_does_not_exist_is_nxdomain_with_the_soa(self, server: Served) -> None:
        reply = server.ask(f"nowhere.{ZONE}")
        assert (rcode(reply), reply.answer) == ("NXDOMAIN", [])
        assert negative_ttls(reply) == [NEGATIVE_TTL]
        assert reply.authority[0].name == dns.name.from_text(ZONE)
        assert reply.flags & dns.flags.AA

    def test_a_name_without_this_type_gets_an_empty_answer_with_the_soa(self, server: Served) -> None:
        reply = server.ask(f"www.{ZONE}", "AAAA")
        assert (rcode(reply), reply.answer, negative_ttls(reply)) == ("NOERROR", [], [NEGATIVE_TTL])

    def test_a_name_outside_the_zones_is_refused(self, server: Served) -> None:
        for name in ("www.example.com", f"not{ZONE}", "expert"):
            reply = server.ask(name)
            assert (rcode(reply), reply.answer, reply.authority) == ("REFUSED", [], []), name
            assert not reply.flags & dns.flags.AA

    def test_the_apex_has_a_soa_and_its_name_servers(self, server: Served) -> None:
        assert sorted(values(server.ask(ZONE, "NS"))) == [f"{each}." for each in sorted(SERVERS)]
        assert values(server.ask(ZONE, "SOA"))[0].startswith(f"anna.ns.cloudflare.com. hostmaster.{ZONE}. ")

    def test_names_in_values_are_whole_whatever_the_type(self, server: Served) -> None:
        assert values(server.ask(f"svc.{ZONE}", "HTTPS")) == ["0 other.example."]
        assert values(server.ask(f"svc.{ZONE}", "NAPTR")) == ['100 50 "s" "SIP+D2U" "" _sip._udp.example.']

    def test_a_value_that_cannot_be_sent_is_a_failure_and_no_silence(self, server: Served) -> None:
        reply = server.ask(f"broken.{ZONE}", "DS")
        assert (rcode(reply), reply.answer) == ("SERVFAIL", [])
        assert rcode(server.ask(f"broken.{ZONE}", "A")) == "NOERROR"

    def test_the_most_specific_zone_answers(self, server: Served) -> None:
        assert values(server.ask(f"www.deep.{ZONE}")) == ["203.0.113.99"]
        assert server.ask(f"nowhere.deep.{ZONE}").authority[0].name == dns.name.from_text(f"deep.{ZONE}")

    @pytest.mark.parametrize(
        ("name", "rtype"), [("child", "TXT"), ("child", "NS"), ("www.child", "A"), ("a.b.child", "A")]
    )
    def test_what_is_delegated_is_answered_with_a_referral_whatever_the_zone_holds(
        self, server: Served, name: str, rtype: str
    ) -> None:
        """RFC 1034 section 4.3.2, step 3b."""
        reply = server.ask(f"{name}.{ZONE}", rtype)
        assert (reply.rcode(), reply.answer) == (dns.rcode.NOERROR, []) and not reply.flags & dns.flags.AA
        (referral,) = reply.authority
        assert (str(referral.name), referral.rdtype) == (f"child.{ZONE}.", dns.rdatatype.NS)
        assert sorted(str(each) for each in referral) == ["ns1.elsewhere.example.", "ns2.elsewhere.example."]

    def test_an_alias_to_what_is_delegated_ends_there(self, server: Served) -> None:
        reply = server.ask(f"to-child.{ZONE}")
        assert [str(each.name) for each in reply.answer] == [f"to-child.{ZONE}."]

    def test_aliases_are_followed_to_their_end(self, server: Served) -> None:
        reply = server.ask(f"alias.{ZONE}")
        assert [(each.name.to_text().lower(), dns.rdatatype.to_text(each.rdtype)) for each in reply.answer] == [
            (f"alias.{ZONE}.", "CNAME"),
            (f"second.{ZONE}.", "CNAME"),
            (f"www.{ZONE}.", "A"),
        ]
        assert len(reply.answer[2]) == 3

    def test_an_alias_itself_can_be_asked_for(self, server: Served) -> None:
        assert values(server.ask(f"alias.{ZONE}", "CNAME")) == [f"second.{ZONE}."]

    def test_an_alias_to_nothing_is_nxdomain_and_shows_the_alias(self, server: Served) -> None:
        reply = server.ask(f"lost.{ZONE}")
        assert (rcode(reply), values(reply)) == ("NXDOMAIN", [f"nowhere.{ZONE}."])

    def test_an_alias_that_leaves_the_zones_ends_there(self, server: Served) -> None:
        reply = server.ask(f"out.{ZONE}")
        assert (rcode(reply), values(reply)) == ("NOERROR", ["www.example.com."])

    def test_a_circle_of_aliases_is_answered_all_the_same(self, server: Served) -> None:
        assert set(values(server.ask(f"loop.{ZONE}"))) == {f"loop.{ZONE}."}

    def test_a_target_without_its_final_dot_is_not_relative(self, server: Served) -> None:
        assert values(server.ask(f"_http._tcp.{ZONE}", "SRV")) == [f"0 0 80 www.{ZONE}."]

    def test_the_case_of_a_question_is_kept(self, server: Served) -> None:
        question = "wWw.ScAlAbIlItY.eXpErT."
        reply = server.ask(question)
        assert reply.question[0].name.to_text() == question
        assert reply.answer[0].name.to_text() == question
        assert len(values(reply)) == 3

    def test_addresses_take_turns_in_front(self, server: Served) -> None:
        orders = [tuple(values(server.ask(f"www.{ZONE}"))) for _ in range(6)]
        assert {each[0] for each in orders} == {"198.51.100.10", "198.51.100.11", "203.0.113.12"}
        assert orders[:3] == orders[3:]

    def test_each_name_takes_its_own_turns(self, server: Served) -> None:
        first = []
        for _ in range(6):
            first.append(values(server.ask(f"two.{ZONE}"))[0])
            server.ask(f"pair.{ZONE}")
        assert first in (["198.51.100.1", "198.51.100.2"] * 3, ["198.51.100.2", "198.51.100.1"] * 3)

    def test_a_message_that_is_not_a_query_gets_no_reply(self, server: Served) -> None:
        answered = dns.message.make_response(dns.message.make_query(f"www.{ZONE}", "A"))
        assert server.authority.answer(b"nonsense") is None
        assert server.authority.answer(answered.to_wire()) is None

    def test_an_update_is_not_implemented(self, server: Served) -> None:
        query = dns.message.make_query(f"www.{ZONE}", "A")
        query.set_opcode(dns.opcode.NOTIFY)
        wire = server.authority.answer(query.to_wire())
        assert wire is not None
        assert rcode(dns.message.from_wire(wire)) == "NOTIMP"

    def test_dig_reads_a_text(self, server: Served) -> None:
        assert server.dig(f"www.{ZONE}", "TXT", "+short") == '"two words"\n'


class TestSize:
    def test_what_does_not_fit_is_truncated_to_nothing(self, server: Served) -> None:
        query = dns.message.make_query(f"many.{ZONE}", "A", use_edns=False)
        reply = dns.query.udp(query, "127.0.0.1", port=server.port, timeout=5)
        assert reply.flags & dns.flags.TC and reply.flags & dns.flags.AA
        assert reply.answer == []
        assert len(reply.to_wire()) <= 512

    def test_a_client_falls_back_to_tcp_and_gets_all(self, server: Served) -> None:
        query = dns.message.make_query(f"many.{ZONE}", "A", use_edns=False)
        reply, over_tcp = dns.query.udp_with_fallback(query, "127.0.0.1", port=server.port, timeout=5)
        assert over_tcp
        assert sorted(values(reply)) == sorted(MANY)

    def test_a_client_that_takes_more_gets_all_in_one_datagram(self, server: Served) -> None:
        query = dns.message.make_query(f"many.{ZONE}", "A", use_edns=0, payload=1232)
        reply = dns.query.udp(query, "127.0.0.1", port=server.port, timeout=5)
        assert not reply.flags & dns.flags.TC
        assert len(values(reply)) == 60

    def test_dig_falls_back_to_tcp(self, server: Served) -> None:
        printed = server.dig(f"many.{ZONE}", "A", "+noedns")
        assert "Truncated, retrying in TCP mode" in printed
        assert all(f"\t{each}\n" in printed for each in MANY)

    def test_one_connection_takes_several_queries(self, server: Served) -> None:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
            for name, expected in ((f"www.{ZONE}", 3), (f"many.{ZONE}", 60)):
                query = dns.message.make_query(name, "A")
                dns.query.send_tcp(connection, query)
                reply, _ = dns.query.receive_tcp(connection, time.time() + 5)
                assert query.is_response(reply)
                assert len(values(reply)) == expected


class TestResolver:
    def test_it_offers_recursion_and_is_not_authoritative(self, resolver: Served) -> None:
        reply = resolver.ask(f"www.{ZONE}")
        assert reply.flags & dns.flags.RA and not reply.flags & dns.flags.AA
        assert len(values(reply)) == 3

    def test_it_knows_the_vendors_hosts_and_all_below_a_wildcard(self, resolver: Served) -> None:
        for name in ("api.cloudflare.com", "ec2.us-west-2.amazonaws.com", "ssm.amazonaws.com"):
            assert values(resolver.ask(name)) == ["198.51.100.1"], name
        assert values(resolver.ask("bob.ns.cloudflare.com")) == ["203.0.113.1"]

    def test_a_host_has_no_other_type(self, resolver: Served) -> None:
        reply = resolver.ask("api.cloudflare.com", "AAAA")
        assert (rcode(reply), reply.answer) == ("NOERROR", [])

    def test_it_cannot_follow_a_delegation_to_servers_that_are_not_here(self, resolver: Served) -> None:
        reply = resolver.ask(f"www.child.{ZONE}")
        assert (reply.rcode(), reply.answer) == (dns.rcode.SERVFAIL, [])

    def test_everything_else_does_not_exist(self, resolver: Served) -> None:
        for name in ("amazonaws.com", "evilamazonaws.com", "www.cloudflare.com", "example.org"):
            reply = resolver.ask(name)
            assert (rcode(reply), reply.answer) == ("NXDOMAIN", []), name

    def test_dig_sees_a_resolver(self, resolver: Served) -> None:
        printed = resolver.dig("ec2.us-west-2.amazonaws.com", "A")
        assert "flags: qr rd ra;" in printed
        assert "recursion requested but not available" not in printed


class TestFaults:
    def test_a_dropped_query_is_not_answered(self, server: Served) -> None:
        server.faults.add("dns drop times=1")
        with pytest.raises(dns.exception.Timeout):
            server.ask(f"www.{ZONE}", timeout=0.5)
        assert len(values(server.ask(f"www.{ZONE}"))) == 3

    def test_a_dropped_query_over_tcp_ends_the_connection(self, server: Served) -> None:
        server.faults.add("dns drop times=1")
        with pytest.raises(EOFError):
            dns.query.tcp(dns.message.make_query(f"www.{ZONE}", "A"), "127.0.0.1", port=server.port, timeout=5)

    @pytest.mark.parametrize("fault", ["dns status=500", "dns throttle"])
    def test_a_refusing_server_says_servfail(self, server: Served, fault: str) -> None:
        server.faults.add(f"{fault} times=1")
        reply = server.ask(f"www.{ZONE}")
        assert (rcode(reply), reply.answer) == ("SERVFAIL", [])
        assert rcode(server.ask(f"www.{ZONE}")) == "NOERROR"

    def test_a_slow_server_answers_late_and_holds_up_no_other_query(self, server: Served) -> None:
        server.faults.add("dns slow=1 times=1")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as slow:
            slow.settimeout(5)
            query = dns.message.make_query(f"many.{ZONE}", "A")
            began = time.monotonic()
            dns.query.send_udp(slow, query, ("127.0.0.1", server.port))
            until(lambda: not server.faults.active())
            server.ask(f"www.{ZONE}")
            assert time.monotonic() - began < 1
            reply, _, _ = dns.query.receive_udp(slow, expiration=time.time() + 5)
            assert time.monotonic() - began >= 1
        assert query.is_response(reply)

    def test_a_fault_of_another_service_does_not_hit(self, server: Served) -> None:
        server.faults.add("route53 drop")
        assert rcode(server.ask(f"www.{ZONE}")) == "NOERROR"


def test_after_a_stop_nothing_listens() -> None:
    faults = Faults()
    with serving(Authority([Zones(RECORDS)], SERVERS, faults), faults) as found:
        assert len(values(found.ask(f"www.{ZONE}"))) == 3
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", found.port), timeout=5):
        pass


def until(probe: object) -> None:
    assert callable(probe)
    assert came_true(probe, 5, every=0.01), "waited in vain"
