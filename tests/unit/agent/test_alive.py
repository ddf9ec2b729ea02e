"""Alive means that machine: agents on an imitated network, where datagrams go where an address leads at the moment."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from rollcall import probe
from rollcall.agent import TICK, Agent
from rollcall.errors import TransientError
from rollcall.ownership import Owner
from rollcall.probe import Subject
from rollcall.settings import CloudflareJoin, Join, MachineSettings, Route53Join, challenge_name
from tests.unit.agent.fakes import Clock, FakeCloud, memory_folder, runs_well

SITE = CloudflareJoin(zone="z", host="www.scalability.expert", token="t", check="command:/bin/true")
OTHER_SITE = replace(SITE, host="blog.scalability.expert")
V1 = Route53Join(
    zone="Z", domain="unilans.net", service="_theService._tcp", incarnation="v1", port=1, check="command:/bin/true"
)
V2 = replace(V1, incarnation="v2")
A, B, C, D = "198.51.100.1", "198.51.100.2", "203.0.113.3", "203.0.113.4"


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with memory_folder() as folder:
        yield folder


@pytest.fixture(autouse=True)
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollcall.health._command", runs_well)


class Machine(FakeCloud):
    def __init__(self, number: int, address: str, *joins: Join, key: str) -> None:
        settings = MachineSettings(
            stack="local", fleet="web", machine=str(number), generation=f"{number:06x}", joins=joins, probe="probe-key"
        )
        super().__init__(settings)
        self.known = (address,)
        self.secrets["probe-key"] = key

    def instance(self) -> str:
        return f"i-{int(self.settings.machine):017x}"


@dataclass
class Net:
    """Where datagrams to an address go: to a machine of ours, or to a stranger that forwards each question to all of ours."""

    home: Path
    strangers: frozenset[str] = frozenset()
    udp_blocked: bool = False
    # Machines that reach no DNS server but a resolver, that cannot resolve at all, or that have another view.
    no_name_server: frozenset[str] = frozenset()
    no_dns: frozenset[str] = frozenset()
    own_view: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.agents: dict[str, Agent] = {}
        self.machines: dict[str, Machine] = {}
        self.off: set[str] = set()
        # Owners by record set and by its value: an address, or a host with an address in `hosts`.
        self.records: dict[str, dict[str, Owner]] = {}
        self.hosts: dict[str, str] = {}
        self.challenges: dict[str, set[str]] = {}
        self.put_up = self.reads = 0
        self.relayed = 0

    def boot(self, number: int, address: str, *joins: Join, key: str = "k") -> str:
        name = str(number)
        self.machines[name] = cloud = Machine(number, address, *joins, key=key)
        self.agents[name] = Agent(
            cloud,
            status_file=self.home / f"{name}.json",
            clock=self.clock,
            answers=NetAnswers(self, name),  # type: ignore[arg-type]
            registry_of=lambda machine_settings, _: NetRegistry(self, machine_settings),
        )
        return name

    def look_up(self, name: str) -> frozenset[str]:
        if name in self.hosts:
            return frozenset({self.hosts[name]})
        if ".c.rc." in name:
            return frozenset(self.challenges.get(name, ()))
        return frozenset(self.records.get(name, ()))

    def ask(self, subjects: Sequence[Subject], key: str, *_: object, **__: object) -> bool:
        return not self.udp_blocked and any(self._answers_to(each, key) for each in subjects)

    def _answers_to(self, subject: Subject, key: str) -> bool:
        sent = probe.question(subject, key)
        relayed = subject.address in self.strangers
        self.relayed += relayed
        for name, agent in self.agents.items():
            here = subject.address in self.machines[name].known
            if name not in self.off and (here or relayed):
                reply = probe.answer(sent, agent.probe_key(), agent.probed(), agent.generation())
                if probe.is_answer(reply, subject, sent, key):
                    return True
        return False

    def run(self, seconds: float) -> None:
        end = self.clock.now + seconds
        while self.clock.now < end:
            for name, agent in self.agents.items():
                if name not in self.off:
                    agent.tick()
            self.clock.now += TICK

    def registered(self, machine_settings: Join) -> set[str]:
        return set(self.records.get(place(machine_settings), ()))


def place(machine_settings: Join) -> str:
    return machine_settings.name


class NetAnswers:
    """The view of DNS that a machine has."""

    def __init__(self, net: Net, name: str) -> None:
        self._net, self._name = net, name
        self.notes: tuple[str, ...] = ()

    def any_of(self, name: str, zone: str, *, ipv6: bool = True, own: bool = False) -> frozenset[str] | None:
        assert name.endswith(zone)
        net, challenge = self._net, ".c.rc." in name
        if self._name in net.no_dns or (challenge and self._name in net.no_name_server):
            return None
        if self._name in net.own_view:
            return frozenset() if challenge else frozenset({"10.0.0.10" if zone == SITE.domain else "lb.example.org"})
        return net.look_up(name)

    def all_of(self, name: str, zone: str, *, own: bool = False) -> frozenset[str] | None:
        return self.any_of(name, zone)

    def ttls(self, *_: object) -> None:
        """No user changes records here."""


class NetRegistry:
    def __init__(self, net: Net, machine_settings: Join) -> None:
        self._net, self._membership = net, machine_settings
        self.size = 0
        self.members: tuple[str, ...] = ()
        self.generations: dict[str, str] = {}
        self.left_hosts: frozenset[str] = frozenset()
        self.lives: Callable[[str, bool], bool] = lambda *_: False

    @property
    def _here(self) -> dict[str, Owner]:
        return self._net.records.setdefault(place(self._membership), {})

    def join(self, owner: Owner, *addresses: str, kept: bool = False) -> bool:
        if isinstance(self._membership, Route53Join):
            host = f"{owner.generation}.rc.{self._membership.domain}"
            self._net.hosts[host], addresses = addresses[0], (host,)
        changed = any(self._here.get(each) != owner for each in addresses)
        self._here.update(dict.fromkeys(addresses, owner))
        if isinstance(self._membership, CloudflareJoin):
            self.generations = {key: each.generation for key, each in self._here.items()}
        return changed

    def leave(self, owner: Owner) -> bool:
        return self.leave_set(owner)

    def leave_set(self, owner: Owner, *addresses: str) -> bool:
        gone = [key for key, each in self._here.items() if each == owner]
        for key in gone:
            del self._here[key]
        return bool(gone)

    def leave_unhealthy(self, owner: Owner, floors: Mapping[str, int], *addresses: str) -> str:
        self.leave_set(owner)
        return ""

    def remove_hosts(self, owner: Owner, hosts: Collection[str], *addresses: str) -> bool:
        return False

    def owner_at(self, key: str) -> Owner | None:
        return self._here.get(key)

    def challenge(self, owner: Owner, on: bool, by: str = "") -> bool:
        name, text = challenge_name(owner, self._membership), f"{owner} {by}".rstrip()
        texts = self._net.challenges.pop(name, set())
        mine = {each for each in texts if each.startswith(text)}
        if left := (texts | {text} if on else texts - mine):
            self._net.challenges[name] = left
        self._net.put_up += on and not mine
        return bool(mine)

    def challengers(self, owner: Owner) -> tuple[str, ...]:
        self._net.reads += 1
        texts = self._net.challenges.get(challenge_name(owner, self._membership), set())
        return tuple(each.removeprefix(f"{owner} ") for each in texts)

    def interrupt(self) -> None:
        pass


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Net:
    made = Net(tmp_path)
    monkeypatch.setattr("rollcall.agent.probe.ask", made.ask)
    return made


@pytest.mark.parametrize("machine_settings", [SITE, V1])
def test_members_answer_each_other_and_no_machine_is_challenged(net: Net, machine_settings: Join) -> None:
    for number, address in enumerate((A, B, C, D)):
        net.boot(number, address, machine_settings)
    net.run(300)
    assert len(net.registered(machine_settings)) == 4 and net.put_up == 0


@pytest.mark.parametrize("machine_settings", [SITE, V1])
def test_what_is_at_a_strangers_address_goes_though_he_asks_a_live_member_for_the_answer(
    net: Net, machine_settings: Join
) -> None:
    """A machine failed to leave and its address went to another machine, which relays each question to all live members."""
    for number, address in enumerate((A, B, C)):
        net.boot(number, address, machine_settings)
    net.run(40)
    net.off.add("1")
    net.strangers = frozenset({B})
    net.run(60)
    assert net.relayed and len(net.registered(machine_settings)) == 2 and net.challenges == {}


@pytest.mark.parametrize("machine_settings", [SITE, V1])
def test_an_address_that_went_to_a_machine_of_the_same_stack_which_is_not_a_member(
    net: Net, machine_settings: Join
) -> None:
    """Of another fleet: it lives, has the key, and is not what the record names."""
    for number, address in enumerate((A, B, C)):
        net.boot(number, address, machine_settings)
    net.run(40)
    net.off.add("1")
    net.boot(9, B, OTHER_SITE)
    net.run(60)
    assert len(net.registered(machine_settings)) == 2 and net.registered(OTHER_SITE) == {B}


def test_an_address_that_went_to_another_generation_which_cannot_become_healthy(net: Net) -> None:
    for number, address in enumerate((A, B, C)):
        net.boot(number, address, SITE)
    net.run(40)
    net.off.add("1")
    net.boot(9, B, replace(SITE, check="command:/bin/false"))
    net.run(60)
    assert net.registered(SITE) == {A, C}


def test_at_a_service_the_host_of_the_generation_before_goes_and_the_new_one_at_its_address_stays(net: Net) -> None:
    for number, address in enumerate((A, B, C)):
        net.boot(number, address, V1)
    net.run(40)
    net.off.add("1")
    net.boot(9, B, V1)
    net.run(60)
    assert net.registered(V1) == {f"{number:06x}.rc.unilans.net" for number in (0, 2, 9)}


def test_a_record_that_has_changed_hands_since_the_last_list_is_asked_for_its_new_owner(net: Net) -> None:
    for number, address in enumerate((A, B, C)):
        net.boot(number, address, SITE)
    net.run(40)
    net.off.add("1")
    net.boot(9, B, SITE)
    net.run(120)
    assert net.registered(SITE) == {A, B, C} and net.put_up == 0


def test_a_live_members_record_with_anothers_mark_is_not_removed_when_that_one_dies(net: Net) -> None:
    """A tool copied one comment to all records of the set."""
    for number, address in enumerate((A, B, C)):
        net.boot(number, address, SITE)
    net.run(40)
    net.records[SITE.host][C] = net.records[SITE.host][B]
    for agent in net.agents.values():
        agent.memberships[0].registry.generations = {A: "000000", B: "000001", C: "000001"}
        agent.memberships[0].next_confirm = net.clock.now + 9999
    net.run(120)
    assert net.registered(SITE) == {A, B, C} and net.put_up == 0


def test_two_incarnations_and_two_sites_on_one_machine_are_each_watched(net: Net) -> None:
    for number, address in enumerate((A, B, C)):
        net.boot(number, address, SITE, OTHER_SITE, V1, V2)
    net.run(60)
    assert [len(net.registered(each)) for each in (SITE, OTHER_SITE, V1, V2)] == [3] * 4 and net.put_up == 0
    net.off.add("1")
    net.run(60)
    assert [len(net.registered(each)) for each in (SITE, OTHER_SITE, V1, V2)] == [2] * 4


@pytest.mark.parametrize("machine_settings", [SITE, V1])
def test_where_udp_is_blocked_live_machines_answer_the_challenge_and_a_dead_one_goes(
    net: Net, machine_settings: Join
) -> None:
    net.udp_blocked = True
    for number, address in enumerate((A, B, C)):
        net.boot(number, address, machine_settings)
    net.run(600)
    assert len(net.registered(machine_settings)) == 3 and 0 < net.put_up <= 6 * 7
    net.off.add("1")
    net.run(240)
    assert len(net.registered(machine_settings)) == 2


@pytest.mark.parametrize("machine_settings", [SITE, V1])
def test_after_a_rotation_each_machine_reads_the_key_again_and_no_machine_goes(
    net: Net, machine_settings: Join
) -> None:
    for number, address in enumerate((A, B, C)):
        net.boot(number, address, machine_settings)
    net.run(60)
    for machine in net.machines.values():
        machine.secrets["probe-key"] = "another"
    net.boot(3, D, machine_settings, key="another")
    net.run(200)
    assert len(net.registered(machine_settings)) == 4
    before = net.put_up
    net.run(600)
    assert net.put_up == before, "all know the new key"


def test_a_machine_without_a_key_watches_no_machine_and_says_so(net: Net, tmp_path: Path) -> None:
    for number, address in enumerate((A, B, C)):
        net.boot(number, address, SITE)
    net.machines["0"].settings = replace(net.machines["0"].settings, probe="")
    net.run(400)
    assert net.registered(SITE) == {A, B, C}
    assert "rollcall-probe is not set" in (tmp_path / "0.json").read_text()
    assert {each.rsplit(" ", 1)[1] for texts in net.challenges.values() for each in texts} <= {"000001", "000002"}


def test_a_key_that_cannot_be_read_holds_no_registration_up_and_is_read_later(net: Net, tmp_path: Path) -> None:
    for number, address in enumerate((A, B)):
        net.boot(number, address, SITE)
    machine = net.machines["0"]
    read = machine.secret

    def refused(name: str) -> str:
        if name == "probe-key":
            raise TransientError("reason=no-secret")
        return read(name)

    machine.secret = refused  # type: ignore[method-assign]
    net.run(10)
    assert net.registered(SITE) == {A, B}
    assert "no member is watched: reason=no-secret" in (tmp_path / "0.json").read_text()
    machine.secret = read  # type: ignore[method-assign]
    net.run(60)
    assert net.agents["0"].probe_key() == "k" and '"watch": ""' in (tmp_path / "0.json").read_text()


def test_a_machine_that_lost_its_address_does_not_answer_for_it(net: Net) -> None:
    name = net.boot(0, A, SITE)
    net.run(20)
    agent = net.agents[name]
    assert {each.address for each in agent.probed()} == {A}
    net.machines[name].known = (B,)
    agent.memberships[0].joining.not_before = net.clock.now + 999
    net.run(20)
    assert {(each.address, each.generation) for each in agent.probed()} == {(B, "000000")}


def status(net: Net, name: str) -> str:
    return (net.home / f"{name}.json").read_text()


BLIND = ["no_name_server", "no_dns", "own_view"]


@pytest.mark.parametrize("kind", BLIND)
@pytest.mark.parametrize("machine_settings", [SITE, V1])
def test_a_machine_that_cannot_see_challenges_says_so_and_is_not_removed_by_silence(
    net: Net, machine_settings: Join, kind: str
) -> None:
    for number, address in enumerate((A, B, C)):
        net.boot(number, address, machine_settings)
    setattr(net, kind, frozenset({"1"}))
    net.run(150)
    net.udp_blocked = True
    net.run(1800)
    assert len(net.registered(machine_settings)) == 3 and net.put_up
    shown = status(net, "1")
    assert "challenges are looked for by the API, and the others wait 300 s for an answer" in shown
    assert ("a split horizon?" in shown) == (kind == "own_view")
    if kind == "own_view":
        assert ("10.0.0.10" if machine_settings is SITE else "lb.example.org") in shown
    assert net.reads < 1800 / 60 * 3 * 2, "no more than now and then"


@pytest.mark.parametrize("kind", BLIND)
def test_what_a_machine_leaves_that_could_not_see_challenges_goes_when_its_patience_is_over(
    net: Net, kind: str
) -> None:
    for number, address in enumerate((A, B, C)):
        net.boot(number, address, SITE)
    setattr(net, kind, frozenset({"1"}))
    net.run(200)
    net.off.add("1")
    net.run(250)
    assert net.registered(SITE) == {A, B, C}
    net.run(150)
    assert net.registered(SITE) == {A, C} and net.challenges == {}


def test_where_no_machine_can_ask_a_name_server_a_crash_is_still_cleaned_up(net: Net) -> None:
    """Port 53 is blocked outward: members are seen by the resolver, challenges by the API."""
    for number, address in enumerate((A, B, C)):
        net.boot(number, address, SITE)
    net.no_name_server = frozenset("012")
    net.run(600)
    assert net.registered(SITE) == {A, B, C}
    net.off.add("1")
    net.run(500)
    assert net.registered(SITE) == {A, C}


@pytest.mark.parametrize("kind", BLIND)
def test_once_it_sees_dns_again_it_asks_for_no_patience(net: Net, kind: str) -> None:
    for number, address in enumerate((A, B)):
        net.boot(number, address, SITE)
    setattr(net, kind, frozenset({"1"}))
    net.run(200)
    assert any("late-300" in each for texts in net.challenges.values() for each in texts)
    setattr(net, kind, frozenset())
    net.run(20)
    assert net.challenges == {} and '"watch": ""' in status(net, "1")


def test_one_that_leaves_takes_its_text_away(net: Net) -> None:
    for number, address in enumerate((A, B)):
        net.boot(number, address, SITE, V1)
    net.no_name_server = frozenset({"1"})
    net.run(60)
    assert net.challenges
    net.agents["1"].leave()
    assert net.challenges == {}


def test_one_that_is_drained_puts_no_text_there_again(net: Net) -> None:
    for number, address in enumerate((A, B)):
        net.boot(number, address, SITE, V1)
    net.no_name_server = frozenset({"1"})
    net.run(60)
    net.machines["1"].settings = replace(net.machines["1"].settings, drain=True)
    net.run(120)
    assert net.challenges == {} and net.registered(SITE) == {A}


def test_what_name_servers_do_wrong_is_logged_once(net: Net, caplog: pytest.LogCaptureFixture) -> None:
    net.boot(0, A, SITE)
    net.agents["0"]._answers.notes = ("scalability.expert: the name server 192.0.2.1 answers REFUSED",)  # type: ignore[misc]
    net.run(60)
    assert caplog.text.count("192.0.2.1 answers REFUSED") == 1
    assert "192.0.2.1 answers REFUSED" in status(net, "0")


def test_a_machine_that_was_away_from_dns_for_long_is_not_taken_for_unseen_at_once(net: Net) -> None:
    for number, address in enumerate((A, B)):
        net.boot(number, address, SITE)
    net.run(60)
    monitor = net.agents["0"].memberships[0].monitor
    assert monitor is not None
    monitor.compare(SITE.host, {B}, {A})
    net.clock.now += 600
    monitor.compare(SITE.host, {B}, {A})
    monitor.answer(net.records[SITE.host][A])
    assert monitor.note == ""


def test_what_another_owner_has_in_a_set_is_not_asked_for_by_our_name_servers(net: Net) -> None:
    for number, address in enumerate((A, B)):
        net.boot(number, address, V1)
    net.run(20)
    net.records[place(V1)]["lb.example.org"] = Owner("staging", "web", "0", "abcdef", "i-00000000000000077")
    net.run(200)
    assert "lb.example.org" in net.registered(V1) and len(net.registered(V1)) == 3 and net.put_up == 0


@pytest.mark.parametrize("blocked", [False, True])
def test_what_has_our_mark_at_another_address_is_another_member_s_until_that_was_silent_for_long(
    net: Net, blocked: bool
) -> None:
    for number, address in enumerate((A, B)):
        net.boot(number, address, SITE)
    net.run(20)
    net.udp_blocked = blocked
    (membership,) = net.agents["0"].memberships
    lives = membership.registry.lives
    assert lives(B, True) is True, "a member with a broken path takes its own mark back within seconds"
    assert lives(A, True) is False, "an address that it had itself"
    assert lives(B, False) is not blocked, "the machine that cleans up after a dead one was challenged first"
    net.clock.now += 31
    assert lives(B, True) is not blocked
    assert lives(D, True) is True, "no machine answers there, but not for long"
    net.clock.now += 31
    assert lives(D, True) is False
