"""What the clouds' name servers add to an answer, how large it may be and in which order; and what our own programs make of it."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.query
import dns.rdata
import dns.rdatatype
import dns.rrset
import dns.wire
import pytest

from localcloud.aws.route53 import UNLIMITED
from localcloud.aws.route53.store import NAME_SERVERS
from localcloud.cloudflare import NAME_SERVERS as CLOUDFLARE_SERVERS
from localcloud.cloudflare import Cloudflare
from localcloud.dns.data import Manner, RecordSet
from localcloud.dns.server import Authority, Resolver
from localcloud.network.faults import Faults
from rollcall.resolve import Client
from rollcall.zoneview import ZoneView
from tests.cloud.aws_cloud import Cloud, running
from tests.cloud.cloudflare_server import EDGES, OPERATOR
from tests.cloud.cloudflare_server import ZONE as SITE
from tests.cloud.cloudflare_server import Clock as CloudflareClock
from tests.cloud.test_aws_route53 import NAME, ZONE, Lab, change
from tests.cloud.test_dns import Served, Zones, records, serving, values

pytestmark = pytest.mark.clouds

# Fourteen machines with IPv4 and IPv6 fit a datagram of 4,096 bytes with their addresses and one of 700 without. Sixty fit neither.
MACHINES = tuple(f"{at:06x}" for at in range(14))


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with running(route53_limits=UNLIMITED) as made:
        yield made


@pytest.fixture(scope="module")
def lab(cloud: Cloud) -> Iterator[Lab]:
    made = Lab(cloud)
    made.batch(
        change("CREATE", NAME, "SRV", *(f"10 10 4218 {each}.rc.{ZONE}" for each in MACHINES)),
        *(change("CREATE", f"{each}.rc.{ZONE}", "A", f"198.51.100.{at + 1}") for at, each in enumerate(MACHINES)),
        *(change("CREATE", f"{each}.rc.{ZONE}", "AAAA", f"2001:db8::{at + 1:x}") for at, each in enumerate(MACHINES)),
        change("CREATE", f"many.{ZONE}", "SRV", *(f"10 10 4218 {'x' * 40}{at:06x}.rc.{ZONE}" for at in range(60))),
        change("CREATE", f"alias.{ZONE}", "CNAME", f"{MACHINES[0]}.rc.{ZONE}"),
        change("CREATE", f"mail.{ZONE}", "MX", f"10 {MACHINES[0]}.rc.{ZONE}"),
        change("CREATE", f"away.{ZONE}", "SRV", "10 10 4218 www.example.com"),
        change("CREATE", f"_theService._tcp.{ZONE}", "PTR", NAME),
        change("CREATE", f"text.{ZONE}", "TXT", '"one"', '"two"', '"three"'),
    )
    yield made
    made.clear()


@pytest.fixture(scope="module")
def server(lab: Lab) -> Iterator[Served]:
    faults = Faults()
    servers = dict.fromkeys(NAME_SERVERS, "127.0.0.1")
    with serving(Authority([lab.cloud.aws], servers, faults), faults) as found:
        yield found


@pytest.fixture(scope="module")
def resolver(lab: Lab) -> Iterator[Served]:
    faults = Faults()
    with serving(Resolver([lab.cloud.aws], dict.fromkeys(NAME_SERVERS, "127.0.0.1"), {}, faults), faults) as found:
        yield found


def ask(server: Served, name: str, rtype: str = "SRV", payload: int = 4096, *, do: bool = False) -> dns.message.Message:
    query = dns.message.make_query(name, rtype, use_edns=0 if payload else -1, payload=payload, want_dnssec=do)
    return dns.query.udp(query, "127.0.0.1", port=server.port, timeout=5)


def first_value(server: Served, name: str, rtype: str) -> str:
    """The first value of an answer. The rest of the reply is left unread, which takes most of the time of many queries."""
    query = dns.message.make_query(name, rtype, use_edns=0, payload=4096)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.sendto(query.to_wire(), ("127.0.0.1", server.port))
        reply = dns.wire.Parser(client.recv(4096))
    there, _, questions, answers, *_ = reply.get_struct("!HHHHHH")
    assert (there, questions) == (query.id, 1) and answers
    reply.get_name()
    # What follows the question is the first record, whose owner is that of the question (RFC 1035 section 4.1.4).
    _, _, pointer, kind, zone, _, size = reply.get_struct("!HHHHHIH")
    assert pointer == 0xC000 | 12
    with reply.restrict_to(size):
        return dns.rdata.from_wire_parser(zone, kind, reply).to_text()


def section(found: list[dns.rrset.RRset]) -> list[tuple[str, str]]:
    return sorted((each.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(each.rdtype)) for each in found)


class TestRoute53:
    """https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/DNSBehavior.html"""

    def test_an_srv_answer_brings_its_targets_addresses(self, server: Served) -> None:
        reply = ask(server, NAME)
        assert len(values(reply)) == len(MACHINES)
        assert section(reply.additional) == sorted(
            (f"{each}.rc.{ZONE}", kind) for each in MACHINES for kind in ("A", "AAAA")
        )
        assert {each.ttl for each in reply.additional} == {30}

    @pytest.mark.parametrize(("name", "rtype"), [("mail", "MX"), ("alias", "CNAME")])
    def test_so_do_others_with_a_target(self, server: Served, name: str, rtype: str) -> None:
        host = f"{MACHINES[0]}.rc.{ZONE}"
        assert section(ask(server, f"{name}.{ZONE}", rtype).additional) == [(host, "A"), (host, "AAAA")]

    def test_a_name_outside_its_zones_is_not_added_to_an_answer(self, server: Served) -> None:
        assert ask(server, f"away.{ZONE}").additional == []

    def test_what_was_answered_already_is_not_brought_again(self, server: Served) -> None:
        reply = ask(server, f"alias.{ZONE}", "A")
        assert section(reply.answer) == [(f"{MACHINES[0]}.rc.{ZONE}", "A"), (f"alias.{ZONE}", "CNAME")]
        assert section(reply.additional) == [(f"{MACHINES[0]}.rc.{ZONE}", "AAAA")]

    @pytest.mark.parametrize(
        ("name", "rtype"), [(NAME, "SRV"), (f"{MACHINES[0]}.rc.{ZONE}", "A"), (f"_theService._tcp.{ZONE}", "PTR")]
    )
    def test_an_answer_brings_the_zones_name_servers(self, server: Served, name: str, rtype: str) -> None:
        (servers,) = ask(server, name, rtype).authority
        assert (servers.name.to_text(), servers.ttl) == (f"{ZONE}.", 172_800)
        assert sorted(each.to_text() for each in servers) == sorted(f"{each}." for each in NAME_SERVERS)

    def test_an_answer_that_is_the_name_servers_brings_them_once(self, server: Served) -> None:
        reply = ask(server, ZONE, "NS")
        assert len(values(reply)) == 4 and reply.authority == []

    @pytest.mark.parametrize(("name", "rtype"), [(f"none.{ZONE}", "A"), (NAME, "TXT")])
    def test_what_is_not_there_brings_the_soa_for_900_seconds(self, server: Served, name: str, rtype: str) -> None:
        reply = ask(server, name, rtype)
        (soa,) = reply.authority
        assert (soa.rdtype, soa.ttl, soa[0].minimum) == (dns.rdatatype.SOA, 900, 86_400)
        assert reply.additional == []

    def test_it_takes_4096_bytes(self, server: Served) -> None:
        reply = ask(server, NAME, payload=4096)
        assert 1232 < len(reply.to_wire()) <= 4096 and not reply.flags & dns.flags.TC
        assert reply.payload == 4096

    @pytest.mark.parametrize("payload", [700, 900, 1232])
    def test_additional_records_that_do_not_fit_are_left_out_without_truncation(
        self, server: Served, payload: int
    ) -> None:
        """RFC 2181 section 9: TC is for what was asked for."""
        reply = ask(server, NAME, payload=payload)
        assert not reply.flags & dns.flags.TC and len(values(reply)) == len(MACHINES)
        assert len(reply.to_wire()) <= max(payload, 512)
        assert len(reply.additional) < 2 * len(MACHINES)

    def test_what_is_left_out_is_whole_sets(self, server: Served) -> None:
        reply = ask(server, NAME, payload=900)
        assert 0 < len(reply.additional) < 2 * len(MACHINES) and all(len(each) == 1 for each in reply.additional)

    def test_an_answer_that_does_not_fit_is_truncated(self, server: Served) -> None:
        reply = ask(server, f"many.{ZONE}")
        assert reply.flags & dns.flags.TC and reply.answer == []
        assert (
            len(values(dns.query.tcp(dns.message.make_query(f"many.{ZONE}", "SRV"), "127.0.0.1", port=server.port)))
            == 60
        )

    @pytest.mark.parametrize(("name", "rtype", "count"), [(NAME, "SRV", len(MACHINES)), (f"text.{ZONE}", "TXT", 3)])
    def test_values_come_in_random_order(self, server: Served, name: str, rtype: str, count: int) -> None:
        """https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/routing-policy-simple.html"""
        first = Counter(first_value(server, name, rtype) for _ in range(60 * count))
        # Each 60 times of so many; five standard deviations are 39.
        assert len(first) == count and all(21 <= each <= 99 for each in first.values()), first

    def test_a_caching_resolver_hands_on_the_order_and_nothing_besides(self, resolver: Served) -> None:
        replies = [ask(resolver, NAME) for _ in range(100)]
        assert all(each.authority == [] and each.additional == [] for each in replies)
        assert len({values(each)[0] for each in replies}) > 5

    @pytest.mark.parametrize("do", [True, False])
    @pytest.mark.parametrize(("name", "rtype"), [(NAME, "SRV"), (f"none.{ZONE}", "A"), (f"many.{ZONE}", "SRV")])
    def test_do_is_copied(self, server: Served, name: str, rtype: str, do: bool) -> None:
        """RFC 3225 section 3: "The DO bit of the query MUST be copied in the response." """
        assert bool(ask(server, name, rtype, do=do).ednsflags & dns.flags.DO) == do

    def test_dig_sees_it_as_of_the_real_ones(self, server: Served) -> None:
        """As https://github.com/nodejs/node/issues/33858 shows of ns-675.awsdns-20.net."""
        printed = server.dig("+dnssec", "+bufsize=4096", NAME, "SRV")
        assert "EDNS: version: 0, flags: do; udp: 4096" in printed
        assert "ANSWER: 14, AUTHORITY: 4, ADDITIONAL: 29" in printed


