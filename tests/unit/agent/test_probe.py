"""rollcall.probe: only the member that a record names answers for it, from the record's address, and other clients learn nothing."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from rollcall import probe
from rollcall.probe import Subject

KEY = "k" * 64
HOST, SET = "www.scalability.expert", "v1._theservice._tcp.unilans.net"
GENERATION, OTHER = "ab12cd", "fe98dc"


class Machine:
    """One that answers on a port of loopback, for what is `mine`; `where` is the address to which its port is bound."""

    def __init__(self, *mine: Subject, generation: str = GENERATION, where: str = "127.0.0.1", port: int = 0) -> None:
        self.key, self.mine, self.generation = KEY, list(mine), generation
        self.listener = socket.socket(probe.family_of(where), socket.SOCK_DGRAM)
        self.listener.bind((where, port))
        self.port: int = self.listener.getsockname()[1]
        arguments = (lambda: self.key, lambda: self.mine, lambda: self.generation, self.listener)
        self._thread = threading.Thread(target=probe.serve, args=arguments, daemon=True)
        self._thread.start()

    def answers(self, *subjects: Subject, key: str = KEY) -> bool:
        return probe.ask(subjects, key, self.port, within=0.4)

    def says(self, datagram: bytes) -> bytes:
        """What it replies to these bytes; nothing at all is b""."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            line.settimeout(0.3)
            line.sendto(datagram, ("127.0.0.1", self.port))
            try:
                return line.recv(1000)
            except TimeoutError:
                return b""

    def stop(self) -> None:
        self.listener.close()
        # What waits in `recvmsg` hears nothing of the end.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            line.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(5)


def site(address: str = "127.0.0.1", generation: str = GENERATION, host: str = HOST) -> Subject:
    return Subject(record_set=host, address=address, generation=generation)


@pytest.fixture
def machine() -> Iterator[Machine]:
    made = Machine(site(), site(generation=""))
    yield made
    made.stop()


def test_a_member_answers_at_its_address_by_its_generation(machine: Machine) -> None:
    assert machine.answers(site())
    assert machine.answers(site(generation="")), "and without one, where it has joined"


@pytest.mark.parametrize(
    "other",
    [
        site(generation=OTHER),
        site(host="staging.scalability.expert"),
        site(host=SET),
    ],
    ids=["another generation", "another site", "a service"],
)
def test_it_answers_for_no_other(machine: Machine, other: Subject) -> None:
    assert not machine.answers(other)


def test_a_machine_that_has_not_joined_answers_for_its_own_generation_only(machine: Machine) -> None:
    machine.mine = [site()]
    assert machine.answers(site()) and not machine.answers(site(generation=""))


def test_of_two_questions_at_one_address_one_is_enough(machine: Machine) -> None:
    assert machine.answers(site(generation=OTHER), site(generation=""))
    assert not machine.answers(site(generation=OTHER), site(host=SET))


def test_an_address_that_a_machine_does_not_have_is_not_answered_though_the_question_reaches_it() -> None:
    """A datagram that was forwarded, or an address that is translated to a machine which does not know of it."""
    machine = Machine(site("198.51.100.10"))
    try:
        assert not machine.answers(site())
    finally:
        machine.stop()


class Relay:
    """A stranger at the address of a dead machine that forwards each question to a live member and its answer back."""

    def __init__(self, address: str, port: int, member: str) -> None:
        self.listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.listener.bind((address, port))
        self._member, self.passed, self.replies = (member, port), 0, 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while self.listener.fileno() >= 0:
            try:
                datagram, who = self.listener.recvfrom(2000)
                if not datagram:
                    return
                self.passed += 1
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
                    line.settimeout(0.1)
                    line.sendto(datagram, self._member)
                    self.listener.sendto(line.recv(2000), who)
                    self.replies += 1
            except OSError:
                continue

    def stop(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            line.sendto(b"", self.listener.getsockname())
        self._thread.join(5)
        self.listener.close()


@pytest.mark.parametrize("datagram", [GENERATION, OTHER, ""], ids=["the live one's", "the dead one's", "none"])
def test_an_answer_that_is_relayed_through_a_live_member_at_another_address_does_not_count(datagram: str) -> None:
    """Whatever generation is asked for at 127.0.0.3: the live member is at 127.0.0.2."""
    member = Machine(site("127.0.0.2"), site("127.0.0.2", ""), where="127.0.0.2")
    relay = Relay("127.0.0.3", member.port, "127.0.0.2")
    try:
        assert member.answers(site("127.0.0.2"))
        assert not member.answers(site("127.0.0.3", datagram))
        assert (relay.passed, relay.replies) == (2, 0)
    finally:
        relay.stop()
        member.listener.close()


def test_a_service_with_two_incarnations_on_one_machine_answers_for_both() -> None:
    sets = ("v1._theservice._tcp.unilans.net", "v2._theservice._tcp.unilans.net")
    machine = Machine(*(site(host=each) for each in sets))
    try:
        assert all(machine.answers(site(host=each)) for each in sets)
        assert not machine.answers(site(host="v3._theservice._tcp.unilans.net"))
    finally:
        machine.stop()


@pytest.mark.parametrize("written", ["0:0:0:0:0:0:0:1", "::1"])
def test_an_address_of_ipv6_may_be_written_in_any_way(written: str) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as listener:
        listener.bind(("::1", 0))
        mine = [site(written)]
        arguments = (lambda: KEY, lambda: mine, lambda: GENERATION, listener)
        threading.Thread(target=probe.serve, args=arguments, daemon=True).start()
        assert probe.ask([site("::1")], KEY, listener.getsockname()[1], within=0.4)


@pytest.mark.parametrize("where", ["", "::"])
@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "::1"])
def test_the_answer_comes_from_the_address_that_was_asked(where: str, address: str) -> None:
    """A machine with several addresses would send from its first, and the asker takes no reply of another address."""
    if ":" in address and not where:
        pytest.skip("a socket of IPv4")
    machine = Machine(site(address), where=where)
    try:
        assert machine.answers(site(address))
    finally:
        machine.stop()


