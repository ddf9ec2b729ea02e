"""The agent: keep this machine's DNS records in line with its health, until its settings or an operator ask it to leave.

`Agent.tick()` does all work that is due at one moment. `run()` calls it every two seconds. So a test can drive the agent on its own clock.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from rollcall import edge, probe
from rollcall.answers import Answers
from rollcall.backoff import PATIENCE, Backoff, as_error
from rollcall.before import Hooks, hooked
from rollcall.clouds import Cloud, detect
from rollcall.crash_monitor import CrashMonitor
from rollcall.errors import FatalError, TransientError
from rollcall.files import write_whole
from rollcall.health import Health, all_of, check_of
from rollcall.host_label import HostLabels, KeptLabels
from rollcall.in_place import WantedRelease
from rollcall.ownership import Owner
from rollcall.probe import Subject
from rollcall.providers import make_registry
from rollcall.registry import AT_ONCE, Registry
from rollcall.resolver_view import ASK_S, ResolverReporter
from rollcall.retrying import retried
from rollcall.route53 import host_name, own_records, srv_names
from rollcall.settings import PROBE, Join, MachineSettings, Secrets, ServiceJoin, workloads_in_place
from rollcall.timers import seconds
from rollcall.workload_secrets import STEP_S, Hook, WorkloadSecrets

TICK = 2.0
REREAD = 10.0
# A roll-out waits for each batch, so a machine of a fleet with releases in place sees another release soon.
REREAD_IN_PLACE = 4.0
CONFIRM = 600.0
# At Cloudflare only the API shows the ownership mark of a record, and the addresses of a proxied name. Each member asks the API as often as
# it asks DNS. All members together ask at most twice a second, half of Cloudflare's limit (1,200 requests in five minutes), which is one
# for all zones and tokens of a user or account: https://developers.cloudflare.com/fundamentals/api/reference/limits/
EACH_MEMBER = 0.5
MARK_SETTLES_S = 30.0
FIRST_LATE_S = 15.0
SOME_MEMBERS = 3
LEAVE_WITHIN = 20.0
LONGEST = 30.0
# No activity waits longer than this for its next try, whatever an API asks for (docs/agents.md).
MAX_WAIT_S = LONGEST * PATIENCE
WATCH = seconds("watch", 7.0)
SYSTEMD_TIMEOUT_S = 5.0
UNHEALTHY, STAYS = "workload unhealthy", "kept although unhealthy"
# The step of a machine that has left DNS because of its hold.
ON_HOLD = "on hold"
# The status shows this after `rollcall leave`, until `rollcall join` is run.
LEFT_BY_HAND = "reason=left-by-hand fix='rollcall join'"
# The sum of this, LEAVE_WITHIN and HOSTS_WITHIN is less than the time for which systemd and the clouds wait before they cut a machine's
# power (docs/operations.md). Systemd waits 90 s (TimeoutStopSec of the agent's unit). Triton waits 60 s for a zone and 180 s for a virtual
# machine, because CloudAPI's stop gives vmadm no other time (https://smartos.org/man/8/vmadm, "stop"). EC2 documents no number: a shutdown
# that scripts delay lasts "longer than a few minutes"
# (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/TroubleshootingInstancesShuttingDown.html), and only then does EC2 force it.
STOP_DELAY_LIMIT_S = seconds("stop-delay", 30.0)
HOSTS_WITHIN = 5.0
ASK_AGAIN_S = 1.0
# A resolver that counts whole seconds keeps an answer up to a second longer than its TTL. Unbound does: msg_cache_lookup in
# https://github.com/NLnetLabs/unbound/blob/master/services/cache/dns.c
CACHE_CLOCK_S = 1.0
EDGE_DAILY, EDGE_AGAIN = 86400.0, 60.0
log = logging.getLogger("rollcall")


class Releases(Protocol):
    """The releases in place of this machine (rollcall.releasing)."""

    waits: dict[str, str]

    def has(self, name: str) -> bool: ...

    def step(self, cloud: Cloud, keeper: WorkloadSecrets, hook: Hook) -> float: ...


@dataclass
class Membership:
    """One record set that the machine joins, and the progress of the join."""

    join: Join
    registry: Registry
    health: Health
    joined: bool = False
    addresses: tuple[str, ...] = ()
    vanished: bool = False
    # Whether the machine is unhealthy, why it stays in DNS nevertheless, whether its ownership mark says so, and how many other members
    # DNS has.
    unhealthy: bool = False
    kept: str = ""
    marked: bool = False
    others: int = 0
    next_try: float = 0.0
    # Whether the last leave removed something from DNS. Caches may then still lead callers to this machine.
    just_left: bool = False
    # The machine's hosts that are no longer in a record set, and since when no name server answers with what has left.
    left_hosts: frozenset[str] = frozenset()
    unanswered_since: float | None = None
    # The addresses that this machine has registered. For each other address with its ownership mark: since when no member answers there.
    had: set[str] = field(default_factory=set)
    silent: dict[str, float] = field(default_factory=dict)
    # For so many seconds the agent ignores the answers of DNS, because the API gave other ones.
    late: float = 0.0
    next_lookup: float = 0.0
    next_confirm: float = 0.0
    next_watch: float = 0.0
    next_answer: float = 0.0
    # Before this time resolvers are not asked for the record set, so that they do not remember that it does not exist.
    ask_from: float = 0.0
    monitor: CrashMonitor | None = None
    # Each activity fails separately, so each has its own backoff. A machine that answers a challenge too late loses its records.
    joining: Backoff = field(default_factory=lambda: Backoff(LONGEST))
    leaving: Backoff = field(default_factory=lambda: Backoff(LONGEST))
    watching: Backoff = field(default_factory=lambda: Backoff(WATCH))
    answering: Backoff = field(default_factory=lambda: Backoff(WATCH / 2))
    releasing: Backoff = field(default_factory=lambda: Backoff(LONGEST))

    @property
    def is_out(self) -> bool:
        """Whether the last leave of this process has succeeded, and it has not joined since."""
        return not self.joined and self.next_confirm > 0 and not self.leaving.error

    @property
    def error(self) -> str:
        """The reasons why activities of this membership fail, each one once."""
        tries = (self.joining, self.leaving, self.answering, self.watching, self.releasing)
        return "; ".join(dict.fromkeys(each.error for each in tries if each.error))


@dataclass
class Status:
    """The last step that the agent reached (booted, settings read, workload healthy, registered, draining, left) and the last error."""

    step: str = "booted"
    error: str = ""
    since: float = field(default_factory=time.time)


class Agent:
    """Register this machine, watch the other members, and leave.

    The agent writes its status to `status_file`. `look_up` resolves a host to its addresses and a service's name to its targets (None: no
    answer). `joins` replaces the joins in the machine's settings.
    """

    def __init__(
        self,
        cloud: Cloud,
        *,
        status_file: Path = Path("/run/rollcall/status.json"),
        clock: Callable[[], float] = time.monotonic,
        look_up: Callable[[str], frozenset[str] | None] | None = None,
        registry_of: Callable[[Join, Callable[[str], str]], Registry] | None = None,
        joins: tuple[Join, ...] | None = None,
        reach: Callable[[str, Join], bool] | None = None,
        answers: Answers | None = None,
        ttls: Callable[[str, str, str, Collection[str]], set[float] | None] | None = None,
        labels: HostLabels | None = None,
    ) -> None:
        self.cloud = cloud
        self.status = Status()
        self.memberships: list[Membership] = []
        self._status_file = status_file
        self._clock = clock
        self._look_up = look_up
        self._answers = answers or Answers()
        # A caller that imitates DNS by `look_up` imitates TTLs only if it gives `ttls` too.
        self._ttls = ttls or (None if look_up else self._answers.ttls)
        self._noted: set[str] = set()
        self._labels = labels or KeptLabels()
        self._registry_of = registry_of or (lambda join, secret: make_registry(join, secret, self._labels))
        self._joins = joins
        self._reach = reach
        self._settings: MachineSettings | None = None
        self._owner: Owner | None = None
        self._addresses: tuple[str, ...] = ()
        self._private: tuple[str, ...] = ()
        self._unread = ""
        # Memberships that the settings no longer contain, and that the machine has not left yet.
        self._dropped: list[Membership] = []
        self._next_read = 0.0
        self._secrets: dict[str, str] = {}
        self._next_probe_key = 0.0
        self._unwatched = ""
        # The workloads that wait for their secrets, each with its reason, and the part that was reported. A thread sets the first.
        self.secret_faults: Callable[[], Mapping[str, str]] = dict
        # The same for the certificates of sites, by host.
        self.certificate_faults: Callable[[], Mapping[str, str]] = dict
        self._waiting = ""
        # The workloads that get their release from the roll-out. A release in place (rollcall.releasing) sets the two functions: whether
        # it keeps this machine out of DNS, and what the status shows of it. The agent answers whether the machine is out of DNS, and
        # whether also no cache leads to it any more.
        self.in_place: tuple[str, ...] = ()
        self.away: Callable[[], bool] = lambda: False
        self.releases: Callable[[], Mapping[str, Any]] = dict
        self.is_out = self.is_forgotten = False
        # /run is empty after a boot. So if there is a status, an earlier process may have joined and left.
        self._is_successor = status_file.exists()

    @property
    def workloads(self) -> tuple[str, ...]:
        """The workloads of this machine; empty until the settings are read."""
        return self._settings.workloads if self._settings else ()

    @property
    def on_hold(self) -> bool:
        """Whether an operator keeps this machine out of DNS, by a setting that outlives restarts and reboots."""
        return self._settings is not None and bool(self._settings.hold)

    @property
    def settings(self) -> MachineSettings | None:
        """Return the settings of the machine; None while they are not known."""
        return self._settings

    @property
    def secrets(self) -> tuple[Secrets, ...]:
        """The secrets of this machine's workloads; empty until the settings are read."""
        return self._settings.secrets if self._settings else ()

    @property
    def wanted(self) -> Mapping[str, WantedRelease]:
        """The releases that this machine should run, by workload."""
        return {each.workload: each for each in self._settings.wanted} if self._settings else {}

    @property
    def has_joined(self) -> bool:
        """Whether this machine is in all of its record sets, or stays out for another reason than a release."""
        return all(each.joined for each in self.memberships) or self._is_drained() or self.on_hold

    @property
    def dns_faults(self) -> str:
        """The reasons why this machine cannot join or leave, each one once."""
        return "; ".join(dict.fromkeys(each.error for each in (*self.memberships, *self._dropped) if each.error))

    @property
    def checks(self) -> tuple[str, ...]:
        """The health checks of this machine's record sets."""
        return tuple(dict.fromkeys(check for each in self.memberships for check in each.join.checks if check))

    def others(self) -> int | None:
        """Return how many other machines are in the smallest record set that this one has joined; None if it has joined none."""
        return min((each.others for each in self.memberships if each.joined), default=None)

    @property
    def sites(self) -> tuple[Join, ...]:
        """The settings of the sites that this machine joins."""
        joins = self._settings.joins if self._settings else ()
        return tuple(each for each in joins if not each.HAS_HOSTS)

    def origins(self) -> list[edge.Origin]:
        """Return the private key and certificate of each site with TLS as its cloud has them now, or newer ones."""
        closed = [each for each in self.sites if each.origin_secret]
        found = [edge.Origin(each.visited_as, self.cloud.secret(each.origin_secret)) for each in closed]
        for each in self.sites:
            if each.tls_secret:
                # A machine without such a site does not have these modules.
                from rollcall.acme_client import Bundle
                from rollcall.certificates import newest, pem_of

                bundle = newest(Bundle.parse(self.cloud.secret(each.tls_secret)), each.name)
                found.append(edge.Origin((each.name,), pem_of(bundle), redirects=True))
        return found

    def tick(self) -> None:
        """Do all work that is due now.

        An error in one membership stops nothing else: the agent logs it once, shows it in the status, and tries again. If new settings
        cannot be used, the machine keeps its present ones.
        """
        before, away = self._unread, self.away()
        if not away:
            self.is_out = self.is_forgotten = False
        if self._settings is None or self._clock() >= self._next_read:
            self._read_again()
        if self._unread or before:
            self._note(self.status.step if self._settings else "no settings", self._unread)
        for membership in self.memberships:
            self._attend(membership)
        for old in self._dropped:
            if old.joined or old.next_confirm <= self._clock():
                self._try(old, old.leaving, lambda old=old: self._part(old))  # type: ignore[misc]
        for each in (*self.memberships, *self._dropped):
            self._release_in_time(each)
        self._dropped = [each for each in self._dropped if each.joined or each.left_hosts]
        if away and self._settings:
            self.is_out = all(each.is_out for each in (*self.memberships, *self._dropped))
            self.is_forgotten = self.is_out and self.cached_for() <= 0
        self._log_notes()
        self._load_probe_key()
        self._note(self.status.step, self.status.error)
        self._tell()

    @property
    def _left_by_hand(self) -> Path:
        return self._status_file.with_name("status.left")

    def stay_away(self, away: bool) -> None:
        """Keep the agent of this machine out of DNS, or let it join again. The choice lasts until the next call or the next boot."""
        if away:
            self._left_by_hand.parent.mkdir(parents=True, exist_ok=True)
            self._left_by_hand.touch()
        else:
            self._left_by_hand.unlink(missing_ok=True)

    def settle(self) -> None:
        """Read the machine's identity and settings, for a command that runs once. Raises RollcallError, ValueError."""
        self._read()

    def cached_for(self) -> float:
        """Return for how many seconds resolvers may still lead callers to this machine after it leaves, or after it has just left.

        The time begins when no name server answers with the machine any more. Until then each call asks them.
        """
        return max(map(self._cached_for, (*self.memberships, *self._dropped)), default=0.0)

    def _cached_for(self, membership: Membership) -> float:
        if not membership.join.cached_s or not (membership.joined or membership.just_left):
            return 0.0
        if not membership.joined and membership.unanswered_since is None:
            self._note_answer(membership)
        now = self._clock()
        since = now if membership.unanswered_since is None else membership.unanswered_since
        return max(since + membership.join.cached_s + CACHE_CLOCK_S - now, 0.0)

    @property
    def left_hosts(self) -> frozenset[str]:
        """The hosts of this machine that are no longer in a record set. They stay for callers that know them from caches."""
        return frozenset().union(*(each.left_hosts for each in (*self.memberships, *self._dropped)))

    def interrupt(self) -> None:
        """Give up the calls to DNS providers that are under way. A signal handler may call this."""
        for membership in self.memberships:
            membership.registry.interrupt()

    def leave(self, within: float = LEAVE_WITHIN) -> bool:
        """Leave all record sets. Return whether this machine has left every one.

        It tries for `within` seconds in all, and each record set at least once. The machine's hosts stay until `remove_hosts`, or until the
        agent's ticks remove them.
        """
        clean = self._of_all((*self.memberships, *self._dropped), self._leave, within)
        self._note("left" if clean else "leave failed")
        return clean

    def remove_hosts(self, within: float = HOSTS_WITHIN) -> bool:
        """Remove now the hosts that are no longer in a record set, within the limits of `leave`. Return whether all are gone."""
        left = [each for each in (*self.memberships, *self._dropped) if each.left_hosts]
        clean = self._of_all(left, self._remove_hosts, within) and not self.left_hosts
        self._tell()
        return clean

    def _of_all(self, memberships: Iterable[Membership], act: Callable[[Membership], None], within: float) -> bool:
        """Do `act` for each membership, even if it fails for others. Return whether all succeeded."""
        clean, end = True, time.monotonic() + within
        for membership in memberships:
            try:
                retried(
                    lambda membership=membership: self._fresh(lambda: act(membership)),  # type: ignore[misc]
                    end - time.monotonic(),
                )
            except Exception as fault:  # noqa: BLE001 - the others are left all the same
                log.error("leave failed: %s; another machine or the roll call removes the record", as_error(fault))
                clean = False
        return clean

    def _read_again(self) -> None:
        """Read the settings again. It is due every ten seconds, because addresses, weights and drain may change.

        A request may hang for half a minute. The next one waits twice as long as this one took, so there is time for everything else.
        """
        began, self._unread = self._clock(), ""
        try:
            self._read()
        except ValueError as fault:
            self._unread = str(fault)
        except Exception as fault:  # noqa: BLE001 - metadata of any form
            self._unread = str(as_error(fault))
        now = self._clock()
        self._next_read = now + max(REREAD_IN_PLACE if self.in_place else REREAD, 2 * (now - began))

    def _read(self) -> None:
        """Read identity and settings."""
        try:
            instance = self.cloud.instance()
            keys = self.cloud.keys()
            settings = MachineSettings.from_keys(keys, instance)
            addresses = self.cloud.addresses()
            joins = settings.joins if self._joins is None else self._joins
            private = self.cloud.private_addresses() if any(each.is_private for each in joins) else ()
        except TransientError:
            # The machine does not leave because its metadata do not answer for a while.
            if self._settings is None:
                raise
            return
        self._addresses, self._private = addresses, private
        self.in_place = workloads_in_place(keys)
        if settings != self._settings:
            owner = Owner(settings.stack, settings.fleet, settings.machine, settings.generation, instance)
            self._take(settings)
            self._settings, self._owner = settings, owner
            log.info("settings read: fleet=%s machine=%s generation=%s", owner.fleet, owner.machine, owner.generation)
            if self.status.step in ("booted", "no settings"):
                self._note("settings read")

    def _take(self, settings: MachineSettings) -> None:
        """Take new settings: keep the progress of an unchanged membership, and leave those that the settings no longer contain."""
        before = {repr(each.join.without_floors()): each for each in self.memberships}
        after = []
        for join in settings.joins if self._joins is None else self._joins:
            known = before.pop(repr(join.without_floors()), None)
            after.append(known or self._membership(join))
            after[-1].join = join
        # A membership with a changed setting joins in place, as soon as its health check succeeds. The check may have changed too.
        olds, self._dropped, self.memberships = (*before.values(), *self._dropped), [], after
        for old in olds:
            successor = next((each for each in after if each.join.same_record_sets(old.join)), None)
            if successor is None:
                self._dropped.append(old)
            else:
                successor.left_hosts, successor.unanswered_since = successor.left_hosts | old.left_hosts, None

    def _membership(self, join: Join) -> Membership:
        made = Membership(join, self._registry_of(join, self._secret), health_of(join))
        made.registry.lives = lambda address, patient: self._lives(made, address, patient)
        return made

    def _lives(self, membership: Membership, address: str, patient: bool) -> bool:
        """Return whether another member is at an address that has our ownership mark.

        An address that we had is ours. Silence may be caused by a blocked path. But another member would write its own mark within
        seconds, so silence counts after `MARK_SETTLES_S`.
        """
        join, now = membership.join, self._clock()
        if address in membership.had:
            return False
        if self._reach(address, join) if self._reach else self._probe(address, "", join) is not False:
            membership.silent.pop(address, None)
            return True
        first = membership.silent.setdefault(address, now)
        return patient and now - first < max(MARK_SETTLES_S, 2 * _each_in_turn_s(membership))

    def _attend(self, membership: Membership) -> None:
        drain = self._drains()
        self._answer_in_time(membership)
        healthy = membership.health.run_checks()
        if drain:
            self._drain(membership)
        elif healthy:
            membership.unhealthy, membership.kept = False, ""
            self._stay(membership)
        elif membership.health.healthy is False:
            self._withdraw(membership)

    def _stay(self, membership: Membership) -> None:
        """Keep this machine's records in DNS, and watch other members."""
        if self._due(membership):
            self._try(membership, membership.joining, lambda: self._join(membership))
        if membership.joined and self._clock() >= membership.next_watch:
            membership.next_watch = self._clock() + WATCH
            self._try(membership, membership.watching, lambda: self._watch(membership))

    def _drain(self, membership: Membership) -> None:
        # An earlier process may have joined. So the agent leaves also what it did not join itself, and repeats this from time to time.
        if membership.joined or membership.next_confirm <= self._clock():
            if self.status.step not in ("draining", "left", ON_HOLD):
                self._note("draining")
            self._try(membership, membership.leaving, lambda: self._leave(membership))

    def _withdraw(self, membership: Membership) -> None:
        """Leave because the workload is unhealthy. If too few others would stay, keep the records until there are enough others."""
        now = self._clock()
        if not membership.unhealthy:
            membership.unhealthy, membership.next_try = True, now
            if not membership.kept and self.status.step != UNHEALTHY:
                self._note(UNHEALTHY, membership.health.why)
        if membership.kept:
            self._stay(membership)
        if (membership.joined or membership.next_confirm <= now) and now >= membership.next_try:
            self._try(membership, membership.leaving, lambda: self._leave_unhealthy(membership))

    def _leave_unhealthy(self, membership: Membership) -> None:
        assert self._owner is not None
        now, registry, was_kept = self._clock(), membership.registry, bool(membership.kept)
        membership.kept = registry.leave_unhealthy(self._owner, membership.join.floors, *self._own(membership))
        self._keep_hosts(membership)
        if not membership.kept:
            if membership.joined:
                log.info("left: %s reason=unhealthy", describe(membership.join))
            membership.joined, membership.marked, membership.next_confirm = False, False, now + CONFIRM
            self._note(UNHEALTHY if not self._kept() else self.status.step, membership.health.why)
            return
        membership.joined, membership.marked = True, True
        membership.next_try = now + self._until_next_try(membership)
        if not was_kept:
            membership.addresses = membership.addresses or self._wanted(membership.join)
        self._note(STAYS, f"{membership.health.why}; {membership.kept}")

    def _until_next_try(self, membership: Membership) -> float:
        """Return after how many seconds an unhealthy member that stays asks again whether it may leave.

        If DNS shows that too few others are there, the agent need not ask the API.
        """
        if AT_ONCE in membership.kept:
            return random.uniform(0, 3 * TICK)  # noqa: S311
        join, fewest = membership.join, min(membership.join.floors.values())
        if join.CONFIRMED_BY_DNS and membership.others < fewest:
            return LONGEST
        return max(WATCH, _each_in_turn_s(membership))

    def _kept(self) -> Membership | None:
        """Return a membership in which this machine stays although it is unhealthy."""
        return next((each for each in self.memberships if each.kept), None)

    def _due(self, membership: Membership) -> bool:
        """Return whether to join now: when not joined, at a new address, when DNS answers without us, and from time to time."""
        changed = not membership.joined or membership.addresses != self._wanted(membership.join)
        changed |= membership.marked != bool(membership.kept)
        return changed or membership.vanished or self._clock() >= membership.next_confirm

    def _wanted(self, join: Join) -> tuple[str, ...]:
        """Return the first address of each family if the settings ask for IPv6, otherwise one address only."""
        first = {":" in each: each for each in reversed(self._addresses_for(join))}
        found = tuple(first[family] for family in sorted(first))
        return found if join.ipv6 else found[:1]

    def _own(self, membership: Membership) -> tuple[str, ...]:
        """Return the addresses that this machine has now. The records at them are its own, even with the mark of another member."""
        return (*self._addresses, *self._private) or membership.addresses

    def _addresses_for(self, join: Join) -> tuple[str, ...]:
        """Return this machine's addresses of the kind that a record set has."""
        return self._private if join.is_private else self._addresses

    def _own_record(self, membership: Membership) -> tuple[str, tuple[str, ...]]:
        """Return the name of the record set of a membership, and this machine's answers in it."""
        join = membership.join
        return join.name, (self._host(join),) if join.HAS_HOSTS else membership.addresses

    def _host(self, join: Join) -> str:
        """Return the name of this machine's host."""
        assert self._owner is not None
        return host_name(self._labels.of(self._owner, join.domain), join.domain)

    def _join(self, membership: Membership) -> None:
        assert self._owner is not None
        addresses = self._wanted(membership.join)
        if not addresses:
            raise TransientError(f"reason=no-{membership.join.address}-address where=instance-metadata")
        try:
            changed = membership.registry.join(self._owner, *addresses, kept=bool(membership.kept))
        finally:
            # The next call does not find the hosts of former registrations again.
            self._keep_hosts(membership, *self._own_record(membership)[1])
        membership.marked = bool(membership.kept)
        now = self._clock()
        if changed or not membership.joined:
            log.info("registered: %s address=%s", describe(membership.join), ",".join(addresses))
        # The API has the record and DNS does not: DNS is late. To ask the API again soon would not help.
        late = membership.vanished and not changed
        first = seconds("propagation", membership.join.PROPAGATION_S) if changed else 0.0
        if membership.join.own_resolvers and first:
            # A resolver that is asked too early remembers that there is nothing. Later it may have the former record set for a TTL.
            membership.ask_from = now + min(first, self._hidden_s(membership.join))
            membership.next_watch = max(membership.next_watch, membership.ask_from)
            first += membership.join.cached_s
        membership.late = min(max(2 * membership.late, FIRST_LATE_S), CONFIRM / 2) if late else first
        membership.next_lookup = now + membership.late
        membership.joined, membership.addresses, membership.vanished = True, addresses, False
        membership.had.update(addresses)
        membership.next_confirm = now + _confirm_after(membership) * random.uniform(0.8, 1.2)  # noqa: S311
        # If another membership is not in DNS, the status must show a roll call the reason.
        if kept := self._kept():
            self._note(STAYS, f"{kept.health.why}; {kept.kept}")
            return
        self._note(
            "registered", next((each.error for each in self.memberships if each is not membership and each.error), "")
        )

    def _leave(self, membership: Membership) -> None:
        membership.just_left = False
        if self._owner is not None:
            changed = membership.registry.leave_set(self._owner, *self._own(membership))
            membership.just_left = changed or membership.joined or (self._is_successor and self.away())
            membership.unanswered_since = None if membership.just_left else membership.unanswered_since
            self._keep_hosts(membership)
            if changed:
                log.info("left: %s", describe(membership.join))
        if self._owner is not None and membership.monitor is not None:
            membership.monitor.end(self._owner)
        membership.joined, membership.next_confirm = False, self._clock() + CONFIRM
        membership.kept, membership.marked = "", False
        if self.on_hold and not self._is_drained():
            self._note(ON_HOLD)
        elif self._drains():
            self._note("left", LEFT_BY_HAND if self._left_by_hand.exists() else "")
        else:
            self._note(self.status.step, membership.health.why)

    def _keep_hosts(self, membership: Membership, *joined: str) -> None:
        """Note which hosts left the record set in the registry's last call, except those that have `joined`."""
        left = (membership.left_hosts | membership.registry.left_hosts).difference(joined)
        if left - membership.left_hosts:
            membership.unanswered_since = None
        membership.left_hosts = left

    def _release_in_time(self, membership: Membership) -> None:
        if membership.left_hosts and (membership.unanswered_since is None or self._is_forgotten(membership)):
            self._try(membership, membership.releasing, lambda: self._release(membership))

    def _release(self, membership: Membership) -> None:
        """Remove hosts that have left, after no name server has answered with them for as long as a cache may keep that answer."""
        self._note_answer(membership)
        left = membership.left_hosts
        if all(self._is_forgotten(each) for each in (*self.memberships, *self._dropped) if each.left_hosts & left):
            # The host of several services is removed when caches have forgotten it for all of them.
            self._remove_hosts(membership)

    def _note_answer(self, membership: Membership) -> None:
        """Note since when no name server answers with what has left the record set."""
        join = membership.join
        left = membership.left_hosts if join.HAS_HOSTS else {*self._own(membership)}
        if left & {*(self._any_answer(join.name, join) or ())}:
            membership.unanswered_since = None
        elif membership.unanswered_since is None:
            membership.unanswered_since = self._clock()

    def _is_forgotten(self, membership: Membership) -> bool:
        """Return whether all cached answers that lead to the hosts that have left have expired."""
        since = membership.unanswered_since
        return since is not None and self._clock() >= since + membership.join.cached_s + CACHE_CLOCK_S

    def _remove_hosts(self, membership: Membership) -> None:
        assert self._owner is not None
        registry, left = membership.registry, membership.left_hosts
        try:
            removed = registry.remove_hosts(self._owner, left, *self._own(membership))
        except FatalError:
            if any(each is membership for each in self._dropped):
                # The machine's permission may be removed already, as in `_part`. Then the roll call removes the host.
                membership.left_hosts = frozenset()
            raise
        membership.left_hosts, membership.unanswered_since = registry.left_hosts & left, None
        if membership.left_hosts:
            # A value leads to the host again: the next join or leave replaces or removes it.
            membership.next_confirm = self._clock()
        if removed:
            log.info("removed: host=%s", ",".join(sorted(left - membership.left_hosts)))

    def _drains(self) -> bool:
        """Return whether this machine should stay out of DNS, healthy or not."""
        return self._is_drained() or self.on_hold or self.away()

    def _is_drained(self) -> bool:
        return (self._settings is not None and self._settings.drain) or self._left_by_hand.exists()

    def _part(self, old: Membership) -> None:
        """Leave a membership that the settings no longer contain.

        The machine's permission may be removed already. Then the roll call removes the DNS record, and the agent does not try again.
        """
        try:
            self._leave(old)
        except FatalError:
            old.joined = False
            raise

    def _answer_in_time(self, membership: Membership) -> None:
        """Look for a challenge when it is due. Do so also before this agent has joined: an earlier process may have joined and ended."""
        if self._clock() >= membership.next_answer:
            # `_answer` sets a later time only after it has succeeded.
            membership.next_answer = self._clock() + TICK
            self._try(membership, membership.answering, lambda: self._answer(membership))

    def _answer(self, membership: Membership) -> None:
        """Remove the challenges for this machine."""
        assert self._owner is not None
        self._monitor(membership).answer(self._owner, joined=membership.joined)
        membership.next_answer = self._clock() + WATCH

    def _watch(self, membership: Membership) -> None:
        """Check that DNS has this machine, and watch the two members that follow it in the record set."""
        assert self._owner is not None
        join, registry, monitor = membership.join, membership.registry, self._monitor(membership)
        name, mine = self._own_record(membership)
        # A proxied name answers with the edge's addresses. The API's last list has those of the machines.
        hidden = join.hides_members
        answered = registry.members if hidden else self._any_answer(name, join)
        differs = answered is not None and not hidden and (not {*mine} <= {*answered} or self._is_changed(membership))
        differs = differs or self._is_at_former_name(join)
        membership.vanished = differs and self._clock() >= membership.next_lookup
        membership.late = membership.late if differs else 0.0
        monitor.compare(name, answered, mine)
        membership.others = len({*(answered or ())} - {*mine})
        if answered is not None:
            monitor.watch(self._owner, answered, mine)

    def _is_at_former_name(self, join: Join) -> bool:
        """Return whether DNS has this machine at the service's name although its incarnation no longer owns that name.

        Machines that still have the earlier settings may have written all members there.
        """
        if not isinstance(join, ServiceJoin):
            return False
        joined_names = {
            (each.join.name, each.join.srv) for each in self.memberships if isinstance(each.join, ServiceJoin)
        }
        others = {name.partition(".")[2] for name, srv in joined_names if srv == "service"}
        former = [name for name, on in srv_names(join).items() if not on and name not in others]
        return any(self._host(join) in (self._any_answer(name, join) or ()) for name in former)

    def _is_changed(self, membership: Membership) -> bool:
        """Return whether a record of a service's member differs in DNS from what the member wrote.

        For a site only the API shows all of a record, so the answer is False.
        """
        join = membership.join
        if not isinstance(join, ServiceJoin) or self._ttls is None or self._owner is None:
            return False
        joins = (each.join for each in self.memberships)
        host_ttl = min(each.ttl for each in joins if each.HAS_HOSTS and each.domain == join.domain)
        own = own_records(join, self._owner, membership.addresses, membership.marked, host_ttl, self._host(join))
        for each in own:
            ttls = self._ttls_of(join, each.name, each.type, each.values)
            if ttls is None or float(each.ttl) in ttls:
                continue
            # All members see a changed TTL of their record set, and one member is enough to correct it.
            if each.type == "SRV" and ttls and random.random() > SOME_MEMBERS / (membership.others + 1):  # noqa: S311
                continue
            return True
        return False

    def _ttls_of(self, join: Join, name: str, rtype: str, values: Collection[str]) -> set[float] | None:
        assert self._ttls is not None
        if join.own_resolvers:
            return self._answers.ttls(name, join.domain, rtype, values, own=True)
        return self._ttls(name, join.domain, rtype, values)

    def _any_answer(self, name: str, join: Join) -> frozenset[str] | None:
        """Return what any of the name servers answers."""
        if self._look_up:
            return self._look_up(name)
        return self._answers.any_of(name, join.domain, ipv6=join.ipv6, own=join.own_resolvers)

    def _every_answer(self, name: str, join: Join) -> frozenset[str] | None:
        """Return what all name servers answer."""
        if self._look_up:
            return self._look_up(name)
        return self._answers.all_of(name, join.domain, own=join.own_resolvers)

    def _hidden_s(self, join: Join) -> float:
        """Return for how many seconds this machine does not see a name that it has asked for too early."""
        return self._answers.negative_s(join.domain) if join.own_resolvers and not self._look_up else 0.0

    def _monitor(self, membership: Membership) -> CrashMonitor:
        join = membership.join
        membership.monitor = membership.monitor or CrashMonitor(
            join,
            membership.registry,
            look_up=lambda name: self._any_answer(name, join),
            everywhere=lambda name: self._every_answer(name, join),
            reach=lambda key, generation: self._reach(key, join) if self._reach else self._probe(key, generation, join),
            clock=self._clock,
            doubt=self._reread_probe_key,
            hidden=lambda: self._hidden_s(join),
        )
        return membership.monitor

    def _notes(self) -> list[str]:
        """Return the reasons why this machine cannot watch others or cannot see its own challenges, one line for each."""
        monitors = [each.monitor.note for each in self.memberships if each.monitor]
        return list(dict.fromkeys(filter(None, [self._unwatched, *monitors, *self._answers.notes])))

    def _log_notes(self) -> None:
        """Log each fault of the name servers once, until it ends."""
        notes = {*self._answers.notes}
        for note in sorted(notes - self._noted):
            log.warning("%s", note)
        self._noted = notes

    def _probe(self, key: str, generation: str, join: Join) -> bool | None:
        """Return whether the member `generation` at an answer of DNS runs; None if this machine cannot ask it."""
        secret = self._load_probe_key()
        if not join.is_member(key):
            # Rollcall did not write this value of the record set.
            return None
        addresses = self._any_answer(key, join) if join.HAS_HOSTS else frozenset({key})
        if not secret or addresses is None:
            return None
        return probe.ask(subjects_at(join, sorted(addresses), generation), secret)

    def probe_key(self) -> str:
        """Return the key of signed probes; empty until it is read."""
        return self._secrets.get(self._settings.probe, "") if self._settings else ""

    def _load_probe_key(self) -> str:
        """Return the key of signed probes, and read it first if necessary.

        It is empty while it cannot be read. The next try is after `LONGEST` seconds.
        """
        if not self.probe_key() and self._clock() >= self._next_probe_key:
            self._reread_probe_key()
        return self.probe_key()

    def _reread_probe_key(self) -> None:
        """Read the key again, because it may have been rotated."""
        self._next_probe_key = self._clock() + LONGEST
        name, problem = self._settings.probe if self._settings else "", ""
        try:
            if name:
                self._secrets[name] = self.cloud.secret(name)
            else:
                problem = f"no member is watched: {PROBE} is not set, which names the key of probes"
        except Exception as raised:  # noqa: BLE001 - a secret of any form
            fault = as_error(raised)
            consequence = "the key of probes of before is used" if name in self._secrets else "no member is watched"
            problem = f"{consequence}: {fault}"
        if problem and problem != self._unwatched:
            log.warning("%s", problem)
        self._unwatched = problem

    def instance(self) -> str:
        return self._owner.instance if self._owner else ""

    @property
    def own_views(self) -> tuple[ServiceJoin, ...]:
        """The record sets in private zones of which this machine has been a member, and that its resolvers may be asked for."""
        now = self._clock()
        known = (each for each in (*self.memberships, *self._dropped) if each.had and now >= each.ask_from)
        return tuple(each.join for each in known if isinstance(each.join, ServiceJoin) and each.join.own_resolvers)

    def generation(self) -> str:
        return self._owner.generation if self._owner else ""

    def probed(self) -> list[Subject]:
        """Return the subjects of probes to which this machine answers yes.

        For each join in its settings: its generation runs at each address that it has now. Where it has joined, also: a member runs there.
        """
        found: list[Subject] = []
        for each in (*self.memberships, *self._dropped):
            mine = subjects_at(each.join, self._addresses_for(each.join), self.generation())
            found += [one for one in mine if one.generation or (each.joined and one.address in each.addresses)]
        return found

    def _try(self, membership: Membership, tries: Backoff, action: Callable[[], None]) -> None:
        """Do `action`, unless it failed a moment ago; back off with full jitter while it fails. No error gets out of here."""
        now = self._clock()
        if now < tries.not_before:
            return
        try:
            self._fresh(action)
        except Exception as raised:  # noqa: BLE001 - anybody may write anything into DNS
            fault, before = as_error(raised), membership.error
            tries.failed(fault, now)
            if str(fault) not in before:
                log.warning("%s: %s", describe(membership.join), fault)
            self._note(self.status.step, str(fault))
        else:
            tries.worked()

    def _fresh(self, action: Callable[[], None]) -> None:
        """Do `action`. If it is refused, reload the secrets and retry once, because a token may have been rotated after we read it."""
        try:
            action()
        except FatalError:
            read = {name: self.cloud.secret(name) for name in self._secrets}
            if read == self._secrets:
                raise
            self._secrets = read
            action()

    def _secret(self, name: str) -> str:
        """Return a secret, and keep it in memory: at shutdown the parameter store may be out of reach already."""
        if name not in self._secrets:
            self._secrets[name] = self.cloud.secret(name)
        return self._secrets[name]

    def _note(self, step: str, error: str = "") -> None:
        waiting = "; ".join((*self.secret_faults().values(), *self.certificate_faults().values()))
        if (step, error, waiting) != (self.status.step, self.status.error, self._waiting):
            if error and error != self.status.error:
                log.warning("%s: %s", step, error)
            if (step, error) != (self.status.step, self.status.error):
                self.status = Status(step, error)
            self._waiting = waiting
            self._tell()
            details = "; ".join(filter(None, (waiting, error)))
            try:
                self.cloud.tell(f"{step}{': ' + details if details else ''}")
            except Exception as fault:  # noqa: BLE001 - the agent continues when it cannot report its status
                log.debug("status not reported: %s", as_error(fault))

    def _tell(self) -> None:
        shown = {"step": self.status.step, "error": self.status.error, "since": self.status.since}
        shown["watch"] = "; ".join(self._notes())
        shown["secrets"] = self._waiting
        shown["releases"] = self.releases()
        if self._settings and self._settings.hold:
            shown["hold"] = self._settings.hold
        shown["memberships"] = [
            {
                "join": describe(each.join),
                "joined": each.joined,
                "healthy": bool(each.health.healthy),
                **({"kept": each.kept} if each.kept else {}),
                **({"hosts": sorted(each.left_hosts)} if each.left_hosts else {}),
                "error": each.error,
            }
            for each in self.memberships
        ]
        try:
            write_whole(self._status_file, json.dumps(shown))
        except OSError as failed:
            log.debug("status not written: %s", failed)


