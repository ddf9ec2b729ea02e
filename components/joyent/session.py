"""Share among all resources of one provider host: a client, its catalogue, one list of machines, and the texts of fingerprints."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from components.joyent import engine
from components.joyent.catalogue import Catalogue
from components.joyent.client import CloudApi
from components.joyent.credentials import Credentials
from components.joyent.errors import FatalError, NotFoundError
from components.joyent.pacing import Sleep
from components.joyent.records import MachineRecord
from components.joyent.transport import Transport

_SEALED = re.compile(r"sha256:[0-9a-f]{64}")


class MachineList:
    """One ListMachines for all callers within `max_age` seconds, whatever the number of machines and threads."""

    def __init__(self, api: CloudApi, clock: Callable[[], float] = time.monotonic) -> None:
        self._api, self._clock = api, clock
        self._lock = threading.Lock()
        self._taken = self._stale = float("-inf")
        self._machines: dict[str, MachineRecord] = {}
        self._first: dict[str, MachineRecord] | None = None

    def all(self, max_age: float, *, own_writes: bool = True) -> Mapping[str, MachineRecord]:
        """Return all machines by id, at most `max_age` seconds old. Failed and deleted ones are not in it.

        With `own_writes`, the list is also newer than every change that this run has noted by `changed`.
        """
        with self._lock:
            now = self._clock()
            if (own_writes and self._taken <= self._stale) or now - self._taken > max_age:
                self._machines = {each.id: each for each in self._api.list_machines()}
                self._taken = now
                self._first = self._machines if self._first is None else self._first
            return self._machines

    def at_first(self) -> Mapping[str, MachineRecord]:
        """Return all machines as this run first saw them, whatever it has done since.

        This list has what earlier runs have left.
        """
        with self._lock:
            if self._first is not None:
                return self._first
        return self.all(float("inf"))

    def find(self, machine: str, max_age: float, *, own_writes: bool = True) -> MachineRecord | None:
        """Return the machine, also a failed one; None when it is gone.

        A machine that is not in the list costs a separate call.
        """
        found = self.all(max_age, own_writes=own_writes).get(machine)
        if found is None:
            try:
                found = self._api.get_machine(machine)
            except NotFoundError:
                return None
        return found

    def changed(self) -> None:
        """Note a change: earlier lists do not count any more."""
        with self._lock:
            self._stale = self._clock()


class Session:
    """What one provider host shares.

    `deleted` and `adopted` are the ids that this host has deleted, or found as earlier, interrupted attempts.
    """

    def __init__(self, api: CloudApi, sleep: Sleep = engine.sleep) -> None:
        self.api, self.sleep = api, sleep
        self.machines = MachineList(api)
        self.catalogue = Catalogue(api)
        self.deleted: set[str] = set()
        self.adopted: set[str] = set()


_SESSIONS: dict[Credentials, Session] = {}
_LOCK = threading.Lock()


def session_of(settings: Mapping[str, Any], datacenter: str = "") -> Session:
    """Return the one session for these settings and the environment.

    With `datacenter`, the name or URL of another data centre of the same account, it is the session for that. Raises
    ConfigurationError, or NotFoundError naming the existing data centres.
    """
    if "://" in datacenter:
        return _session(Credentials.read(settings=settings, url=datacenter))
    here = Credentials.read(settings=settings)
    if not datacenter:
        return _session(here)
    return _session(here.at(_session(here).catalogue.datacenter(datacenter)))


def _session(credentials: Credentials) -> Session:
    with _LOCK:
        if credentials not in _SESSIONS:
            _SESSIONS[credentials] = Session(CloudApi(Transport(credentials, sleep=engine.sleep)))
        return _SESSIONS[credentials]


_TEXTS: dict[str, str] = {}


def seal(text: str) -> str:
    """Return the fingerprint `sha256:…` of a text. Only this process keeps the text: the state has the hash, never the text.

    The engine always checks a resource before it creates or updates it, in the same provider host. So the code that
    creates the machine finds the text by `opened`. A text that is a fingerprint already stays as it is.
    """
    if _SEALED.fullmatch(text):
        return text
    fingerprint = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    _TEXTS[fingerprint] = text
    return fingerprint


def opened(fingerprint: str) -> str:
    """Return the text of a fingerprint that `seal` made. Raises FatalError when this process never saw it."""
    if fingerprint not in _TEXTS:
        raise FatalError(f"{fingerprint}: this run of the provider does not know its text. Run `pulumi up` again.")
    return _TEXTS[fingerprint]