def question(key: str = KEY, subject: Subject | None = None) -> bytes:
    return probe.question(subject or site(), key)


def aged(seconds: float) -> bytes:
    """A question that was signed that long ago."""
    head = struct.pack("!Q", int(time.time() - seconds)) + os.urandom(16)
    return head + probe._mac(KEY, b"?", head, site())


@pytest.mark.parametrize(
    "datagram",
    [lambda: b"", lambda: b"x", lambda: os.urandom(56), lambda: question()[:-1], lambda: question() + b"x",
     lambda: question("another key"), lambda: bytes(56), lambda: b"x" * 1400, lambda: aged(probe.FRESH_S + 5),
     lambda: aged(-probe.FRESH_S - 5)],
    ids=["empty", "short", "noise", "cut", "longer", "another key", "zeros", "large", "old", "of the future"],
)  # fmt: skip
def test_nothing_is_sent_to(machine: Machine, datagram: Callable[[], bytes]) -> None:
    assert machine.says(datagram()) == b""
    assert machine.answers(site()), "and it goes on"


def test_no_reply_is_longer_than_its_question(machine: Machine) -> None:
    datagram = question()
    assert 0 < len(machine.says(datagram)) < len(datagram)


def test_a_recorded_question_gives_nothing_that_fits_another(machine: Machine) -> None:
    recorded = question()
    reply = machine.says(recorded)
    assert reply == machine.says(recorded), "the same again"
    assert probe.is_answer(reply, site(), recorded, KEY)
    assert not probe.is_answer(reply, site(), question(), KEY)


def test_a_question_is_not_taken_for_an_answer_nor_an_answer_for_a_question(machine: Machine) -> None:
    datagram = question()
    assert not probe.is_answer(GENERATION.encode() + datagram[-32:], site(), datagram, KEY)
    assert machine.says(datagram[:24] + machine.says(datagram)[-32:]) == b""


@pytest.mark.parametrize("reply", [b"", b"x", b"\xff" * 38, GENERATION.encode() + bytes(32)])
def test_a_reply_that_is_forged_counts_for_nothing(reply: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))

        def forge() -> None:
            _, who = listener.recvfrom(100)
            listener.sendto(reply, who)

        thread = threading.Thread(target=forge)
        thread.start()
        assert not probe.ask([site()], KEY, listener.getsockname()[1], within=0.3)
        thread.join()


def test_a_forged_reply_before_the_true_one_does_not_hide_it() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))

        def reply() -> None:
            datagram, who = listener.recvfrom(100)
            listener.sendto(os.urandom(38), who)
            listener.sendto(probe.answer(datagram, KEY, [site()], GENERATION), who)

        thread = threading.Thread(target=reply)
        thread.start()
        assert probe.ask([site()], KEY, listener.getsockname()[1], within=0.3)
        thread.join()


def test_a_lost_datagram_is_sent_again() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))

        def reply() -> None:
            listener.recvfrom(100)
            datagram, who = listener.recvfrom(100)
            listener.sendto(probe.answer(datagram, KEY, [site()], GENERATION), who)

        thread = threading.Thread(target=reply)
        thread.start()
        assert probe.ask([site()], KEY, listener.getsockname()[1], within=0.6)
        thread.join()


def test_a_machine_without_a_key_yet_says_nothing(machine: Machine) -> None:
    machine.key = ""
    assert machine.says(question("")) == b"" and not machine.answers(site(), key="")


def test_a_key_that_was_rotated_counts_at_once(machine: Machine) -> None:
    machine.key = "n" * 64
    assert not machine.answers(site()) and machine.answers(site(), key="n" * 64)


def test_an_address_without_a_machine_is_silent() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        assert not probe.ask([site()], KEY, port, within=0.1), "bound, and says nothing"
    assert not probe.ask([site()], KEY, port, within=0.1), "refused"
    assert not probe.ask([], KEY, port)