def run(agent: Agent, releases: Releases | None = None) -> int:
    """Run the agent until SIGTERM or SIGINT. Return the exit code.

    The agent leaves only if the system stops. When it is restarted or upgraded, it keeps its records, and the next process takes them
    over. It reports to systemd when it is ready and when it stops. `releases` are its releases in place.
    """
    stop = threading.Event()

    def end(*_: object) -> None:
        stop.set()
        agent.interrupt()

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, end)
    notify("READY=1")
    loop = _Loop(agent, releases)
    while not stop.is_set():
        loop.turn()
        stop.wait(loop.wait)
    notify("STOPPING=1")
    if not system_is_stopping():
        log.info("stopped: the records stay; `rollcall leave` takes them away")
        return 0
    if not agent.leave():
        return 1
    finish_leaving(agent, at_shutdown=True)
    return 0


def finish_leaving(agent: Agent, *, at_shutdown: bool) -> bool:
    """Wait until caches have forgotten a machine that has just left, then remove its hosts. Return whether they are gone.

    The workload continues to serve meanwhile, so at a shutdown the wait has a limit.
    """
    end = time.monotonic() + (STOP_DELAY_LIMIT_S if at_shutdown else float("inf"))
    if (delay := agent.cached_for()) > 0:
        log.info("waiting for caches: seconds=%.0f", min(delay, end - time.monotonic()))
    while (delay := min(agent.cached_for(), end - time.monotonic())) > 0:
        time.sleep(min(delay, ASK_AGAIN_S))
    return agent.remove_hosts()


