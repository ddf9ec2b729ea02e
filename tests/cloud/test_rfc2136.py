"""Sites and services in a zone of a real name server that takes dynamic updates: BIND and Knot of Debian, on loopback."""

from __future__ import annotations

import base64
import re
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dns.message
import dns.name
import dns.query
import pytest

from rollcall.errors import FatalError, RefusedError, TransientError
from rollcall.host_label import KeptLabels
from rollcall.ownership import KEPT, Owner
from rollcall.rfc2136 import MarkedAddresses, RetriedRfc2136, Rfc2136Site, Rfc2136Zone, TsigKey
from rollcall.route53 import RecordSet, Route53Registry
from rollcall.route53api import ConflictError
from rollcall.settings import Rfc2136Join, Rfc2136SiteJoin
from rollcall.srv_transitions import Writer
from tests.dynamic_zone import SERVERS, DynamicServer, running, write
from tests.unit.agent.contention import UNKNOWN

pytestmark = pytest.mark.clouds
ZONE = "example.org"
HOST, SET = f"www.{ZONE}", f"v1._theservice._tcp.{ZONE}"
MARKS = f"rc.{HOST}"
A1, A2, A3, V6 = "198.51.100.1", "198.51.100.2", "198.51.100.3", "2001:db8::1"
FOREIGN = "203.0.113.9"


def owner(number: int, stack: str = "local") -> Owner:
    return Owner(stack, "web", str(number), f"{number:06x}", f"i-{number:017x}")


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DynamicServer]:
    with running(request.param, tmp_path_factory.mktemp(request.param), ZONE) as made:
        yield made


@pytest.fixture(autouse=True)
def emptied(server: DynamicServer) -> Iterator[None]:
    """Each test begins with the zone as it was made."""
    yield
    server.empty()


class TestStore:
    def test_a_set_is_created_changed_and_removed(self, server: DynamicServer) -> None:
        store, one = server.store(), RecordSet(f"a.{ZONE}", "TXT", 60, ('"one"',))
        store.change([], [one])
        assert store.at(one.name) == (one,)
        two = replace(one, values=('"one"', '"t\\"w\\\\o"', '"two" "strings"'), ttl=30)
        store.change([one], [two])
        assert store.at(one.name) == (two,), "the TTL too, and values to the byte"
        store.change([two], [])
        assert store.at(one.name) == ()

    def test_nothing_changes_where_a_set_is_another_by_now(self, server: DynamicServer) -> None:
        store, one = server.store(), RecordSet(f"a.{ZONE}", "A", 60, (A1,))
        write(server, one.name, "A", A1, A2, ttl=60)
        other = RecordSet(f"b.{ZONE}", "A", 60, (A3,))
        with pytest.raises(ConflictError):
            store.change([one], [replace(one, values=(A3,)), other])
        assert server.values(one.name, "A") == {A1, A2} and not server.values(other.name, "A")

    def test_a_set_that_is_there_is_not_created(self, server: DynamicServer) -> None:
        write(server, f"a.{ZONE}", "A", A1)
        with pytest.raises(ConflictError):
            server.store().change([], [RecordSet(f"a.{ZONE}", "A", 60, (A2,))])

    def test_nothing_is_added_beside_a_cname(self, server: DynamicServer) -> None:
        write(server, f"a.{ZONE}", "CNAME", f"b.{ZONE}.")
        with pytest.raises(ConflictError):
            server.store().change([], [RecordSet(f"a.{ZONE}", "A", 60, (A2,))])
        assert server.values(f"a.{ZONE}", "CNAME") == {f"b.{ZONE}."}

    def test_names_are_listed_below_and_beside_each_other(self, server: DynamicServer) -> None:
        for name in ("aa.rc", "aa-k3x9.rc", "aab.rc", "x.aa.rc", "rc2"):
            write(server, f"{name}.{ZONE}", "A", A1)
        store = server.store()
        assert {each.name for each in store.beginning(f"aa.rc.{ZONE}")} == {f"aa.rc.{ZONE}", f"aa-k3x9.rc.{ZONE}"}
        below = {each.name for page in store.under(f"rc.{ZONE}") for each in page}
        assert below == {f"{each}.rc.{ZONE}" for each in ("aa", "aa-k3x9", "aab", "x.aa")}

    def test_400_members_fit_one_update(self, server: DynamicServer) -> None:
        values = tuple(sorted(f"10 20 4218 {each:06x}-abcd.rc.{ZONE}." for each in range(400)))
        old = RecordSet(SET, "SRV", 30, values[:-1])
        server.store().change([], [old])
        server.store().change([old], [replace(old, values=values)])
        assert len(server.values(SET, "SRV")) == 400


