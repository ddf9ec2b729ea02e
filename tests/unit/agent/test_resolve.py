"""The DNS-SD client against a real name server on loopback; canned answers only where no server would give them."""

from __future__ import annotations

import contextlib
import json
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rollcall
from rollcall.cli import main as cli
from rollcall.errors import FatalError, RollcallError, TransientError
from rollcall.resolve import Client, Incarnation, Target
from tests.unit.agent.nameserver import SERVICE, ZONE, Canned, Clock, Served, Zone, serving

V1, V2 = f"v1.{SERVICE}", f"v2.{SERVICE}"


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    with serving() as found:
        yield found


@pytest.fixture
def server(shared: Served) -> Iterator[Served]:
    """theService with two incarnations: v1 of three machines, v2 of two."""
    shared.zone.sets.clear()
    shared.zone.service("v1", "v2")
    shared.zone.live("v1", "10 10 4218 a1", "10 10 4218 a2", "10 10 4218 a3")
    shared.zone.live("v2", "10 10 4219 b1", "10 10 4219 b2")
    shared.queries.clear()
    yield shared
    shared.faults.clear()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(server: Served, clock: Clock) -> Client:
    # So patient that a busy machine makes it ask nothing twice.
    return Client(server.address, timeout=30, clock=clock, dice=random.Random(1))  # noqa: S311


def found(client: Client, incarnation: str = "v1") -> Incarnation:
    return client.discover("theService", ZONE, incarnation)


def hosts(incarnation: Incarnation) -> list[str]:
    return sorted(each.host.partition(".")[0] for each in incarnation.targets)


def refused(error: type[RollcallError], act: Callable[[], object]) -> str:
    with pytest.raises(error) as caught:
        act()
    assert re.fullmatch(r"reason=[a-z-]+ .+", str(caught.value)), "one line that starts with its reason"
    return str(caught.value)


class TestDiscovery:
    def test_an_incarnation_has_its_live_machines(self, client: Client) -> None:
        incarnation = found(client)
        assert incarnation.name == V1
        assert sorted(incarnation.targets) == [Target(10, 10, 4218, f"{each}.rc.{ZONE}") for each in ("a1", "a2", "a3")]
        assert incarnation.txt == {"path": "/"}

    def test_an_exact_incarnation_costs_one_query_and_another_call_none(self, server: Served, client: Client) -> None:
        next(found(client).order())
        next(found(client).order())
        assert server.queries == [f"{V1.lower()} SRV"]

    def test_v1_never_reaches_v2_while_both_scale(self, server: Served, client: Client, clock: Clock) -> None:
        for count in (3, 1, 5, 2):
            server.zone.live("v1", *(f"10 10 4218 a{at}" for at in range(count)))
            server.zone.live("v2", *(f"10 10 4219 b{at}" for at in range(6 - count)))
            clock.now += 31
            one, two = found(client, "v1"), found(client, "v2")
            assert hosts(one) == [f"a{at}" for at in range(count)]
            assert hosts(two) == [f"b{at}" for at in range(6 - count)]
            assert {each.port for each in one.order()} == {4218} and {each.port for each in two.order()} == {4219}

    def test_v1_with_no_machine_alive_does_not_fall_back_to_v2(self, server: Served, client: Client) -> None:
        server.zone.drop(V1, "SRV")
        assert refused(TransientError, lambda: found(client)) == f"reason=no-live-machine service={V1}"

    def test_without_a_name_the_only_incarnation_is_taken(self, server: Served, client: Client) -> None:
        server.zone.service("v2")
        incarnation = found(client, "")
        assert (incarnation.name, hosts(incarnation)) == (V2, ["b1", "b2"])
        assert incarnation.txt == {"path": "/"}

    def test_without_a_name_several_are_named_and_none_is_taken(self, client: Client) -> None:
        message = refused(FatalError, lambda: found(client, ""))
        assert message == f"reason=no-such-incarnation service={SERVICE} asked=any known=v1,v2"

    def test_the_error_of_an_unknown_incarnation_lists_those_that_exist(self, client: Client) -> None:
        message = refused(FatalError, lambda: found(client, "v3"))
        assert message == f"reason=no-such-incarnation service={SERVICE} asked=v3 known=v1,v2"

    def test_the_error_of_an_unknown_service_lists_those_that_exist(self, client: Client) -> None:
        message = refused(FatalError, lambda: client.discover("other", ZONE, "v1"))
        assert message == f"reason=no-such-service service=_other._tcp.{ZONE} known=_theService._tcp"

    def test_a_zone_without_a_server_is_refused_by_the_resolver(self, client: Client) -> None:
        message = refused(TransientError, lambda: client.discover("theService", "example.com", "v1"))
        assert "reason=no-resolver-answers" in message and "REFUSED" in message

    def test_case_does_not_matter(self, client: Client) -> None:
        assert hosts(client.discover("THESERVICE", "Unilans.NET.", "V1")) == ["a1", "a2", "a3"]

    def test_a_target_of_a_dot_says_that_there_is_no_service(self, server: Served, client: Client) -> None:
        server.zone.put(V1, "SRV", "0 0 0 .")
        assert refused(TransientError, lambda: found(client)) == f"reason=no-live-machine service={V1}"

    def test_an_alias_is_followed_and_its_ttl_counts(self, server: Served, client: Client, clock: Clock) -> None:
        server.zone.sets.pop((V1.lower(), "TXT"))
        server.zone.drop(V1, "SRV")
        server.zone.put(V1, "CNAME", f"{V2}.", ttl=5)
        assert hosts(found(client)) == ["b1", "b2"]
        server.queries.clear()
        clock.now += 6
        found(client)
        assert server.queries == [f"{V1.lower()} SRV"]

    @pytest.mark.parametrize("name", ["x" * 64, "a" * 300])
    def test_an_invalid_name_is_reported_without_a_query(self, server: Served, client: Client, name: str) -> None:
        refused(FatalError, lambda: found(client, name))
        refused(FatalError, lambda: client.discover(name, ZONE, "v1"))
        refused(FatalError, lambda: client.discover("theService", f"{name}.{ZONE}", "v1"))
        refused(FatalError, lambda: client.discover("theService", "a..b", "v1"))
        assert server.queries == []

    def test_an_incarnation_cannot_break_out_of_its_label(self, server: Served, client: Client) -> None:
        server.zone.put(f"a.v1.{SERVICE}", "SRV", f"1 1 1 a1.rc.{ZONE}.")
        refused(FatalError, lambda: found(client, "a.v1"))
        assert server.queries[0] == rf"a\.v1.{SERVICE.lower()} SRV"

    def test_an_incarnation_may_hold_dots_and_spaces(self, server: Served, client: Client) -> None:
        server.zone.service(r"my\032v1\.0")
        server.zone.put(rf"my\032v1\.0.{SERVICE}", "SRV", f"1 1 1 a1.rc.{ZONE}.")
        assert client.browse("theService", ZONE) == ("my v1.0",)
        assert hosts(found(client, "my v1.0")) == ["a1"]