def system_is_stopping() -> bool:
    """Return whether systemd is shutting the machine down.

    systemctl prints "stopping: The manager is shutting down" as soon as the job of shutdown.target is queued
    (https://www.freedesktop.org/software/systemd/man/latest/systemctl.html, is-system-running). If the answer is wrongly False,
    rollcall-leave.service leaves at the shutdown.
    """
    return _systemctl("is-system-running") == "stopping"


def agent_is_running() -> bool:
    """Return whether systemd runs the agent on this machine."""
    return _systemctl("is-active", "rollcall") == "active"


def _systemctl(*arguments: str) -> str:
    try:
        words = ["systemctl", *arguments]
        output = subprocess.run(words, capture_output=True, text=True, timeout=SYSTEMD_TIMEOUT_S, check=False).stdout
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
    return output.strip()


def system_keeper(agent: Agent) -> Callable[[], None]:
    """Return the step for settings of the system. A Triton machine without such settings does not carry the module."""
    try:
        from rollcall.keeping import Keeping
    except ModuleNotFoundError:
        return lambda: None
    return Keeping(agent).keep_system


class _Loop:
    """The steps of each turn of `run`: the agent's tick, nginx's list of edge networks, the probe's port, a report to systemd.

    A step that fails is logged once, and the other steps still run.
    """

    def __init__(self, agent: Agent, releases: Releases | None = None) -> None:
        self._agent, self._releases = agent, releases
        self._edge_due = 0.0
        self._sites: tuple[tuple[Join, ...], int] | None = None
        self._socket: socket.socket | None = None
        self._socket_due = 0.0
        self._failed: dict[str, str] = {}
        self._keeper: threading.Thread | None = None
        self._certificates = _CertificateThread(agent)
        self._viewer: threading.Thread | None = None
        self._keep_system = system_keeper(agent)
        self.wait = TICK / 4

    def turn(self) -> None:
        for step in (
            self._agent.tick,
            self._certificates.ensure,
            self._refresh_edge,
            self._open_probe_socket,
            self._keep_secrets,
            self._report_view,
            self._keep_system,
            self._tell_systemd,
        ):
            self._guard(step)

    def _guard(self, step: Callable[[], None]) -> None:
        name, problem = step.__name__.strip("_"), ""
        try:
            step()
        except Exception as fault:  # noqa: BLE001 - if the agent ended, this machine would watch no other
            problem = str(as_error(fault))
        if problem and problem != self._failed.get(name):
            log.error("step=%s %s", name, problem)
        self._failed[name] = problem

    def _refresh_edge(self) -> None:
        agent = self._agent
        if ("site" in agent.workloads or edge.CONFIG.exists()) and (
            (agent.sites, self._certificates.taken) != self._sites or time.monotonic() >= self._edge_due
        ):
            self._sites = (agent.sites, self._certificates.taken)
            self._edge_due = time.monotonic() + EDGE_AGAIN
            if edge.refresh(agent.origins):
                self._edge_due = time.monotonic() + EDGE_DAILY

    def _open_probe_socket(self) -> None:
        if self._socket is None and self._agent.memberships and time.monotonic() >= self._socket_due:
            self._socket, self._socket_due = open_probe_socket(self._agent), time.monotonic() + LONGEST

    def _keep_secrets(self) -> None:
        wanted = self._agent.secrets or hooked(self._agent.workloads) or (self._releases and self._agent.in_place)
        if wanted and not (self._keeper and self._keeper.is_alive()):
            self._keeper = threading.Thread(target=keep_secrets, args=(self._agent, self._releases), daemon=True)
            self._keeper.start()

    def _report_view(self) -> None:
        if self._agent.own_views and not (self._viewer and self._viewer.is_alive()):
            self._viewer = threading.Thread(target=report_view, args=(self._agent,), daemon=True)
            self._viewer.start()

    def _tell_systemd(self) -> None:
        agent = self._agent
        notify(f"STATUS={agent.status.step} {agent.status.error}"[:200])
        # Until all memberships have joined, turns are shorter, because users wait for a machine that starts.
        if agent.memberships and all(each.joined for each in agent.memberships):
            self.wait = TICK


