"""A machine that is registered again is found at once through caches that remember its former host as gone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from localcloud.aws.route53 import UNLIMITED
from localcloud.dns.server import Authority, Listener, bound_pair
from localcloud.network.faults import Faults
from rollcall.host_label import FirstLabels, HostLabels, KeptLabels
from rollcall.ownership import Owner
from rollcall.route53 import Route53Registry, Route53Store
from rollcall.settings import Route53Join
from tests.caches import CACHES, cache_of
from tests.cloud.aws_cloud import running
from tests.unit.agent.contention import UNKNOWN

pytestmark = [pytest.mark.clouds, pytest.mark.prove]
ZONE = "unilans.net"
SET = f"v1._theService._tcp.{ZONE}"
ONE = Owner("local", "api", "0", "aaaaaa", "i-00000000000000001")
TWO = Owner("local", "api", "1", "bbbbbb", "i-00000000000000002")
A, OTHER_A = "198.51.100.1", "198.51.100.2"


@dataclass
class Directory:
    machine_settings: Route53Join
    store: Route53Store
    port: int

    def registry(self, labels: HostLabels) -> Route53Registry:
        return Route53Registry(self.machine_settings, self.store, UNKNOWN, pause=lambda _: None, labels=labels)


@pytest.fixture(scope="module")
def directory() -> Iterator[Directory]:
    with running(route53_limits=UNLIMITED) as cloud:
        zone = cloud.aws.add_zone(ZONE)
        # A TTL of 0: caches keep no value of the set, so what is seen is of the hosts alone.
        join = Route53Join(zone=zone, domain=ZONE, service="_theService._tcp", incarnation="v1", port=4218, ttl=0)
        udp, tcp = bound_pair("127.0.0.1")
        listener = Listener(Authority([cloud.aws], {"ns-1.awsdns-01.com": "198.51.100.1"}, Faults()), [udp], [tcp])
        listener.start()
        try:
            yield Directory(join, Route53Store(zone, cloud.route53()), udp.getsockname()[1])
        finally:
            listener.stop()


def values_at(port: int, name: str, rtype: str) -> list[str]:
    query = dns.message.make_query(name, rtype)
    reply = dns.query.udp(query, "127.0.0.1", port=port, timeout=5)
    assert reply.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN), reply
    wanted = dns.rdatatype.from_text(rtype)
    return [item.to_text() for rrset in reply.answer if rrset.rdtype == wanted for item in rrset]


def found(port: int) -> set[str]:
    """The addresses to which the set leads through a cache."""
    hosts = [each.split()[3] for each in values_at(port, SET, "SRV")]
    return {address for host in hosts for address in values_at(port, host, "A")}


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("renewed", [True, False])
def test_a_machine_that_comes_back_is_found(directory: Directory, tmp_path: Path, cache: str, renewed: bool) -> None:
    labels = KeptLabels(dice=random.Random(cache)) if renewed else FirstLabels()  # noqa: S311
    one, two = directory.registry(labels), directory.registry(FirstLabels())
    one.join(ONE, A)
    two.join(TWO, OTHER_A)
    with cache_of(cache, tmp_path, ZONE, ("127.0.0.1", directory.port)) as port:
        assert found(port) == {A, OTHER_A}
        hosts = [each.split()[3] for each in values_at(port, SET, "SRV")]
        one.leave(ONE)
        # Whoever still has the set asks for the host.
        assert sum(len(values_at(port, each, "A")) for each in hosts) == 1 and found(port) == {OTHER_A}
        one.join(ONE, A)
        assert found(port) == ({A, OTHER_A} if renewed else {OTHER_A}), "the cache remembers the former host as gone"
    one.leave(ONE)
    two.leave(TWO)


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("at_once", [False, True])
def test_whoever_has_a_value_in_a_cache_finds_its_host(
    directory: Directory, tmp_path: Path, cache: str, at_once: bool
) -> None:
    """Where the hosts go at once with the values, as after a crash, callers behind the cache meet none."""
    one = Route53Registry(replace(directory.machine_settings, ttl=30), directory.store, UNKNOWN, pause=lambda _: None)
    one.join(ONE, A)
    with cache_of(cache, tmp_path, ZONE, ("127.0.0.1", directory.port)) as port:
        assert [each.split()[3] for each in values_at(port, SET, "SRV")] == [f"{ONE.generation}.rc.{ZONE}."]
        (one.leave if at_once else one.leave_set)(ONE)
        assert found(port) == (set() if at_once else {A}), "the value is in the cache, and the host was not asked for"
    if not at_once:
        assert one.left_hosts and one.remove_hosts(ONE, one.left_hosts)
    assert not [*directory.store.at(f"{ONE.generation}.rc.{ZONE}")]
