"""rollcall.zoneview with local name servers that refuse, fail, are lame, silent or missing, and with resolvers beside them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import dns.message
import dns.rcode
import pytest

from localcloud.dns.data import RecordSet
from localcloud.dns.server import Authority, Listener, Resolver, bound_pair
from localcloud.network.faults import Faults
from rollcall import zoneview as resolving
from rollcall.zoneview import Discovery, Server, ZoneView

pytestmark = pytest.mark.clouds

ZONE, HOST = "scalability.expert", "www.scalability.expert"
OURS, OTHER = frozenset({"198.51.100.10"}), frozenset({"10.0.0.10"})
NAMES = {"ns1.example.net": "127.0.0.1", "ns2.example.net": "127.0.0.1"}


@dataclass
class Zone:
    addresses: tuple[str, ...] = tuple(OURS)
    more: Mapping[str, RecordSet] = field(default_factory=dict)

    def zones(self) -> tuple[str, ...]:
        return (ZONE,)

    def lookup(self, zone: str, name: str) -> tuple[RecordSet, ...] | None:
        here = {HOST: RecordSet(HOST, "A", 90, self.addresses), **self.more}
        return (here[name],) if name in here else None


class Network:
    """Servers on ports of this machine. A port that nothing reads is a silent server."""

    def __init__(self, ended: contextlib.ExitStack) -> None:
        self._ended = ended

    def name_server(self, fault: str = "", zone: Zone | None = None, where: str = "127.0.0.1") -> Server:
        return self._serve(Authority([zone or Zone()], NAMES, _faults(fault)), where)

    def resolver(self, fault: str = "", zone: Zone | None = None, hosts: Mapping[str, str] | None = None) -> str:
        return str(self._serve(Resolver([zone or Zone()], NAMES, hosts or {}, _faults(fault))))

    def _serve(self, authority: Authority, where: str = "127.0.0.1") -> Server:
        udp, tcp = bound_pair(where)
        listener = Listener(authority, [udp], [tcp])
        listener.start()
        self._ended.callback(listener.stop)
        return Server(address=where, port=tcp.getsockname()[1])


def _faults(spec: str) -> Faults | None:
    if not spec:
        return None
    made = Faults()
    made.add(spec)
    return made


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    monkeypatch.setattr(resolving, "_TIMEOUT_S", 0.8)
    with contextlib.ExitStack() as ended:
        yield Network(ended)


def asking(monkeypatch: pytest.MonkeyPatch, *servers: Server, resolvers: tuple[str, ...] = ()) -> ZoneView:
    monkeypatch.setenv("ROLLCALL_DNS", ",".join(map(str, servers)))
    return ZoneView(ZONE, resolvers)


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("dns refused", "answers REFUSED"),
        ("dns status=500", "answers SERVFAIL"),
        ("dns lame", "is lame for this zone (it refers to the servers of .)"),
        ("dns drop", "does not answer"),
    ],
)
def test_a_name_server_that_fails_has_no_vote_while_another_answers(
    network: Network, monkeypatch: pytest.MonkeyPatch, fault: str, why: str
) -> None:
    bad = network.name_server(fault)
    view = asking(monkeypatch, network.name_server(), bad)
    assert view.all_of(HOST, "A") == view.any_of(HOST, "A") == OURS
    assert view.notes == (f"{ZONE}: the name server {bad} {why}, so it has no vote",)
    assert view.delay == 0


def test_an_answer_without_authority_is_lame(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = resolving.server(network.resolver(zone=Zone(("203.0.113.9",))))
    view = asking(monkeypatch, network.name_server(), cache)
    assert view.all_of(HOST, "A") == view.any_of(HOST, "A") == OURS
    assert view.notes == (
        f"{ZONE}: the name server {cache} is lame for this zone (its answer has no authority), so it has no vote",
    )


def test_two_that_answer_must_both_have_a_value(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    view = asking(monkeypatch, network.name_server(), network.name_server(zone=Zone(tuple(OTHER))))
    assert view.all_of(HOST, "A") == frozenset() and view.any_of(HOST, "A") == OURS | OTHER
    assert view.notes == ()


def test_nxdomain_is_an_answer(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    view = asking(monkeypatch, network.name_server())
    assert view.all_of(f"none.{ZONE}", "A") == frozenset() and view.notes == ()


def test_one_that_comes_back_has_its_vote_again(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    view = asking(monkeypatch, network.name_server(), network.name_server("dns refused times=1"))
    view.all_of(HOST, "A")
    assert view.notes and view.all_of(HOST, "A") == OURS and view.notes == ()


def test_a_silent_one_is_not_waited_for_at_every_check(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    silent, now = network.name_server("dns drop"), [0.0]
    monkeypatch.setenv("ROLLCALL_DNS", f"{network.name_server()},{silent}")
    view = ZoneView(ZONE, clock=lambda: now[0])
    queried: list[Server] = []
    ask = resolving._query

    def counted(server: Server, *rest: str, recursive: bool) -> resolving.Reply:
        queried.append(server)
        return ask(server, *rest, recursive=recursive)

    monkeypatch.setattr(resolving, "_query", counted)
    for _ in range(3):
        assert view.all_of(HOST, "A") == OURS
    assert queried.count(silent) == 1 and view.notes
    now[0] = 20.0
    view.all_of(HOST, "A")
    assert queried.count(silent) == 2


class TestWithoutANameServerThatAnswers:
    def test_the_resolvers_are_asked_and_it_is_reported_with_their_delay(
        self, network: Network, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, second, resolver = network.name_server("dns drop"), network.name_server("dns drop"), network.resolver()
        view = asking(monkeypatch, first, second, resolvers=(resolver,))
        assert view.all_of(HOST, "A") == view.any_of(HOST, "A") == OURS
        assert view.delay == 90
        (note,) = view.notes
        for each in (first, second):
            assert f"{each} does not answer" in note
        assert note.startswith(f"{ZONE}: none of its name servers can be asked from here (")
        assert "is port 53 blocked outward?" in note
        assert note.endswith(f"The resolvers {resolver} are asked instead; their caches may be 90 s behind.")

    def test_what_a_resolver_keeps_of_a_name_that_was_not_there_counts(
        self, network: Network, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        view = asking(monkeypatch, network.name_server("dns drop"), resolvers=(network.resolver(),))
        assert view.all_of(f"none.{ZONE}", "A") == frozenset() and view.delay == 1800

    def test_a_resolver_that_fails_has_no_vote_either(self, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
        bad = network.resolver("dns refused")
        view = asking(monkeypatch, network.name_server("dns refused"), resolvers=(network.resolver(), bad))
        assert view.all_of(HOST, "A") == OURS
        (note,) = view.notes
        assert f"resolver {bad} answers REFUSED" in note and "port 53" not in note

    def test_a_server_that_offers_no_recursion_is_not_used_as_a_resolver(
        self, network: Network, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wrong = network.name_server()
        view = asking(monkeypatch, network.name_server("dns drop"), resolvers=(str(wrong),))
        assert view.all_of(HOST, "A") == frozenset()
        assert f"resolver {wrong} offers no recursion" in view.notes[0]

    def test_without_any_resolver_the_key_is_named(self, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
        view = asking(monkeypatch, network.name_server("dns drop"))
        assert view.all_of(HOST, "A") == frozenset()
        assert view.notes[0].endswith("Set rollcall:resolvers to resolvers that can be asked.")

    def test_they_are_asked_no_more_once_a_name_server_answers(
        self, network: Network, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        flaky = network.name_server("dns refused times=1", zone=Zone(tuple(OTHER)))
        view = asking(monkeypatch, flaky, resolvers=(network.resolver(),))
        assert view.all_of(HOST, "A") == OURS and view.delay == 90
        assert view.all_of(HOST, "A") == OTHER and view.delay == 0 and view.notes == ()


class TestASplitHorizon:
    def test_is_shown_with_what_each_sees(self, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
        name_server, resolver = network.name_server(), network.resolver(zone=Zone(tuple(OTHER)))
        view = asking(monkeypatch, name_server, resolvers=(resolver,))
        message = view.split(HOST, "A")
        assert message.startswith(
            f"{HOST} A: the name servers answer 198.51.100.10; the resolver {resolver} answers 10.0.0.10."
        )
        compared = view.compare(HOST, "A")
        assert (
            f"{name_server} answers 198.51.100.10" in compared and f"resolver {resolver} answers 10.0.0.10" in compared
        )

    def test_is_none_where_both_say_the_same_or_the_resolver_fails(
        self, network: Network, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        view = asking(
            monkeypatch, network.name_server(), resolvers=(network.resolver(), network.resolver("dns refused"))
        )
        assert view.split(HOST, "A") == ""


class TestTheNameServersOfAZone:
    """As its NS records name them, asked of the resolvers."""

    def servers(self, network: Network, monkeypatch: pytest.MonkeyPatch, **hosts: str) -> Discovery:
        monkeypatch.delenv("ROLLCALL_DNS", raising=False)
        zone = Zone(more={ZONE: RecordSet(ZONE, "NS", 3600, ("ns1.other.example.", "ns2.other.example."))})
        resolver = network.resolver(zone=zone, hosts={f"{name}.other.example": each for name, each in hosts.items()})
        return resolving.name_servers(ZONE, resolving.resolvers_of([resolver]))

    def test_have_their_addresses(self, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.servers(network, monkeypatch, ns1="192.0.2.1", ns2="192.0.2.2")
        assert [str(each) for each in found.servers] == [
            "ns1.other.example (192.0.2.1)",
            "ns2.other.example (192.0.2.2)",
        ]
        assert found.faults == {}

    def test_one_without_an_address_takes_no_other_away(
        self, network: Network, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = self.servers(network, monkeypatch, ns1="192.0.2.1")
        assert [each.address for each in found.servers] == ["192.0.2.1"]
        assert found.faults == {"ns2.other.example": "has no address"}

    def test_of_a_zone_that_is_not_delegated_there_are_none(
        self, network: Network, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("ROLLCALL_DNS", raising=False)
        found = resolving.name_servers("other.example", resolving.resolvers_of([network.resolver()]))
        assert found == Discovery(faults={"other.example": "has no NS records that can be looked up (NXDOMAIN)"})

    def test_those_of_ipv6_are_asked_where_those_of_ipv4_do_not_answer(
        self, network: Network, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        six = network.name_server(where="::1")
        found = Discovery(servers=(network.name_server("dns drop"),), second=(six,))
        monkeypatch.setattr(resolving, "name_servers", lambda *_: found)
        view = ZoneView(ZONE)
        assert view.all_of(HOST, "A") == OURS and not view.instead
        assert "does not answer" in view.notes[0]

    def test_with_addresses_of_both_families_ipv4_comes_first(
        self, network: Network, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("ROLLCALL_DNS", raising=False)
        records = {
            ZONE: RecordSet(ZONE, "NS", 3600, ("ns1.scalability.expert.", "ns2.scalability.expert.")),
            f"ns1.{ZONE}": RecordSet(f"ns1.{ZONE}", "AAAA", 60, ("2001:db8::53",)),
        }
        zone = Zone(more=records)
        resolver = network.resolver(zone=zone)
        found = resolving.name_servers(ZONE, resolving.resolvers_of([resolver]))
        assert [str(each) for each in found.servers] == [f"ns1.{ZONE} (2001:db8::53)"]
        assert found.second == () and found.faults == {f"ns2.{ZONE}": "has no address"}

    def test_are_kept_while_the_resolvers_fail(self, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
        now, answered = [0.0], [Discovery(servers=(network.name_server(),)), Discovery(faults={ZONE: "SERVFAIL"})]
        monkeypatch.setattr(resolving, "name_servers", lambda *_: answered.pop(0))
        view = ZoneView(ZONE, clock=lambda: now[0])
        assert view.all_of(HOST, "A") == OURS
        now[0] = 100.0
        assert view.all_of(HOST, "A") == OURS and not view.instead


def test_the_local_servers_refuse_and_refer_upwards_when_they_are_reported() -> None:
    query = dns.message.make_query(HOST, "A")
    refused = Authority([Zone()], NAMES, _faults("dns refused")).answer(query.to_wire())
    lame = Authority([Zone()], NAMES, _faults("dns lame")).answer(query.to_wire())
    assert refused and dns.message.from_wire(refused).rcode() == dns.rcode.REFUSED
    reply = dns.message.from_wire(lame or b"")
    assert reply.rcode() == dns.rcode.NOERROR and not reply.answer
    assert [each.to_text() for each in reply.authority] == [". 518400 IN NS a.root-servers.net."]


@pytest.mark.parametrize(("kind", "other"), [("authority", "resolver"), ("resolver", "authority")])
@pytest.mark.parametrize("fault", ["refused", "lame", "status=500"])
def test_a_fault_may_be_of_one_kind_of_server_alone(kind: str, other: str, fault: str) -> None:
    faults, query = _faults(f"dns:{kind} {fault}"), dns.message.make_query(HOST, "A").to_wire()
    servers = {
        "authority": Authority([Zone()], NAMES, faults),
        "resolver": Resolver([Zone()], NAMES, {}, faults),
    }
    assert dns.message.from_wire(servers[other].answer(query) or b"").answer
    assert not dns.message.from_wire(servers[kind].answer(query) or b"").answer


@pytest.mark.parametrize(("spec", "hit"), [
    ("dns:authority refused", ("198.51.100.4", "203.0.113.4")), ("dns:198.51.100.4 refused", ("198.51.100.4",)),
    ("dns:bob.ns.cloudflare.com refused", ("203.0.113.4",)), ("dns:resolver refused", ()), ("dns refused", ("198.51.100.4", "203.0.113.4")),
])  # fmt: skip
def test_a_fault_may_be_of_one_server_alone(spec: str, hit: tuple[str, ...]) -> None:
    names = {"ada.ns.cloudflare.com": "198.51.100.4", "bob.ns.cloudflare.com": "203.0.113.4"}
    faults, query = _faults(spec), dns.message.make_query(HOST, "A").to_wire()
    for where in names.values():
        reply = dns.message.from_wire(Authority([Zone()], names, faults, where).answer(query) or b"")
        assert (reply.rcode() == dns.rcode.REFUSED) == (where in hit)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("192.0.2.53", "192.0.2.53"), ("192.0.2.53:5353", "192.0.2.53:5353"), ("2001:db8::53", "2001:db8::53"),
     ("[2001:db8::53]:5353", "[2001:db8::53]:5353")],
)  # fmt: skip
def test_an_address_may_have_a_port(text: str, shown: str) -> None:
    assert str(resolving.server(text)) == shown