class TestCloudflare:
    @pytest.fixture
    def site(self) -> Iterator[Served]:
        clock = CloudflareClock()
        cloud = Cloudflare(operator_token=OPERATOR, edge_addresses=EDGES, clock=clock)
        zone = cloud.add_zone(SITE)
        cloud.add_record(zone, type="A", name=f"www.{SITE}", content="198.51.100.10", proxied=False, ttl=60)
        faults = Faults()
        with serving(Authority([cloud], dict.fromkeys(CLOUDFLARE_SERVERS, "127.0.0.1"), faults), faults) as found:
            yield found

    def test_what_is_not_there_is_so_for_half_an_hour(self, site: Served) -> None:
        """`min_ttl` 1,800 of the zone's DNS settings, as https://github.com/stefanko-ch/Nexus-Stack/pull/819 has measured it."""
        for name, rtype in ((f"none.{SITE}", "A"), (f"www.{SITE}", "TXT")):
            (soa,) = ask(site, name, rtype).authority
            assert soa.ttl == 1800
            assert soa[0].to_text().startswith(f"{CLOUDFLARE_SERVERS[0]}. dns.cloudflare.com. ")
            assert soa[0].to_text().endswith(" 10000 2400 604800 1800")

    def test_an_answer_brings_nothing_besides_and_takes_1232_bytes(self, site: Served) -> None:
        reply = ask(site, f"www.{SITE}", "A", do=True)
        assert (reply.authority, reply.additional, reply.payload) == ([], [], 1232)
        assert reply.ednsflags & dns.flags.DO


