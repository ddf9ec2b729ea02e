"""A machine's entry in one registry: put it there, take it away, ask whether it stands."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from rollcall import plan
from rollcall.cloudflare import CloudflareStore, Record
from rollcall.errors import FatalError, RefusedError, TransientError
from rollcall.ownership import Owner
from rollcall.settings import CloudflareJoin, Route53Join, challenge_name, format_join, record_type

# systemd gives a stop 30 s, and what has to be tried again is tried by the agent.
_WITHIN = 12.0
_BOUND = 40.0


class Registry(Protocol):
    """One membership. Every method is idempotent and raises the errors of `rollcall.errors`."""

    size: int
    """How many entries stood there at the last look."""

    members: tuple[str, ...]
    """With what they stand there, where DNS does not show it."""

    def join(self, owner: Owner, *addresses: str) -> bool:
        """Make the entry stand with these public addresses, one a family; whether anything had to be changed."""

    def leave(self, owner: Owner) -> bool:
        """Take away what this generation on this instance wrote; whether there was anything."""

    def owner_at(self, key: str) -> Owner | None:
        """Whose entry an answer of DNS is: an address, or a service's target."""

    def challenge(self, owner: Owner, on: bool, by: str = "") -> bool:
        """Put up the challenge of `by` for this machine, or take it away (without `by` everybody's); whether there was one."""


class CloudflareRegistry:
    """The A and AAAA records of a host in a Cloudflare zone. `token` is asked for at each use, so it may be rotated."""

    def __init__(self, join: CloudflareJoin, token: Callable[[], str]) -> None:
        self._told = join
        self._token = token
        self._store: CloudflareStore | None = None
        self._used = ""
        self.size = 0
        self.members: tuple[str, ...] = ()

    def join(self, owner: Owner, *addresses: str) -> bool:
        told = self._told
        entry = Record(name=told.host, type="", content="", ttl=told.ttl, proxied=told.proxied, zone=told.zone)
        wanted = [replace(entry, type=record_type(each), content=each) for each in addresses]
        present = self._open().list(told.zone, told.host)
        self.size = len(present)
        self.members = tuple(each.content for each in present if told.proxied and Owner.parse(each.comment))
        return self._apply(plan.joining(present, owner, *wanted))

    def leave(self, owner: Owner) -> bool:
        return self._apply(plan.leaving(self._open().list(self._told.zone, self._told.host), owner))

    def owner_at(self, key: str) -> Owner | None:
        listed = self._open().list(self._told.zone, self._told.host)
        return next((Owner.parse(record.comment) for record in listed if record.content == key), None)

    def challenge(self, owner: Owner, on: bool, by: str = "") -> bool:
        name, text, store = challenge_name(owner, self._told), f'"{owner} {by}'.rstrip(), self._open()
        there = [
            each for each in store.list(self._told.zone, name) if each.type == "TXT" and each.content.startswith(text)
        ]
        if on and not there:
            store.create(Record(name=name, type="TXT", content=f'{text}"', ttl=60, zone=self._told.zone))
        for each in () if on else there:
            store.delete(each.zone, each.id)
        return bool(there)

    def _apply(self, changes: plan.Plan) -> bool:
        if changes.refused:
            raise RefusedError(changes.refused)
        store = self._open()
        for record in changes.deletes:
            store.delete(record.zone, record.id)
        for record in changes.updates:
            store.update(record)
        for record in changes.creates:
            store.create(record)
        return not changes.empty

    def _open(self) -> CloudflareStore:
        token = self._token()
        if self._store is None or token != self._used:
            self._store, self._used = CloudflareStore(token), token
        return self._store


class Route53Process:
    """`rollcall route53` in a process of its own for each change; `key` gives an IAM user's key, or nothing for the role."""

    def __init__(self, join: Route53Join, key: Callable[[], str]) -> None:
        self._told = join
        self._key = key
        self._fresh: bool | str = True
        self._within = _WITHIN
        self.size = 0
        self.members: tuple[str, ...] = ()

    def join(self, owner: Owner, *addresses: str) -> bool:
        return bool(self._ask("join", owner, *addresses))

    def leave(self, owner: Owner) -> bool:
        return bool(self._ask("leave", owner))

    def owner_at(self, key: str) -> Owner | None:
        return Owner.parse(self._ask("owner_at", key) or "")

    def challenge(self, owner: Owner, on: bool, by: str = "") -> bool:
        return bool(self._ask("challenge", owner, on, by))

    def _ask(self, verb: str, *given: Any) -> Any:
        sent = {"do": verb, "given": given, "join": format_join(self._told), "key": self._key(), "fresh": self._fresh}
        words = [sys.executable, "-m", "rollcall", "route53"]
        # While it fails, one request for each try of the agent: an outage must not take the account's rate.
        within, self._within = self._within, 0.0
        try:
            done = subprocess.run(
                words,
                input=json.dumps({**sent, "within": within}, default=str),
                capture_output=True,
                text=True,
                timeout=_BOUND,
                check=False,
            )
            answer: dict[str, Any] = json.loads(done.stdout)
        except subprocess.TimeoutExpired as late:
            raise TransientError(f"reason=too-slow api=route53 seconds={_BOUND:.0f}") from late
        except ValueError as broken:
            said = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
            raise TransientError(f"reason=no-answer api=route53 said={said[:200]!r}") from broken
        self._fresh = answer["fresh"]
        if "error" in answer:
            # Who only has to wait for the others may be quick.
            if "Throttling" in answer["error"] or "contended" in answer["error"]:
                self._within = _WITHIN
            raise FatalError(answer["error"]) if answer["fatal"] else TransientError(answer["error"])
        self._within = _WITHIN
        return answer["result"]
