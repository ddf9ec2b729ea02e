"""Roll calls and removals at a Cloudflare host while its name servers fail: by the records' own view of DNS, on local servers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from components.compute.locations import Location, Locations
from components.dns.cloudflare import Place, SiteRecords
from components.model import DnsRecord, RecordKey
from components.registration.inventory import Registries
from rollcall import zoneview as resolving
from rollcall.cloudflare import Record
from tests.cloud.test_zoneview import HOST, ZONE, Network, asking
from tests.cloud.test_zoneview import Zone as Hosts

pytestmark = pytest.mark.clouds
PLACE = Place(zone="z", domain=ZONE, host=HOST, ttl=60, proxied=False)


class Store:
    """Cloudflare's records of one host."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    def list(self, zone: str, name: str) -> tuple[Record, ...]:
        return tuple(Record(name=name, type="A", content=each, zone=zone, id=each) for each in self.addresses)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    monkeypatch.setattr(resolving, "_TIMEOUT_S", 0.8)
    with contextlib.ExitStack() as ended:
        yield Network(ended)


@pytest.mark.parametrize("fault", ["dns refused", "dns status=500", "dns lame", "dns drop"])
def test_a_member_is_answered_though_one_name_server_fails(
    network: Network, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    view = asking(monkeypatch, network.name_server(), network.name_server(fault))
    records = SiteRecords(PLACE, Store("198.51.100.10"), view)  # type: ignore[arg-type]
    (record,) = records.dns_records()
    assert records.answers() == {RecordKey(HOST, "A"): frozenset({"198.51.100.10"})}
    assert records.still_answered([record]) == [record]


def test_a_name_that_is_not_listed_yet_is_not_asked_for_so_no_resolver_keeps_that_it_is_not_there(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = asking(monkeypatch, network.name_server("dns drop"), resolvers=(network.resolver(),))
    records = SiteRecords(PLACE, Store(), view)  # type: ignore[arg-type]
    assert records.dns_records() == () and records.answers() == {RecordKey(HOST, "A"): frozenset()}
    assert view.notes == () and view.delay == 0


def test_the_configured_resolvers_answer_where_no_name_server_can_be_asked(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, resolver = network.name_server("dns drop"), network.resolver()
    monkeypatch.setenv("ROLLCALL_DNS", str(silent))
    locations = Locations(fleet="web", fleets=("web",), home=Location(cloud="aws", region="us-west-2"))
    registries = Registries((PLACE,), locations, {"rollcall:resolvers": f'["{resolver}"]', "cloudflare:apiToken": "t"})
    record = DnsRecord(key=RecordKey(HOST, "A"), value="198.51.100.10", owner=None, id="z/1")
    assert registries.still_answered([record]) == [record]
    assert registries.delay == 90 and f"The resolvers {resolver} are asked instead" in registries.notes[0]
    assert registries.split() == []


def test_a_split_horizon_is_reported_with_what_each_sees(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    own = network.resolver(zone=Hosts(("10.0.0.10",)))
    name_server = network.name_server()
    view = asking(monkeypatch, name_server, resolvers=(own,))
    records = SiteRecords(PLACE, Store("198.51.100.10"), view)  # type: ignore[arg-type]
    records.dns_records()
    (line,) = records.split()
    assert line.startswith(f"{HOST} A: the name servers answer 198.51.100.10; the resolver {own} answers 10.0.0.10.")
    assert records.compared({RecordKey(HOST, "A")}) == [
        f"{HOST} A: {name_server} answers 198.51.100.10; resolver {own} answers 10.0.0.10"
    ]
