"""A machine's entry in one registry: put it there, take it away, ask whether it stands."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Protocol

from rollcall import plan
from rollcall.cloudflare import CloudflareStore, Record
from rollcall.errors import FatalError, RefusedError, TransientError
from rollcall.ownership import Owner
from rollcall.settings import CloudflareJoin, Route53Join, format_join

# systemd gives a stop 30 s, and what has to be tried again is tried by the agent.
_WITHIN = 12.0
_BOUND = 40.0


class Registry(Protocol):
    """One membership. Every method is idempotent and raises the errors of `rollcall.errors`."""

    size: int
    """How many entries stood there at the last look."""

    def join(self, owner: Owner, address: str) -> bool:
        """Make the entry stand with this public address; whether anything had to be changed."""

    def leave(self, owner: Owner) -> bool:
        """Take away what this generation on this instance wrote; whether there was anything."""


class CloudflareRegistry:
    """The A (or AAAA) records of a host in a Cloudflare zone. `token` is asked for at each use, so it may be rotated."""

    def __init__(self, join: CloudflareJoin, token: Callable[[], str]) -> None:
        self._told = join
        self._token = token
        self._store: CloudflareStore | None = None
        self._used = ""
        self.size = 0

    def join(self, owner: Owner, address: str) -> bool:
        told = self._told
        rtype = "AAAA" if ":" in address else "A"
        wanted = Record(name=told.host, type=rtype, content=address, ttl=told.ttl, proxied=told.proxied, zone=told.zone)
        present = self._open().list(told.zone, told.host)
        self.size = len(present)
        return self._apply(plan.joining(present, owner, wanted))

    def leave(self, owner: Owner) -> bool:
        return self._apply(plan.leaving(self._open().list(self._told.zone, self._told.host), owner))

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
    """`rollcall.route53` in a process of its own for each change; `key` gives an IAM user's key, or nothing for the role."""

    def __init__(self, join: Route53Join, key: Callable[[], str]) -> None:
        self._told = join
        self._key = key
        self._fresh = True
        self.size = 0

    def join(self, owner: Owner, address: str) -> bool:
        changed = self._ask(owner, address)
        self._fresh = False
        return changed

    def leave(self, owner: Owner) -> bool:
        return self._ask(owner, "")

    def _ask(self, owner: Owner, address: str) -> bool:
        asked = {"join": format_join(self._told), "owner": str(owner), "address": address, "key": self._key()}
        words = [sys.executable, "-m", "rollcall.route53"]
        sent = json.dumps({**asked, "fresh": self._fresh, "within": _WITHIN})
        try:
            done = subprocess.run(words, input=sent, capture_output=True, text=True, timeout=_BOUND, check=False)
            answer: dict[str, Any] = json.loads(done.stdout)
        except subprocess.TimeoutExpired as late:
            raise TransientError(f"reason=too-slow api=route53 seconds={_BOUND:.0f}") from late
        except ValueError as broken:
            said = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
            raise TransientError(f"reason=no-answer api=route53 said={said[:200]!r}") from broken
        if "error" in answer:
            raise FatalError(answer["error"]) if answer["fatal"] else TransientError(answer["error"])
        self.size = answer["size"]
        return bool(answer["changed"])