class _CertificateThread:
    """A thread that keeps the certificates of the agent's sites, from when the first one is needed. `taken` counts new ones."""

    def __init__(self, agent: Agent) -> None:
        self._agent, self.taken = agent, 0
        self._thread: threading.Thread | None = None

    def ensure(self) -> None:
        wanted = any(each.tls_secret for each in self._agent.sites)
        if wanted and not (self._thread and self._thread.is_alive()):
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            from rollcall.certificates import Certificates

            # It has a separate `Cloud`, because that class is not thread-safe.
            kept, before = Certificates(detect()), self.taken
            self._agent.certificate_faults = lambda: dict(kept.faults)
            while True:
                kept.step(self._agent.sites)
                self.taken = before + kept.taken
                time.sleep(STEP_S)
        except Exception as fault:  # noqa: BLE001 - the next turn tries again
            log.error("step=keep_certificates %s", as_error(fault))
            time.sleep(LONGEST)


def open_probe_socket(agent: Agent) -> socket.socket | None:
    """Start to answer signed probes. If the port cannot be opened, the others challenge this machine through DNS."""
    try:
        listening = probe.listen(any(each.join.ipv6 for each in agent.memberships))
    except OSError as failed:
        log.warning("cannot open UDP %d, so no probe is answered: %s", probe.PORT, failed)
        return None
    known = (agent.probe_key, agent.probed, agent.generation, listening)
    threading.Thread(target=probe.serve, args=known, daemon=True).start()
    return listening