class TestRefusals:
    """Each refusal of the server as an error that says what to look at, and never has the key."""

    def wrong(self, server: DynamicServer, key: str, zone: str = ZONE) -> list[Exception]:
        """What reading, listing and changing raise."""
        client, found = server.client(key, zone), list[Exception]()
        update = client.message()
        update.add(dns.name.from_text(f"a.{zone}"), 60, "A", A1)
        for act in (lambda: client.at(f"a.{zone}"), client.sets, lambda: client.send(update)):
            with pytest.raises((FatalError, TransientError)) as raised:
                act()
            assert key.rpartition(":")[2] not in str(raised.value)
            found.append(raised.value)
        return found

    def test_a_key_that_the_server_does_not_know(self, server: DynamicServer) -> None:
        found = self.wrong(server, f"hmac-sha256:nobody:{base64.b64encode(secrets.token_bytes(32)).decode()}")
        assert all(isinstance(each, FatalError) and "code=BADKEY" in str(each) for each in found)

    def test_a_secret_that_is_not_the_server_s(self, server: DynamicServer) -> None:
        found = self.wrong(server, f"hmac-sha256:operator:{base64.b64encode(secrets.token_bytes(32)).decode()}")
        assert all(isinstance(each, FatalError) and "code=BADSIG" in str(each) for each in found)

    def test_a_clock_that_is_wrong(self, server: DynamicServer, monkeypatch: pytest.MonkeyPatch) -> None:
        late = time.time() - 3600
        monkeypatch.setattr(dns.message.time, "time", lambda: late)  # type: ignore[attr-defined]
        found = self.wrong(server, server.operator)
        assert all(isinstance(each, TransientError) and "code=BADTIME" in str(each) for each in found)
        assert "clocks" in str(found[0])

    def test_a_zone_that_the_server_does_not_have(self, server: DynamicServer) -> None:
        found = self.wrong(server, server.operator, "example.net")
        text = "code=NOTAUTH|code=REFUSED|reason=no-signed-reply .*does the server have this zone"
        assert all(re.search(text, str(each)) for each in found) and "code=NOTAUTH" in str(found[1])

    def test_a_key_that_may_not_change_or_list_the_zone(self, server: DynamicServer) -> None:
        client = server.client(server.stranger)
        update = client.message()
        update.add(dns.name.from_text(f"a.{ZONE}"), 60, "A", A1)
        for act in (client.sets, lambda: client.send(update)):
            with pytest.raises(FatalError, match=r"code=(REFUSED|NOTAUTH|BADKEY) check="):
                act()

    def test_a_machine_s_key_may_not_change_static_records(self, server: DynamicServer) -> None:
        machine = server.store(server.machines)
        for name, rtype, value in (
            (f"_theService._tcp.{ZONE}", "PTR", f"{SET}."),
            (ZONE, "TXT", '"v=spf1 -all"'),
            (f"mail.{ZONE}", "A", A1),
        ):
            with pytest.raises(FatalError, match=r"code=(REFUSED|BADKEY)"):
                machine.change([], [RecordSet(name, rtype, 60, (value,))])
        machine.change([], [RecordSet(SET, "SRV", 60, (f"1 1 1 aaaaaa.rc.{ZONE}.",))])

    def test_a_server_that_is_not_there(self) -> None:
        zone = Rfc2136Zone(ZONE, "127.0.0.1@9", TsigKey("k", "c2VjcmV0"))
        for act in (lambda: zone.at(HOST), zone.sets, lambda: zone.send(zone.message())):
            with pytest.raises(TransientError, match=r"reason=unreachable api=rfc2136 server=127\.0\.0\.1@9"):
                act()


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "hmac-sha256:name", "hmac-none:name:c2VjcmV0", "hmac-sha256:name:!", "a:b:c:d", ":c2VjcmV0"],
)
def test_a_key_of_another_form_is_refused_without_its_text(text: str) -> None:
    with pytest.raises(FatalError, match="reason=bad-key") as raised:
        TsigKey.parse(text)
    assert "c2VjcmV0" not in str(raised.value)


def test_a_key_without_an_algorithm_is_that_of_nsupdate() -> None:
    assert TsigKey.parse("name:c2VjcmV0") == TsigKey("name", "c2VjcmV0", "hmac-sha256")
    assert TsigKey.parse("hmac-sha512:name:c2VjcmV0").algorithm == "hmac-sha512"


@pytest.fixture
def settings(server: DynamicServer) -> Rfc2136Join:
    return Rfc2136Join(
        domain=ZONE, service="_theService._tcp", incarnation="v1", port=4218, key="tsig", server=server.where
    )


