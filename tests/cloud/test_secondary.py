"""The local name servers as secondaries of a name server on this machine, and the way from machines to it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.rcode
import pytest

from localcloud.dns.secondary import Relay, Secondaries
from localcloud.dns.server import Authority
from rollcall.errors import FatalError
from rollcall.route53 import RecordSet
from tests.dynamic_zone import DynamicServer, running
from tests.patience import came_true

pytestmark = pytest.mark.clouds
ZONE = "example.org"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DynamicServer]:
    with running("named", tmp_path_factory.mktemp("bind"), ZONE) as made:
        yield made


@pytest.fixture
def authority(server: DynamicServer) -> Authority:
    followed = Secondaries()
    followed.add(ZONE, server.where, server.operator)
    return Authority([followed], {"ns-1.example.com": "198.51.100.4"})


def query(authority: Authority, name: str, rtype: str) -> dns.message.Message:
    wire = authority.answer(dns.message.make_query(name, rtype).to_wire(), over_tcp=True)
    assert wire is not None
    return dns.message.from_wire(wire)


def values(authority: Authority, name: str, rtype: str) -> set[str]:
    return {item.to_text() for each in query(authority, name, rtype).answer for item in each}


def test_a_change_is_answered_a_moment_later_and_with_authority(server: DynamicServer, authority: Authority) -> None:
    assert query(authority, f"a.{ZONE}", "A").rcode() == dns.rcode.NXDOMAIN
    made = RecordSet(f"a.{ZONE}", "A", 60, ("198.51.100.7",))
    server.store().change([], [made])
    assert came_true(lambda: values(authority, made.name, "A") == {*made.values}, 5)
    assert query(authority, made.name, "A").flags & dns.flags.AA
    server.store().change([made], [])
    assert came_true(lambda: query(authority, made.name, "A").rcode() == dns.rcode.NXDOMAIN, 5)


def test_its_name_servers_are_the_local_ones_and_its_soa_is_the_primary_s(authority: Authority) -> None:
    assert values(authority, ZONE, "NS") == {"ns-1.example.com."}
    (soa,) = values(authority, ZONE, "SOA")
    assert soa.endswith(" 60"), "for so long resolvers remember that a name is not there"


def test_a_key_that_the_primary_refuses_is_reported_at_once(server: DynamicServer) -> None:
    with pytest.raises(FatalError, match="doing=transfer"):
        Secondaries().add(ZONE, server.where, server.stranger)


def test_updates_and_transfers_go_through_the_relay(server: DynamicServer) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    relay = Relay(listener, (server.address, server.port))
    relay.start()
    try:
        from rollcall.rfc2136 import Rfc2136Store, Rfc2136Zone, TsigKey

        where = f"127.0.0.1@{listener.getsockname()[1]}"
        store = Rfc2136Store(Rfc2136Zone(ZONE, where, TsigKey.parse(server.machines)))
        made = RecordSet(f"x.rc.{ZONE}", "A", 60, ("198.51.100.8",))
        store.change([], [made])
        assert made in store.zone.sets() and store.at(made.name) == (made,)
        store.change([made], [])
    finally:
        relay.stop()