def keep_secrets(agent: Agent, releases: Releases | None = None) -> None:
    """Give the workloads their secrets and releases and run their hooks, for as long as the agent runs.

    This runs in a thread, because a cloud's store may not answer for half a minute. It has a separate `Cloud`, because that class is not
    thread-safe.
    """
    try:
        cloud = detect()
        hooks = Hooks(cloud.keys, cloud.instance, cloud.secret).waits
        keeper = WorkloadSecrets(cloud, agent.others, before=hooks)
        agent.secret_faults = lambda: {**keeper.faults, **(releases.waits if releases else {})}
        while True:
            pause = releases.step(cloud, keeper, hooks) if releases else STEP_S
            # A release in place starts the first release of a workload by itself.
            wanted = (*agent.secrets, *hooked(agent.workloads))
            keeper.step([each for each in wanted if not releases or releases.has(each.workload)])
            time.sleep(pause)
    except Exception as fault:  # noqa: BLE001 - the next turn tries again
        log.error("step=keep_secrets %s", as_error(fault))
        time.sleep(LONGEST)


def report_view(agent: Agent) -> None:
    """Report what the resolvers answer in private zones, for as long as the agent runs.

    This runs in a thread, because a resolver and a store may not answer for half a minute.
    """
    cloud, answers = detect(), Answers()
    reporter = ResolverReporter(answers.values, cloud.report_view)
    while True:
        if joins := agent.own_views:
            reporter.step(agent.instance(), joins)
        time.sleep(ASK_S)