class TestServices:
    def registry(self, server: DynamicServer, settings: Rfc2136Join, fresh: bool = True) -> Route53Registry:
        return Route53Registry(
            settings,
            server.store(server.machines),
            Writer() if fresh else UNKNOWN,
            pause=lambda _: None,
            labels=KeptLabels(),
        )

    def member(self, number: int) -> str:
        return f"10 10 4218 {number:06x}.rc.{ZONE}."

    def test_it_joins_is_challenged_and_leaves(self, server: DynamicServer, settings: Rfc2136Join) -> None:
        membership = RetriedRfc2136(settings, lambda: server.machines, lambda _: None)
        assert membership.join(owner(1), A1) and not membership.join(owner(1), A1)
        host = f"000001.rc.{ZONE}"
        assert server.values(SET, "SRV") == {self.member(1)} and server.values(host, "A") == {A1}
        assert membership.owner_at(host) == owner(1)
        assert not membership.challenge(owner(1), True, "000002")
        assert membership.challengers(owner(1)) == ("000002",)
        assert membership.challenge(owner(1), False, "000002") and membership.challengers(owner(1)) == ()
        assert membership.leave_set(owner(1), A1) and not membership.leave_set(owner(1), A1)
        assert not server.values(SET, "SRV") and server.values(host, "A") == {A1}, (
            "callers may know the host from caches"
        )
        assert membership.remove_hosts(owner(1), {host}, A1)
        assert not server.values(host, "A") and not server.values(host, "TXT")

    def test_machines_that_join_and_leave_at_once_lose_no_machine(
        self, server: DynamicServer, settings: Rfc2136Join
    ) -> None:
        stays = f"0 0 1 lb.{ZONE}."
        write(server, SET, "SRV", stays, ttl=30)
        faults: list[Exception] = []

        def take_part(number: int) -> None:
            membership = RetriedRfc2136(settings, lambda: server.machines, lambda _: None)
            try:
                membership.join(owner(number), f"198.51.100.{number}")
                if number % 3 == 0:
                    membership.leave_set(owner(number), f"198.51.100.{number}")
            except Exception as fault:  # noqa: BLE001 - shown below
                faults.append(fault)

        threads = [threading.Thread(target=take_part, args=(number,)) for number in range(1, 13)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(60)
        assert not faults
        assert server.values(SET, "SRV") == {stays, *(self.member(each) for each in range(1, 13) if each % 3)}

    def test_a_peer_removes_what_a_crash_left(self, server: DynamicServer, settings: Rfc2136Join) -> None:
        for each in (1, 2):
            self.registry(server, settings).join(owner(each), f"198.51.100.{each}")
        assert self.registry(server, settings, False).leave(owner(1))
        assert server.values(SET, "SRV") == {self.member(2)} and not server.values(f"000001.rc.{ZONE}", "TXT")

    def test_the_floor_holds(self, server: DynamicServer, settings: Rfc2136Join) -> None:
        for each in (1, 2):
            self.registry(server, settings).join(owner(each), f"198.51.100.{each}")
        assert "others=1 floor=2" in self.registry(server, settings, False).leave_unhealthy(owner(1), 2)
        assert self.registry(server, settings, False).leave_unhealthy(owner(1), 1) == ""
        assert server.values(SET, "SRV") == {self.member(2)}


class TestSites:
    def site(self, server: DynamicServer, **settings: object) -> Rfc2136Site:
        join = Rfc2136SiteJoin(server=server.where, host=HOST, key="tsig")
        return Rfc2136Site(replace(join, **settings), lambda: server.machines, pause=lambda _: None)  # type: ignore[arg-type]

    def marks(self, server: DynamicServer) -> set[str]:
        return {each.strip('"') for each in server.values(MARKS, "TXT")}

    def test_it_joins_with_its_mark_and_leaves(self, server: DynamicServer) -> None:
        site = self.site(server, ipv6=True)
        assert site.join(owner(1), A1, V6) and not site.join(owner(1), A1, V6)
        assert server.values(HOST, "A") == {A1} and server.values(HOST, "AAAA") == {V6}
        assert self.marks(server) == {f"{A1} {owner(1)}", f"{V6} {owner(1)}"}
        assert (site.size, site.generations) == (2, {A1: "000001", V6: "000001"})
        assert site.owner_at(A1) == owner(1) and site.owner_at(FOREIGN) is None
        assert site.leave_set(owner(1), A1, V6) and not site.leave_set(owner(1), A1, V6)
        assert not server.values(HOST, "A") and not server.values(HOST, "AAAA") and not self.marks(server)

    def test_another_address_takes_the_place_of_the_old_one(self, server: DynamicServer) -> None:
        site = self.site(server)
        site.join(owner(1), A1)
        assert site.join(owner(1), A2)
        assert server.values(HOST, "A") == {A2} and self.marks(server) == {f"{A2} {owner(1)}"}

    def test_a_foreign_address_and_a_foreign_text_stay(self, server: DynamicServer) -> None:
        write(server, HOST, "A", FOREIGN)
        write(server, MARKS, "TXT", '"something else"')
        site = self.site(server)
        site.join(owner(1), A1)
        site.leave_set(owner(1), A1)
        assert server.values(HOST, "A") == {FOREIGN} and self.marks(server) == {"something else"}

    def test_an_address_that_is_another_owners_is_refused(self, server: DynamicServer) -> None:
        write(server, HOST, "A", A1)
        with pytest.raises(RefusedError, match="reason=foreign-record"):
            self.site(server).join(owner(1), A1)
        assert not self.marks(server)

    def test_a_cname_is_refused(self, server: DynamicServer) -> None:
        write(server, HOST, "CNAME", f"lb.{ZONE}.")
        with pytest.raises(RefusedError, match="reason=cname-in-the-way"):
            self.site(server).join(owner(1), A1)

    def test_a_mark_that_a_user_removed_is_written_again(self, server: DynamicServer) -> None:
        site = self.site(server)
        site.join(owner(1), A1)
        (marks,) = server.store().at(MARKS)
        server.store().change([marks], [])
        assert site.join(owner(1), A1) and self.marks(server) == {f"{A1} {owner(1)}"}

    def test_a_peer_removes_what_a_crash_left(self, server: DynamicServer) -> None:
        for each, address in ((1, A1), (2, A2)):
            self.site(server).join(owner(each), address)
        assert self.site(server).leave(owner(1))
        assert server.values(HOST, "A") == {A2} and self.marks(server) == {f"{A2} {owner(2)}"}

    def test_the_ttl_of_the_set_changes_with_the_setting(self, server: DynamicServer) -> None:
        for each, address in ((1, A1), (2, A2)):
            self.site(server).join(owner(each), address)
        assert self.site(server, ttl=77).join(owner(1), A1)
        assert server.ttl(HOST, "A") == 77 and server.values(HOST, "A") == {A1, A2}

    def test_the_floor_holds_and_is_reported_in_the_mark(self, server: DynamicServer) -> None:
        for each, address in ((1, A1), (2, A2)):
            self.site(server).join(owner(each), address)
        write(server, f"lb.{ZONE}", "A", FOREIGN)
        why = self.site(server).leave_unhealthy(owner(1), {"A": 2}, A1)
        assert "others=1 floor=2" in why and f"{A1} {owner(1)}{KEPT}" in self.marks(server)
        assert self.site(server).leave_unhealthy(owner(1), {"A": 1}, A1) == ""
        assert server.values(HOST, "A") == {A2} and self.marks(server) == {f"{A2} {owner(2)}"}

    def test_machines_that_are_unhealthy_at_once_do_not_all_leave(self, server: DynamicServer) -> None:
        for number in range(1, 7):
            self.site(server).join(owner(number), f"198.51.100.{number}")
        faults: list[Exception] = []

        def leave(number: int) -> None:
            try:
                site = Rfc2136Site(Rfc2136SiteJoin(server=server.where, host=HOST, key="t"), lambda: server.machines)
                site.leave_unhealthy(owner(number), {"A": 2}, f"198.51.100.{number}")
            except Exception as fault:  # noqa: BLE001 - shown below
                faults.append(fault)

        threads = [threading.Thread(target=leave, args=(number,)) for number in range(1, 7)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(60)
        assert not faults and len(server.values(HOST, "A")) == 2

    def test_a_machine_that_joins_between_two_reads_is_not_foreign(
        self, server: DynamicServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Marks and addresses are at two names, so they take two queries."""
        real, joined = Rfc2136Zone.at, list[bool]()

        def at(zone: Rfc2136Zone, name: str, *types: Any) -> Any:
            found = real(zone, name, *types)
            if name == MARKS and not joined:
                joined.append(True)
                self.site(server).join(owner(2), A2)
            return found

        monkeypatch.setattr(Rfc2136Zone, "at", at)
        assert [each.comment for each in MarkedAddresses(HOST, server.store()).list()] == [str(owner(2))]

    def test_it_is_challenged_below_its_host(self, server: DynamicServer) -> None:
        site = self.site(server)
        assert not site.challenge(owner(1), True, "000002")
        assert site.challengers(owner(1)) == ("000002",)
        assert server.values(f"000001.c.rc.{HOST}", "TXT") == {f'"{owner(1)} 000002"'}
        assert site.challenge(owner(1), False) and site.challengers(owner(1)) == ()


def test_a_reply_that_is_not_signed_grants_nothing(server: DynamicServer, monkeypatch: pytest.MonkeyPatch) -> None:
    real = dns.query.tcp

    def unsigned(*given: object, **named: object) -> object:
        reply = real(*given, **named)  # type: ignore[arg-type]
        reply.tsig = None
        return reply

    monkeypatch.setattr(dns.query, "tcp", unsigned)
    with pytest.raises(TransientError, match="reason=no-signed-reply"):
        server.client().at(HOST)
