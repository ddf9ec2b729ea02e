"""rollcall.answers with local name servers that refuse, are lame, silent or missing: what an agent makes of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from localcloud.dns.data import RecordSet
from rollcall import zoneview
from rollcall.answers import Answers, name_servers_answer, types_of
from tests.cloud.test_zoneview import HOST, OTHER, OURS, ZONE, Network, Zone

pytestmark = pytest.mark.clouds
CHALLENGE = f"ab12cd.c.rc.{HOST}"
SET = f"v1._theService._tcp.{ZONE}"
MARK = "rollcall/1 Local web 0 ab12cd i-0123456789abcdef0 fe98dc"
MORE = {
    CHALLENGE: RecordSet(CHALLENGE, "TXT", 60, (f'"{MARK}"',)),
    SET.lower(): RecordSet(SET.lower(), "SRV", 5, ("10 10 4218 AB12CD.rc.scalability.expert.",)),
}
FAULTS = ["dns refused", "dns status=500", "dns lame", "dns drop"]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    monkeypatch.setattr(zoneview, "_TIMEOUT_S", 0.8)
    with contextlib.ExitStack() as ended:
        yield Network(ended)


def asking(monkeypatch: pytest.MonkeyPatch, *servers: zoneview.Server, resolvers: tuple[str, ...] = ()) -> Answers:
    """An agent's view where the zone has these name servers and the machine these resolvers."""
    monkeypatch.setattr(zoneview, "name_servers", lambda *_: zoneview.Discovery(servers=servers))
    monkeypatch.setattr(zoneview, "own_resolvers", lambda: tuple(map(zoneview.server, resolvers)))
    return Answers()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("bad_first", [True, False])
def test_one_that_fails_spoils_nothing(
    network: Network, monkeypatch: pytest.MonkeyPatch, fault: str, bad_first: bool
) -> None:
    good, bad = network.name_server(zone=Zone(more=MORE)), network.name_server(fault)
    view = asking(monkeypatch, *((bad, good) if bad_first else (good, bad)))
    assert view.any_of(HOST, ZONE) == OURS
    assert view.any_of(CHALLENGE, ZONE) == view.all_of(CHALLENGE, ZONE) == frozenset({MARK})
    assert view.any_of(SET, ZONE) == frozenset({"ab12cd.rc.scalability.expert"})
    (note,) = view.notes
    assert str(bad) in note and note.endswith("so it has no vote")


def test_a_challenge_that_one_server_has_is_seen_and_one_that_another_lacks_is_not_everywhere(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = asking(monkeypatch, network.name_server(zone=Zone(more=MORE)), network.name_server())
    assert view.any_of(CHALLENGE, ZONE) == frozenset({MARK}) and view.all_of(CHALLENGE, ZONE) == frozenset()


@pytest.mark.parametrize("fault", FAULTS)
def test_where_none_can_be_asked_members_are_seen_by_the_resolver_and_challenges_are_not(
    network: Network, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """A resolver that is asked for a challenge too early says for half an hour that there is none."""
    resolver = network.resolver(zone=Zone(more=MORE))
    view = asking(monkeypatch, network.name_server(fault), resolvers=(resolver,))
    assert view.any_of(CHALLENGE, ZONE) is view.all_of(CHALLENGE, ZONE) is None
    assert view.any_of(HOST, ZONE) == OURS
    assert f"The resolvers {resolver} are asked instead; their caches may be" in view.notes[0]


def test_where_nothing_answers_nothing_is_known(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    view = asking(monkeypatch, network.name_server("dns drop"), resolvers=(network.resolver("dns refused"),))
    assert view.any_of(HOST, ZONE) is None and view.all_of(CHALLENGE, ZONE) is None
    assert "none of its name servers can be asked from here" in view.notes[0]


def test_a_name_that_is_not_there_is_an_answer(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    view = asking(monkeypatch, network.name_server())
    assert view.any_of(CHALLENGE, ZONE) == frozenset() and view.notes == ()


def test_one_without_an_address_is_named_and_the_other_asked(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    found = zoneview.Discovery(servers=(network.name_server(),), faults={"ns2.other.example": "has no address"})
    monkeypatch.setattr(zoneview, "name_servers", lambda *_: found)
    view = Answers()
    assert view.any_of(HOST, ZONE) == OURS
    assert view.notes == (f"{ZONE}: the name server ns2.other.example has no address, so it has no vote",)


def test_name_servers_count_and_not_the_resolver_of_a_split_horizon(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = asking(monkeypatch, network.name_server(), resolvers=(network.resolver(zone=Zone(tuple(OTHER))),))
    assert view.any_of(HOST, ZONE) == OURS


def test_with_ipv6_a_host_has_addresses_of_both_families(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    assert types_of(HOST, ipv6=True) == ("A", "AAAA") and types_of(HOST, ipv6=False) == ("A",)
    view = asking(monkeypatch, network.name_server())
    assert view.any_of(HOST, ZONE, ipv6=True) == OURS == view.any_of(HOST, ZONE, ipv6=False)


def test_a_joining_machine_asks_no_resolver_for_a_set_that_may_not_be_there_yet(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking(monkeypatch, network.name_server("dns refused"), resolvers=(network.resolver(zone=Zone(more=MORE)),))
    assert name_servers_answer(ZONE)(SET) is None
    asking(monkeypatch, network.name_server("dns refused"), network.name_server(zone=Zone(more=MORE)))
    assert name_servers_answer(ZONE)(SET) == frozenset({"ab12cd.rc.scalability.expert"})