def health_of(join: Join) -> Health:
    return Health(all_of(check_of(each) for each in join.checks if each), join.rise, join.fall)


def describe(join: Join) -> str:
    return join.label


def subjects_at(join: Join, addresses: Iterable[str], generation: str) -> list[Subject]:
    """Return the subjects to ask a member of a record set about at its addresses.

    A host of a service belongs to one generation. At a site the record of any joined member is not a leftover record, even if its
    ownership mark names another generation.
    """
    subjects = [Subject(record_set=join.name, address=each, generation=generation) for each in addresses]
    return [*subjects, *(replace(each, generation="") for each in subjects if generation and not join.HAS_HOSTS)]


def notify(line: str) -> None:
    """Send a line to systemd (sd_notify(3)), if systemd started this process."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        try:
            channel.sendto(line.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError as failed:
            log.debug("systemd was not notified: %s", failed)


def _confirm_after(membership: Membership) -> float:
    """Return after how many seconds to ask the API again whether the DNS record is still there."""
    return CONFIRM if membership.join.CONFIRMED_BY_DNS else max(WATCH, _each_in_turn_s(membership))


def _each_in_turn_s(membership: Membership) -> float:
    """Return how long it takes until each machine has asked the API once. Machines of other sites use the same limit."""
    return EACH_MEMBER * membership.registry.size * membership.join.api_shares