class TestOurPrograms:
    def test_the_roll_call_reads_the_answer_and_nothing_that_came_along(
        self, server: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ROLLCALL_DNS", f"127.0.0.1:{server.port}")
        view = ZoneView(ZONE)
        assert view.all_of(NAME, "SRV") == {f"10 10 4218 {each}.rc.{ZONE}." for each in MACHINES}
        assert len(view.all_of(f"many.{ZONE}", "SRV")) == 60, "over TCP"
        assert view.all_of(f"{MACHINES[0]}.rc.{ZONE}", "A") == {"198.51.100.1"}
        assert view.all_of(NAME, "A") == view.all_of(f"none.{ZONE}", "A") == frozenset()

    def test_the_client_asks_for_no_address_that_came_along(self, lab: Lab) -> None:
        authority, queries = Authority([lab.cloud.aws], dict.fromkeys(NAME_SERVERS, "127.0.0.1")), list[str]()

        def exchange(server: tuple[str, int], query: bytes, timeout: float, over_tcp: bool) -> bytes:
            question = dns.message.from_wire(query).question[0]
            queries.append(f"{dns.rdatatype.to_text(question.rdtype)}{' tcp' * over_tcp}")
            return authority.answer(query, over_tcp=over_tcp) or b""

        client = Client("192.0.2.1", exchange=exchange)
        found = client.discover("theService", ZONE, "v1")
        assert queries == ["SRV"]
        known = {each.host: client.ask(each.host, "A")[0].address for each in found.targets}
        assert known == {f"{each}.rc.{ZONE}": f"198.51.100.{at + 1}" for at, each in enumerate(MACHINES)}
        assert 0 < queries.count("A") < len(MACHINES), (
            "the client takes 1,232 bytes: some addresses came along, some did not"
        )
        for each in found.targets:
            client.addresses(each.host)
        assert queries.count("A") + queries.count("AAAA") < 2 * len(MACHINES)

    def test_dig_prints_the_answer_and_nothing_that_came_along(self, server: Served) -> None:
        assert server.dig(f"{MACHINES[0]}.rc.{ZONE}", "A", "+short") == "198.51.100.1\n"


def test_a_zone_of_no_provider_is_answered_as_the_rfcs_want_it() -> None:
    assert Manner() == Manner(largest_udp=1232, in_random_order=False, adds_servers=False, adds_addresses=False)
    made = records(
        RecordSet(f"_http._tcp.{SITE}", "SRV", 60, (f"0 0 80 www.{SITE}",)),
        RecordSet(f"www.{SITE}", "A", 60, ("198.51.100.10",)),
    )
    faults = Faults()
    with serving(Authority([Zones(made)], {"ns.example": "127.0.0.1"}, faults), faults) as server:
        reply = ask(server, f"_http._tcp.{SITE}")
        assert (len(reply.answer), reply.authority, reply.additional) == (1, [], [])