class TestBrowsing:
    def test_services_and_incarnations_are_listed(self, client: Client) -> None:
        assert client.services(ZONE) == ("_theService._tcp",)
        assert client.browse("theService", ZONE) == ("v1", "v2")

    def test_a_pointer_to_another_zone_is_not_an_incarnation(self, server: Served, client: Client) -> None:
        server.zone.put(SERVICE, "PTR", f"v1.{SERVICE}.", "v9._theService._tcp.example.com.", f"a.b.{SERVICE}.")
        assert client.browse("theService", ZONE) == ("v1",)

    def test_nothing_is_listed_where_nothing_is(self, client: Client) -> None:
        assert client.browse("other", ZONE) == ()
        assert client.services(f"sub.{ZONE}") == ()


class TestShards:
    @pytest.fixture(autouse=True)
    def sharded(self, server: Served) -> None:
        server.zone.sets.clear()
        server.zone.service("v1-1", "v1-2", "v1-10", "v2")
        server.zone.live("v1-1", "10 10 4218 a1", "10 10 4218 a2")
        server.zone.live("v1-10", "20 10 4218 a3", ttl=10)
        server.zone.live("v2", "10 10 4219 b1")

    def test_shards_are_merged_and_an_empty_one_is_not_a_fault(self, client: Client) -> None:
        incarnation = found(client)
        assert hosts(incarnation) == ["a1", "a2", "a3"]
        assert incarnation.name == V1
        assert list(incarnation.order())[-1].host == f"a3.rc.{ZONE}", "priorities hold over all shards"
        assert incarnation.txt == {"path": "/"}

    def test_a_shard_that_fails_takes_the_others_with_it_for_no_moment(
        self, server: Served, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        failing = fails(monkeypatch, "v1-1")
        client = Client(server.address, timeout=30, clock=clock)
        assert hosts(found(client)) == ["a3"]
        failing.clear()
        clock.now += 1.1
        assert hosts(found(client)) == ["a1", "a2", "a3"], "what was not known is asked again soon"

    def test_without_a_shard_that_answers_there_is_no_answer(
        self, server: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fails(monkeypatch, "v1-1", "v1-2", "v1-10")
        client = Client(server.address, timeout=30)
        assert "no-resolver-answers" in refused(TransientError, lambda: found(client))

    def test_the_lowest_ttl_of_what_was_used_counts(self, server: Served, client: Client, clock: Clock) -> None:
        found(client)
        server.zone.live("v1-10", "20 10 4218 a4")
        clock.now += 9
        assert hosts(found(client)) == ["a1", "a2", "a3"]
        clock.now += 2
        assert hosts(found(client)) == ["a1", "a2", "a4"]

    def test_a_machine_in_two_shards_is_once(self, server: Served, client: Client) -> None:
        server.zone.live("v1-2", "10 10 4218 a1")
        assert hosts(found(client)) == ["a1", "a2", "a3"]

    def test_one_shard_can_be_asked_for(self, client: Client) -> None:
        assert hosts(found(client, "v1-1")) == ["a1", "a2"]

    def test_beside_an_incarnation_a_numbered_name_is_not_a_shard(self, server: Served, client: Client) -> None:
        server.zone.service("v1", "v1-2")
        server.zone.live("v1-2", "10 10 4218 c1")
        # v1 has no live machine; its namesake must not be taken for it.
        assert refused(TransientError, lambda: found(client)) == f"reason=no-live-machine service={V1}"
        server.zone.live("v1", "10 10 4218 a1")
        fresh = Client(server.address)
        assert hosts(found(fresh)) == ["a1"]
        assert hosts(found(fresh, "v1-2")) == ["c1"]
        assert refused(FatalError, lambda: found(fresh, "")).endswith("asked=any known=v1,v1-2")

    def test_shards_count_as_one_where_nothing_was_named(self, server: Served, client: Client) -> None:
        message = refused(FatalError, lambda: found(client, ""))
        assert message.endswith("asked=any known=v1,v2")
        server.zone.service("v1-1", "v1-2")
        assert hosts(found(Client(server.address), "")) == ["a1", "a2"]

    def test_all_shards_empty_means_that_no_machine_is_alive(self, server: Served, client: Client) -> None:
        server.zone.drop(f"v1-1.{SERVICE}", "SRV")
        server.zone.drop(f"v1-10.{SERVICE}", "SRV")
        assert refused(TransientError, lambda: found(client)) == f"reason=no-live-machine service={V1}"


class TestCache:
    def test_an_answer_holds_for_its_ttl_and_no_longer(self, server: Served, client: Client, clock: Clock) -> None:
        found(client)
        server.zone.live("v1", "10 10 4218 a9")
        clock.now += 29.9
        assert hosts(found(client)) == ["a1", "a2", "a3"]
        clock.now += 0.1
        assert hosts(found(client)) == ["a9"]

    def test_what_is_not_there_is_remembered_for_seconds_whatever_the_soa_says(
        self, server: Served, client: Client, clock: Clock
    ) -> None:
        server.zone.drop(V1, "SRV")
        refused(TransientError, lambda: found(client))
        server.queries.clear()
        server.zone.live("v1", "10 10 4218 a1")
        clock.now += 4.9
        refused(TransientError, lambda: found(client))
        assert server.queries == []
        clock.now += 0.2
        assert hosts(found(client)) == ["a1"]

    @pytest.mark.parametrize(
        ("authority", "kept_s"),
        [
            (f"{ZONE}. 900 IN SOA ns. host. 1 1 1 1 2", 2),
            (f"{ZONE}. 3 IN SOA ns. host. 1 1 1 1 20", 3),
            # Route53's and Cloudflare's: a machine that was away for a moment must not be lost for a quarter of an hour.
            (f"{ZONE}. 900 IN SOA ns. host. 1 7200 900 1209600 86400", 5),
            (f"{ZONE}. 1800 IN SOA ns. host. 1 10000 2400 604800 1800", 5),
            (f"{ZONE}. 999999 IN SOA ns. host. 1 1 1 1 999999", 5),
            ("", 0),
        ],
    )
    def test_a_negative_answer_holds_by_rfc_2308_but_for_seconds_only(
        self, clock: Clock, authority: str, kept_s: int
    ) -> None:
        reply = answered(V1, "SRV", authority=authority, rcode=dns.rcode.NXDOMAIN)
        canned = Canned(reply)
        client = Client("resolver:1", clock=clock, exchange=canned)
        assert client.ask(V1, "SRV") == ()
        if kept_s:
            clock.now += kept_s - 0.1
            assert client.ask(V1, "SRV") == ()
            assert canned.queries == [1]
            clock.now += 0.1
        client.ask(V1, "SRV")
        assert canned.queries == [1, 1]

    def test_where_an_alias_leads_to_nothing_that_holds_as_long_as_the_alias(self, clock: Clock) -> None:
        away = f"{V1}. 2 IN CNAME gone.{ZONE}."
        reply = answered(
            V1, "SRV", away, authority=f"{ZONE}. 900 IN SOA ns. host. 1 1 1 1 900", rcode=dns.rcode.NXDOMAIN
        )
        canned = Canned(reply)
        client = Client("resolver:1", clock=clock, exchange=canned)
        assert client.ask(V1, "SRV") == ()
        clock.now += 2.1
        client.ask(V1, "SRV")
        assert canned.queries == [1, 1]

    def test_a_ttl_of_nothing_is_asked_for_each_time(self, server: Served, client: Client) -> None:
        server.zone.live("v1", "10 10 4218 a1", ttl=0)
        found(client)
        found(client)
        assert len(server.queries) == 2

    def test_a_ttl_with_its_highest_bit_set_is_none(self, clock: Clock) -> None:
        wire = answered(V1, "SRV", f"{V1}. 30 IN SRV 1 1 1 a1.rc.{ZONE}.").to_wire()
        for ttl, queries in (((30).to_bytes(4, "big"), 1), ((2**31 + 30).to_bytes(4, "big"), 2)):
            canned = Canned(wire.replace((30).to_bytes(4, "big"), ttl))
            client = Client("resolver:1", clock=clock, exchange=canned)
            assert hosts(found(client)) == hosts(found(client)) == ["a1"]
            assert len(canned.queries) == queries

    def test_an_endless_ttl_ends_after_a_day(self, server: Served, client: Client, clock: Clock) -> None:
        server.zone.live("v1", "10 10 4218 a1", ttl=2**31 - 1)
        found(client)
        clock.now += 86_401
        found(client)
        assert len(server.queries) == 2

    def test_it_does_not_grow_without_end(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("rollcall.resolve._LARGEST", 20)
        answers = answered(V1, "SRV", authority=f"{ZONE}. 900 IN SOA ns. host. 1 1 1 1 20", rcode=dns.rcode.NXDOMAIN)

        def echo(server: tuple[str, int], query: bytes, timeout: float, over_tcp: bool) -> bytes:
            reply = dns.message.make_response(dns.message.from_wire(query))
            reply.authority.extend(answers.authority)
            return reply.to_wire()

        client = Client("resolver:1", clock=clock, exchange=echo)
        for at in range(100):
            client.ask(f"name-{at}.{ZONE}", "A")
            assert len(client._cache) <= 20

    def test_threads_share_it(self, server: Served) -> None:
        client = Client(server.address, timeout=30)
        seen: list[list[str]] = []

        def work() -> None:
            for _ in range(200):
                seen.append(hosts(found(client)))
                assert len(list(found(client, "v2").order())) == 2

        threads = [threading.Thread(target=work) for _ in range(16)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(30)
        assert len(seen) == 16 * 200 and all(each == ["a1", "a2", "a3"] for each in seen)
        assert len(server.queries) <= 32, "a thread asks at most once for each incarnation"


class TestAddresses:
    def test_addresses_that_come_along_are_not_asked_for(self, clock: Clock) -> None:
        with listening() as port:
            reply = answered(V1, "SRV", f"{V1}. 30 IN SRV 1 1 {port} a1.rc.{ZONE}.")
            reply.additional.append(rrset(f"a1.rc.{ZONE}. 30 IN A 127.0.0.1"))
            canned = Canned(reply)
            found(Client("resolver:1", clock=clock, exchange=canned)).connect(5).close()
            assert canned.queries == [1]

    def test_all_addresses_that_come_along_are_kept_for_the_lowest_ttl(self, clock: Clock) -> None:
        host = f"a1.rc.{ZONE}"
        reply = answered(V1, "SRV", f"{V1}. 30 IN SRV 1 1 1 {host}.")
        reply.additional.extend(
            rrset(f"{host}. {ttl} IN A {address}") for ttl, address in ((5, "127.0.0.1"), (9, "127.0.0.2"))
        )
        canned = Canned(reply)
        client = Client("resolver:1", clock=clock, exchange=canned, stale=0)
        found(client)
        clock.now += 4.9
        assert [each.address for each in client.ask(host, "A")] == ["127.0.0.1", "127.0.0.2"]
        assert canned.queries == [1]
        clock.now += 0.1
        refused(TransientError, lambda: client.ask(host, "A"))

    def test_an_address_of_a_name_outside_the_query_is_not_trusted(self, clock: Clock) -> None:
        reply = answered(V1, "SRV", f"{V1}. 30 IN SRV 1 1 1 a1.rc.{ZONE}.")
        reply.additional.append(rrset("www.bank.example. 30 IN A 127.0.0.6"))
        canned = Canned(reply)
        client = Client("resolver:1", clock=clock, exchange=canned)
        found(client)
        refused(TransientError, lambda: client.ask("www.bank.example", "A"))
        assert len(canned.queries) > 1, "it was asked for"

    def test_what_was_asked_for_is_worth_more_than_what_comes_along(self, server: Served, clock: Clock) -> None:
        host = f"a1.rc.{ZONE}"
        replies = {"A": answered(host, "A", f"{host}. 30 IN A 127.0.0.1")}
        replies["SRV"] = answered(V1, "SRV", f"{V1}. 30 IN SRV 1 1 1 {host}.")
        replies["SRV"].additional.append(rrset(f"{host}. 30 IN A 127.0.0.6"))

        def exchange(server: tuple[str, int], query: bytes, timeout: float, over_tcp: bool) -> bytes:
            rdtype = dns.message.from_wire(query).question[0].rdtype
            return query[:2] + replies[dns.rdatatype.to_text(rdtype)].to_wire()[2:]

        client = Client("resolver:1", clock=clock, exchange=exchange)
        assert [each.address for each in client.ask(host, "A")] == ["127.0.0.1"]
        found(client)
        assert [each.address for each in client.ask(host, "A")] == ["127.0.0.1"]

    def test_ipv4_comes_first(self, server: Served, client: Client) -> None:
        server.zone.put(f"a1.rc.{ZONE}", "AAAA", "::1")
        assert client.addresses(f"a1.rc.{ZONE}") == ("127.0.0.1", "::1")


class TestConnecting:
    def test_each_refusal_leads_to_the_next_through_three_priorities(self, server: Served, client: Client) -> None:
        with refusing() as one, refusing() as two, refusing() as three, listening() as port:
            server.zone.live("v1", f"1 9 {one} a1", f"1 1 {two} a2", f"2 0 {three} a3", f"3 0 {port} a4")
            with found(client).connect(5) as connection:
                assert connection.getpeername()[1] == port

    def test_a_lower_priority_is_not_tried_while_a_higher_accepts(self, server: Served, client: Client) -> None:
        with listening() as first, listening() as second:
            server.zone.live("v1", f"1 0 {first} a1", f"2 65535 {second} a2")
            for _ in range(50):
                with found(client).connect(5) as connection:
                    assert connection.getpeername()[1] == first

    def test_weights_share_the_connections_of_one_priority(self, server: Served, client: Client) -> None:
        with listening() as first, listening() as second:
            server.zone.live("v1", f"1 30 {first} a1", f"1 10 {second} a2")
            ports = []
            for _ in range(400):
                with found(client).connect(5) as connection:
                    ports.append(connection.getpeername()[1])
        # 30.5 of 41 numbers; four standard deviations are 35.
        assert 262 <= ports.count(first) <= 333

    def test_where_all_refuse_each_is_named(self, server: Served, client: Client) -> None:
        with refusing() as one, refusing() as two:
            server.zone.live("v1", f"1 1 {one} a1", f"2 1 {two} a2")
            message = refused(TransientError, lambda: found(client).connect(5))
        for host, port in (("a1", one), ("a2", two)):
            assert f"{host}.rc.{ZONE}:{port} at 127.0.0.1: Connection refused" in message

    @pytest.mark.parametrize("open_at", ["127.0.0.1", "::1"])
    def test_where_one_family_refuses_the_other_is_tried(self, server: Served, client: Client, open_at: str) -> None:
        family = socket.AF_INET6 if ":" in open_at else socket.AF_INET
        with socket.create_server((open_at, 0), family=family) as listener:
            port = listener.getsockname()[1]
            server.zone.live("v1", f"1 1 {port} a1")
            server.zone.put(f"a1.rc.{ZONE}", "AAAA", "::1")
            assert client.addresses(f"a1.rc.{ZONE}") == ("127.0.0.1", "::1")
            with found(client).connect(5) as connection:
                assert connection.getpeername()[:2] == (open_at, port)

    def test_a_target_with_ipv6_alone_is_reached(self, server: Served, client: Client) -> None:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
            port = listener.getsockname()[1]
            server.zone.live("v1", f"1 1 {port} a1")
            server.zone.drop(f"a1.rc.{ZONE}", "A")
            server.zone.put(f"a1.rc.{ZONE}", "AAAA", "::1")
            with found(client).connect(5) as connection:
                assert connection.getpeername()[1] == port

    def test_a_target_without_an_address_leads_to_the_next(self, server: Served, client: Client) -> None:
        with listening() as port:
            server.zone.live("v1", "1 1 4218 a1", f"2 1 {port} a2")
            server.zone.drop(f"a1.rc.{ZONE}", "A")
            found(client).connect(5).close()
        server.zone.live("v1", "1 1 4218 a1")
        server.zone.drop(f"a1.rc.{ZONE}", "A")
        assert f"a1.rc.{ZONE} has no A; a1.rc.{ZONE} has no AAAA" in refused(
            TransientError, lambda: found(Client(server.address)).connect(5)
        )

    def test_a_target_with_an_unresolved_address_leads_to_the_next(self, server: Served) -> None:
        with listening() as port:
            server.zone.live("v1", "1 1 4218 a1", f"2 1 {port} a2")
            client = Client(server.address, timeout=0.9)
            incarnation = found(client)
            # Twice for its A, twice for its AAAA; then the server answers again.
            server.faults.add("dns drop times=4")
            incarnation.connect(5).close()

    def test_an_ipv6_address_is_tried_where_ipv4_refuses(self, server: Served, client: Client) -> None:
        with listening(socket.AF_INET6) as port:
            server.zone.live("v1", f"1 1 {port} a1")
            server.zone.put(f"a1.rc.{ZONE}", "AAAA", "::1")
            with found(client).connect(5) as connection:
                assert connection.getpeername()[:2] == ("::1", port)


class TestResolvers:
    def test_the_next_is_asked_where_one_says_nothing_and_then_stays_first(self, server: Served) -> None:
        with silent() as quiet:
            client = Client([f"127.0.0.1:{quiet.getsockname()[1]}", server.address], timeout=1.5)
            assert hosts(found(client)) == ["a1", "a2", "a3"]
            assert len(quiet.recv(512)) > 12, "it was asked first"
            assert hosts(found(client, "v2")) == ["b1", "b2"]
            with pytest.raises(BlockingIOError):
                quiet.recv(512)

    def test_the_next_is_asked_at_once_where_nothing_listens(self, server: Served) -> None:
        with refusing(socket.SOCK_DGRAM) as port:
            began = time.monotonic()
            assert hosts(found(Client([f"127.0.0.1:{port}", server.address], timeout=30))) == ["a1", "a2", "a3"]
            assert time.monotonic() - began < 9, "not after a third of the time-out"

    def test_a_lost_datagram_is_asked_again(self, server: Served) -> None:
        server.faults.add("dns drop times=1")
        assert hosts(found(Client(server.address, timeout=1.5))) == ["a1", "a2", "a3"]

    def test_a_server_failure_is_asked_again_and_not_remembered(self, server: Served, client: Client) -> None:
        server.faults.add("dns status=500 times=2")
        message = refused(TransientError, lambda: found(client))
        assert message == f"reason=no-resolver-answers name={V1} type=SRV said='{server.address}: SERVFAIL'"
        assert hosts(found(client)) == ["a1", "a2", "a3"]

    def test_an_answer_to_another_operation_is_none(self) -> None:
        reply = answered(V1, "SRV", f"{V1}. 30 IN SRV 1 1 1 a1.rc.{ZONE}.")
        assert hosts(found(Client("resolver:1", exchange=Canned(reply)))) == ["a1"]
        reply.set_opcode(dns.opcode.NOTIFY)
        refused(TransientError, lambda: found(Client("resolver:1", exchange=Canned(reply))))

    def test_an_answer_that_ends_too_early_is_none_even_where_it_does_not_matter(self) -> None:
        reply = answered(V1, "SRV", f"{V1}. 30 IN SRV 1 1 1 a1.rc.{ZONE}.")
        reply.additional.append(rrset(f"{ZONE}. 30 IN SPF v=spf1"))
        assert hosts(found(Client("resolver:1", exchange=Canned(reply)))) == ["a1"]
        refused(TransientError, lambda: found(Client("resolver:1", exchange=Canned(reply.to_wire()[:-1]))))

    def test_where_none_answers_each_is_named(self) -> None:
        canned = Canned(TimeoutError(), ConnectionRefusedError(111, "Connection refused"), b"rubbish")
        client = Client(["one:1", "two:2", "three:3"], exchange=canned)
        message = refused(TransientError, lambda: found(client))
        assert "'one:1: TimeoutError; two:2: Connection refused; three:3: ValueError'" in message
        assert canned.queries == [1, 2, 3, 1, 2, 3]

    @pytest.mark.parametrize("resolver", ["", ":53", "host:", "host:0", "host:65536", "host:x", "[::1]x", "h:\u0665"])
    def test_an_invalid_resolver_is_refused_at_once(self, resolver: str) -> None:
        assert "reason=no-resolver " in refused(FatalError, lambda: Client([resolver]))

    @pytest.mark.parametrize(
        ("resolver", "server"),
        [
            ("192.0.2.1", ("192.0.2.1", 53)),
            ("192.0.2.1:5353", ("192.0.2.1", 5353)),
            ("resolver.example:5353", ("resolver.example", 5353)),
            ("2001:db8::1", ("2001:db8::1", 53)),
            ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
            ("[2001:db8::1]", ("2001:db8::1", 53)),
        ],
    )
    def test_resolvers_are_read_as_people_write_them(self, resolver: str, server: tuple[str, int]) -> None:
        queries: list[tuple[str, int]] = []

        def exchange(server: tuple[str, int], query: bytes, timeout: float, over_tcp: bool) -> bytes:
            queries.append(server)
            raise TimeoutError

        refused(TransientError, lambda: found(Client(resolver, exchange=exchange)))
        assert set(queries) == {server}

    def test_a_resolver_may_be_a_host_name(self, server: Served) -> None:
        assert hosts(found(Client(f"localhost:{server.port}"))) == ["a1", "a2", "a3"]

    def test_all_values_of_a_large_set_come_over_tcp(self, server: Served, client: Client) -> None:
        server.zone.live("v1", *(f"10 10 4218 {at:06x}" for at in range(400)))
        incarnation = found(client)
        assert len(incarnation.targets) == 400
        assert server.queries == [f"{V1.lower()} SRV", f"{V1.lower()} SRV tcp"]
        assert len({each.host for each in incarnation.order()}) == 400

    def test_a_tcp_answer_that_drips_ends_in_time(self) -> None:
        """The UDP half says truncated; the TCP half sends one byte every 50 ms."""
        with dripping() as port:
            client = Client(f"127.0.0.1:{port}", timeout=0.4)
            began = time.monotonic()
            refused(TransientError, lambda: found(client))
            assert time.monotonic() - began < 10, "all of it would take half an hour"

    def test_an_answer_to_something_else_is_waited_past(self) -> None:
        with forging() as port:
            assert hosts(found(Client(f"127.0.0.1:{port}"))) == ["true"]


class TestPackage:
    @pytest.mark.parametrize(("service", "protocol"), [("_theService", "tcp"), ("theService", "_tcp")])
    def test_underscores_may_be_there_as_in_the_names(self, server: Served, service: str, protocol: str) -> None:
        client = Client(server.address, timeout=30)
        assert hosts(client.discover(service, ZONE, "v1", protocol)) == ["a1", "a2", "a3"]

    def test_discover_shares_one_cache_for_one_list_of_resolvers(self, server: Served) -> None:
        for resolvers in (server.address, [server.address], (server.address,)):
            assert hosts(rollcall.discover("theService", ZONE, incarnation="v1", resolvers=resolvers)) == [
                "a1",
                "a2",
                "a3",
            ]
        assert len(server.queries) == 1

    def test_there_is_nothing_else_in_it(self) -> None:
        with pytest.raises(AttributeError, match="no attribute 'discovery'"):
            _ = rollcall.discovery  # type: ignore[attr-defined]

    def test_the_agent_does_without_dnspython(self) -> None:
        code = "import rollcall.cli, rollcall.agent, sys; sys.exit([m for m in sys.modules if m.split('.')[0] == 'dns'] != [])"
        userdata = Path(rollcall.__file__).parent.parent
        assert subprocess.run([sys.executable, "-c", code], cwd=userdata, timeout=60).returncode == 0


class TestCommand:
    def test_what_is_not_known_of_one_machine_hides_no_other(
        self, server: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fails(monkeypatch, "a2", rtype="AAAA")
        fails(monkeypatch, "v1", rtype="TXT")
        words = ["resolve", f"theService.{ZONE}", "--incarnation", "v1", "--resolver", server.address]
        assert cli(words) == 0
        assert sorted(line.split(" ")[1] for line in capsys.readouterr().out.splitlines()) == ["127.0.0.1"] * 3
        assert cli([*words, "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert shown["txt"] is None and len(shown["targets"]) == 3

    def test_it_prints_the_machines_in_the_order_to_try(
        self, server: Served, capsys: pytest.CaptureFixture[str]
    ) -> None:
        server.zone.live("v1", "20 10 4218 a2", "10 10 4218 a1")
        assert cli(["resolve", f"theService.{ZONE}", "--incarnation", "v1", "--resolver", server.address]) == 0
        assert capsys.readouterr().out == (
            f"a1.rc.{ZONE}:4218 127.0.0.1 priority=10 weight=10\na2.rc.{ZONE}:4218 127.0.0.1 priority=20 weight=10\n"
        )

    @pytest.mark.parametrize("name", [f"_theService._tcp.{ZONE}", f"theService.{ZONE}.", SERVICE])
    def test_json_has_all_of_it(self, server: Served, capsys: pytest.CaptureFixture[str], name: str) -> None:
        server.zone.live("v1", "10 20 4218 a1")
        assert cli(["resolve", name, "--incarnation", "v1", "--resolver", server.address, "--json"]) == 0
        machine = {"priority": 10, "weight": 20, "port": 4218, "host": f"a1.rc.{ZONE}", "addresses": ["127.0.0.1"]}
        expected = {"incarnation": V1, "txt": {"path": "/"}, "targets": [machine]}
        assert json.loads(capsys.readouterr().out) == expected

    @pytest.mark.parametrize("incarnation", [[], ["--incarnation", "v1"], ["--incarnation", "V1"]])
    @pytest.mark.parametrize("name", [V1, f"{V1}.", V1.upper(), f"v1._theService._TCP.{ZONE}"])
    def test_the_name_that_dig_and_status_print_is_understood(
        self, server: Served, capsys: pytest.CaptureFixture[str], name: str, incarnation: list[str]
    ) -> None:
        server.zone.live("v1", "10 10 4218 a1")
        assert cli(["resolve", name, *incarnation, "--resolver", server.address]) == 0
        assert capsys.readouterr().out == f"a1.rc.{ZONE}:4218 127.0.0.1 priority=10 weight=10\n"
        assert server.queries[0].lower() == f"{V1.lower()} srv"

    def test_a_shards_name_and_one_with_dots_and_spaces_are_understood(
        self, server: Served, capsys: pytest.CaptureFixture[str]
    ) -> None:
        server.zone.service("v3-1", "v3-2", r"my\032v1\.0")
        server.zone.live("v3-2", "10 10 4218 a1")
        server.zone.put(rf"my\032v1\.0.{SERVICE}", "SRV", f"1 1 1 a1.rc.{ZONE}.")
        for name, port in ((f"v3-2.{SERVICE}", 4218), (rf"my\032v1\.0.{SERVICE}", 1), (f"v3.{SERVICE}", 4218)):
            assert cli(["resolve", name, "--resolver", server.address]) == 0
            assert capsys.readouterr().out.startswith(f"a1.rc.{ZONE}:{port} "), name

    def test_a_name_over_udp_is_understood(self, server: Served, capsys: pytest.CaptureFixture[str]) -> None:
        server.zone.put(f"v1._names._udp.{ZONE}", "SRV", f"1 1 53 a1.rc.{ZONE}.")
        assert cli(["resolve", f"v1._names._udp.{ZONE}", "--resolver", server.address]) == 0
        assert capsys.readouterr().out.startswith(f"a1.rc.{ZONE}:53 ")

    def test_an_incarnation_in_the_name_and_another_one_beside_it_is_a_fault(
        self, server: Served, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli(["resolve", V1, "--incarnation", "v2", "--resolver", server.address]) == 1
        assert capsys.readouterr().err == (
            f"rollcall resolve: reason=two-incarnations name={V1} incarnation=v2 fix='give one of them'\n"
        )
        assert server.queries == []

    @pytest.mark.parametrize(
        ("name", "shown"),
        [
            (ZONE, "_theService._tcp\n"),
            (f"_services._dns-sd._udp.{ZONE}", "_theService._tcp\n"),
            (f"theService.{ZONE}", "v1\nv2\n"),
            (SERVICE, "v1\nv2\n"),
            (V1, "v1\nv2\n"),
        ],
    )
    def test_browsing_lists_services_and_incarnations(
        self, server: Served, capsys: pytest.CaptureFixture[str], name: str, shown: str
    ) -> None:
        assert cli(["resolve", name, "--browse", "--resolver", server.address]) == 0
        assert capsys.readouterr().out == shown

    def test_control_characters_of_a_name_do_not_reach_the_terminal(
        self, server: Served, capsys: pytest.CaptureFixture[str]
    ) -> None:
        server.zone.put(SERVICE, "PTR", rf"v1\027[2J\010.{SERVICE}.")
        assert cli(["resolve", f"theService.{ZONE}", "--browse", "--resolver", server.address]) == 0
        assert capsys.readouterr().out == "v1\\x1b[2J\\n\n"
        assert cli(["resolve", f"theService.{ZONE}", "--incarnation", "v3", "--resolver", server.address]) == 1
        assert capsys.readouterr().err.endswith("known=v1\\x1b[2J\\n\n")

    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            (["theService.unilans.net", "--incarnation", "v3"], "no-such-incarnation"),
            (["theService.unilans.net"], "no-such-incarnation"),
            (["other.unilans.net"], "no-such-service"),
            (["other.unilans.net", "--browse"], "nothing-to-browse"),
            (["theService", "--incarnation", "v1"], "no-resolver-answers"),
            (["..", "--incarnation", "v1"], "no-"),
            (["theService.unilans.net", "--resolver", "host:port"], "no-resolver "),
        ],
    )
    def test_what_is_not_found_is_one_line_and_exit_code_1(
        self, server: Served, capsys: pytest.CaptureFixture[str], words: list[str], reason: str
    ) -> None:
        assert cli(["resolve", "--resolver", server.address, *words]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith(f"rollcall resolve: reason={reason}") and printed.err.count("\n") == 1

    def test_wrong_usage_is_exit_code_2(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            cli(["resolve"])
        assert ended.value.code == 2
        assert "rollcall resolve" in capsys.readouterr().err


class TestAnyAnswer:
    """Whatever comes from the network, the client finds a service or raises one of its own errors."""

    @settings(deadline=None)
    @given(st.binary(max_size=200))
    def test_of_random_bytes(self, rubbish: bytes) -> None:
        self.survives(lambda query: rubbish)

    @settings(deadline=None)
    @given(st.integers(0, 255), st.integers(0, 255), st.lists(st.integers(0, 9), min_size=4, max_size=4), st.binary())
    def test_with_a_header_and_question_of_ours(self, high: int, low: int, counts: list[int], rest: bytes) -> None:
        numbers = b"".join(each.to_bytes(2, "big") for each in (1, *counts[1:]))
        self.survives(lambda query: query[:2] + bytes((high | 0x80, low)) + numbers + query[12:-11] + rest)

    @settings(deadline=None, max_examples=400)
    @given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6), st.integers(0, 40))
    def test_that_is_almost_right(self, flips: list[tuple[int, int]], cut: int) -> None:
        def mangled(query: bytes) -> bytes:
            wire = bytearray(GOOD.authority.answer(query) or b"")
            for at, value in flips:
                wire[2 + at % (len(wire) - 2)] = value
            return bytes(wire[: len(wire) - cut])

        self.survives(mangled)

    def survives(self, reply: Callable[[bytes], bytes]) -> None:
        def exchange(server: tuple[str, int], query: bytes, timeout: float, over_tcp: bool) -> bytes:
            return reply(query)

        for act in (
            lambda client: found(client).txt,
            lambda client: list(found(client, "").order()),
            lambda client: client.services(ZONE),
            lambda client: client.browse("theService", ZONE),
            lambda client: client.addresses(f"a1.rc.{ZONE}"),
        ):
            try:
                act(Client("resolver:1", exchange=exchange))
            except RollcallError as error:
                assert "\n" not in str(error)


OWNERS = [V1, V2, f"v3.{SERVICE}", f"V1.{SERVICE.upper()}"]
RECORDS = st.one_of(
    st.tuples(st.sampled_from(OWNERS), st.just("CNAME"), st.sampled_from(OWNERS).map("{}.".format)),
    st.tuples(st.sampled_from(OWNERS), st.just("SRV"), st.integers(0, 65_535).map("1 1 {} a1.rc.unilans.net.".format)),
    st.tuples(st.sampled_from(OWNERS), st.just("A"), st.just("127.0.0.1")),
    st.tuples(st.just(ZONE), st.just("SOA"), st.integers(0, 20_000).map("ns. host. 1 1 1 1 {}".format)),
)


class TestAgainstDnspython:
    """The client reads answers itself, record by record; dnspython reads the same ones as sets, in twice the time."""

    @settings(deadline=None, max_examples=300)
    @given(
        st.lists(st.tuples(RECORDS, st.integers(0, 90_000)), max_size=8),
        st.lists(st.tuples(RECORDS, st.integers(0, 90_000)), max_size=3),
        st.sampled_from([dns.rcode.NOERROR, dns.rcode.NXDOMAIN, dns.rcode.SERVFAIL, dns.rcode.BADVERS]),
    )
    def test_both_read_the_same(self, answer: list[Any], authority: list[Any], rcode: dns.rcode.Rcode) -> None:
        reply = dns.message.make_response(dns.message.make_query(V1, "SRV", use_edns=0))
        for section, records in ((reply.answer, answer), (reply.authority, authority)):
            for (owner, rtype, value), ttl in records:
                reply.find_rrset(
                    section, dns.name.from_text(owner), dns.rdataclass.IN, dns.rdatatype.from_text(rtype), create=True
                ).add(dns.rdata.from_text("IN", rtype, value), ttl)
        reply.set_rcode(rcode)
        wire = reply.to_wire()
        clock = Clock(0)
        client = Client("resolver:1", clock=clock, exchange=Canned(wire))
        try:
            expected = dns.message.from_wire(wire).resolve_chaining()  # type: ignore[attr-defined]
        except dns.exception.DNSException:
            expected = None
        if expected is None or rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            refused(TransientError, lambda: client.ask(V1, "SRV"))
            return
        assert set(client.ask(V1, "SRV")) == set(expected.answer or ())
        if expected.answer:
            assert client._cache[V1.lower(), "SRV"][0] == min(expected.minimum_ttl, 86_400)


class Good:
    def __init__(self) -> None:
        from localcloud.dns.server import Authority

        zone = Zone()
        zone.service("v1")
        zone.live("v1", "10 10 4218 a1", "10 10 4218 a2")
        self.authority = Authority([zone], {"ns.example": "127.0.0.1"})


GOOD = Good()


def rrset(text: str) -> dns.rrset.RRset:
    name, ttl, _, rtype, value = text.split(maxsplit=4)
    return dns.rrset.from_text(name, int(ttl), "IN", rtype, value)


def fails(monkeypatch: pytest.MonkeyPatch, *names: str, rtype: str = "") -> list[str]:
    """Questions for names that begin with one of these labels (and for this type) meet a server failure, of clients that are made from
    now on, as long as the labels stand in what is returned."""
    labels = [*names]
    exchange = rollcall.resolve._exchange
    kind = dns.rdatatype.from_text(rtype).to_bytes(2, "big") if rtype else b""

    def failing(server: tuple[str, int], query: bytes, timeout: float, over_tcp: bool) -> bytes:
        question = query[12 : -len(rollcall.resolve._OPTIONS)]
        if any(question.startswith(bytes([len(each)]) + each.encode()) for each in labels) and question[-4:].startswith(
            kind
        ):
            return query[:2] + b"\x84\x02" + bytes(8)
        return exchange(server, query, timeout, over_tcp)

    monkeypatch.setattr("rollcall.resolve._exchange", failing)
    return labels


def answered(
    name: str, rtype: str, *answer: str, authority: str = "", rcode: dns.rcode.Rcode = dns.rcode.NOERROR
) -> dns.message.Message:
    reply = dns.message.make_response(dns.message.make_query(name, rtype))
    reply.answer.extend(rrset(each) for each in answer)
    if authority:
        reply.authority.append(rrset(authority))
    reply.set_rcode(rcode)
    return reply


@contextlib.contextmanager
def listening(family: socket.AddressFamily = socket.AF_INET) -> Iterator[int]:
    with socket.create_server(
        ("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), family=family, backlog=500
    ) as made:
        yield made.getsockname()[1]


@contextlib.contextmanager
def refusing(kind: socket.SocketKind = socket.SOCK_STREAM) -> Iterator[int]:
    """A port that stays ours and has no listener."""
    with socket.socket(socket.AF_INET, kind) as made:
        made.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_DGRAM:
            # Connected to itself it hears no other socket: the kernel says that the port is unreachable.
            made.connect(made.getsockname())
        yield made.getsockname()[1]


@contextlib.contextmanager
def silent() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.setblocking(False)
        yield made


@contextlib.contextmanager
def answering(serve: Callable[[socket.socket, socket.socket, threading.Event], Any]) -> Iterator[int]:
    from localcloud.dns.server import bound_pair

    udp, tcp = bound_pair("127.0.0.1")
    ended = threading.Event()
    for each in (udp, tcp):
        each.settimeout(0.1)
    thread = threading.Thread(target=serve, args=(udp, tcp, ended), daemon=True)
    thread.start()
    try:
        yield udp.getsockname()[1]
    finally:
        ended.set()
        thread.join(5)
        udp.close()
        tcp.close()


def dripping() -> contextlib.AbstractContextManager[int]:
    def serve(udp: socket.socket, tcp: socket.socket, ended: threading.Event) -> None:
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                query, client = udp.recvfrom(4096)
                udp.sendto(query[:2] + b"\x82\x00" + query[4:], client)
            with contextlib.suppress(OSError):
                connection, _ = tcp.accept()
                with connection:
                    while not ended.wait(0.05):
                        connection.send(b"\x7f")

    return answering(serve)


def forging() -> contextlib.AbstractContextManager[int]:
    """Sends first an answer with another id, then one to another question, then the true one."""

    def serve(udp: socket.socket, tcp: socket.socket, ended: threading.Event) -> None:
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                wire, client = udp.recvfrom(4096)
                request = dns.message.from_wire(wire)
                for name, host, change in ((V1, "forged", 1), (V2, "forged", 0), (V1, "true", 0)):
                    reply = answered(name, "SRV", f"{name}. 30 IN SRV 1 1 1 {host}.rc.{ZONE}.")
                    reply.id = request.id ^ change
                    udp.sendto(reply.to_wire(), client)

    return answering(serve)
