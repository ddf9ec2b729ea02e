"""Keep the certificates of this machine's sites up to date, without a run of `up` (docs/certificates.md).

All machines of a site have its private key and its ACME account. When a third of the validity remains, the first machine of the record
set renews the certificate, and writes into DNS where the CA has it. The others download it from there. A certificate is public, so nothing
secret is passed on. If the first machine does not renew it, the second one does, and so on.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import random
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from rollcall.acme_client import (
    Bundle,
    Client,
    Pointer,
    Texts,
    challenge_host,
    checked,
    key_hash,
    pointers,
    publish,
    texts_of,
)
from rollcall.backoff import as_error
from rollcall.clouds import Cloud
from rollcall.errors import FatalError, RollcallError, TransientError
from rollcall.files import write_whole
from rollcall.providers import Secret
from rollcall.settings import Join

HOME = Path("/var/lib/rollcall/certificates")
STEP_S, AGAIN_S = 2.0, 10.0
# Parts of the validity. With 90 days, the first machine renews after 60 days, each further one a day later, and a machine that could not
# renew tries again after four hours: https://letsencrypt.org/docs/integration-guide/#when-to-renew
RENEW_AT, TURN, LAST_TURN, RETRY = 1 / 3, 1 / 90, 15, 1 / 540
# DNS is asked for another machine's certificate once in an hour, or more often if certificates are short-lived.
CHECK_S = 3600.0
_PACKAGE, _SCRIPT, _INSTALL_S = "python3-acme", "/usr/local/lib/rollcall/boot.sh", 900.0
log = logging.getLogger("rollcall")
# Returns the values that name servers answer for a name and a type: those of any server, or those of all.
Ask = Callable[[str, str, str, bool], "frozenset[str]"]


@dataclass(frozen=True, kw_only=True)
class Due:
    """When to look at a host again, and when a renewal may be tried again."""

    check: float = 0.0
    renew: float = 0.0
    word: str = ""


def newest(bundle: Bundle, host: str, home: Path | None = None) -> Bundle:
    """Return the bundle with the certificate that this machine has got since, if that is for the same key and newer."""
    try:
        head, _, chain = ((home or HOME) / f"{host}.pem").read_text().partition("\n")
        key, since, until = head.split()
        found = replace(bundle, chain=chain, since=int(since), until=int(until))
    except (OSError, ValueError):
        return bundle
    return found if key == _mark(bundle) and found.until > bundle.until else bundle


def pem_of(bundle: Bundle) -> str:
    """Return private key and certificate for nginx. The line before them says when the certificate ends (rollcall.health)."""
    return f"until={bundle.until}\n{bundle.key}{bundle.chain}"


def _mark(bundle: Bundle) -> str:
    return hashlib.sha256(bundle.key.encode()).hexdigest()[:16]


class Certificates:
    """The certificates of this machine's sites. `faults` has the reason for each host that waits; `taken` counts new certificates.

    `install` makes the library importable. `texts` are the TXT records at the challenge of a membership.
    """

    def __init__(
        self,
        cloud: Cloud,
        *,
        home: Path | None = None,
        now: Callable[[], float] = time.time,
        ask: Ask | None = None,
        install: Callable[[], None] | None = None,
        texts: Callable[[Join, Secret], Texts] = texts_of,
        client: Callable[[str, str], Client] = Client,
    ) -> None:
        self._cloud, self._home, self._now = cloud, home or HOME, now
        self._ask, self._install, self._texts = ask or answers(), install or _install, texts
        self._client = client
        self._due: dict[str, Due] = {}
        self._behind: set[str] = set()
        self.faults: dict[str, str] = {}
        self.taken = 0

    def step(self, joins: Iterable[Join]) -> None:
        """Do what is due for each site with a certificate. If one fails, it is tried again, and the others still get their turn."""
        secured = [each for each in joins if each.tls_secret]
        for host in self.faults.keys() - {each.name for each in secured}:
            del self.faults[host]
        for each in secured:
            due = self._due.get(each.name, Due())
            if self._now() < due.check and due.word == each.certificate_word:
                continue
            try:
                self._step(each, due)
            except Exception as raised:  # noqa: BLE001 - whatever a CA answers
                self._failed(each, as_error(raised))
            else:
                self.faults.pop(each.name, None)

    def _failed(self, join: Join, fault: RollcallError) -> None:
        due, text = self._due.get(join.name, Due()), f"{fault} certificate={join.name}"
        after = fault.after if isinstance(fault, TransientError) else 0.0
        pause = max(due.check - self._now(), STEP_S * 5)
        self._due[join.name] = replace(due, check=self._now() + max(after, pause), word=join.certificate_word)
        if self.faults.get(join.name) != text:
            log.warning("%s", text)
        self.faults[join.name] = text

    def _step(self, join: Join, due: Due) -> None:
        host = join.name
        given, now = Bundle.parse(self._cloud.secret(join.tls_secret)), self._now()
        if join.certificate_word not in ("", given.word):
            # The store still returns the former one. Nginx must get the present one as soon as it is there.
            self._behind.add(host)
            self._due[host] = replace(due, check=now + AGAIN_S, word=join.certificate_word)
            return
        if host in self._behind:
            self._behind.remove(host)
            self.taken += 1
        bundle = newest(given, host, self._home)
        validity = bundle.until - bundle.since
        pause = min(CHECK_S, validity * RETRY) * random.uniform(0.8, 1.2)  # noqa: S311
        self._due[host] = due = replace(due, check=now + pause, word=join.certificate_word)
        self._install()
        own, found = key_hash(bundle.key), pointers([*self._ask(challenge_host(host), "TXT", join.domain, False)])
        ours = [each for each in found if each.key == own and each.until > bundle.until]
        fault: RollcallError | None = None
        for each in reversed(ours):
            try:
                self._take(join, bundle, self._client(bundle.directory, bundle.account).download(each.path))
            except RollcallError as failed:
                # Who may write into the zone may write any text. It must not prevent a renewal.
                fault = failed
            else:
                return
        if bundle.left(now) < RENEW_AT - TURN * self._rank(join) and now >= due.renew:
            self._due[host] = replace(due, renew=now + validity * RETRY)
            self._renew(join, bundle)
        elif fault is not None:
            raise fault

    def _rank(self, join: Join) -> int:
        """Return how many machines of the record set come before this one."""
        members, own = sorted(self._ask(join.name, "A", join.domain, False)), set(self._cloud.addresses())
        return min(next((at for at, each in enumerate(members) if each in own), len(members)), LAST_TURN)

    def _renew(self, join: Join, bundle: Bundle) -> None:
        texts = self._texts(join, self._cloud.secret)

        def answered(text: str) -> bool:
            shown = self._ask(challenge_host(join.name), "TXT", join.domain, True)
            return text in {each.strip('"') for each in shown}

        client = self._client(bundle.directory, bundle.account)
        chain, path = client.issue(bundle.key, join.name, texts, answered)
        until = self._take(join, bundle, chain).until
        try:
            publish(texts, Pointer(path=path, until=until, key=key_hash(bundle.key)))
        except RollcallError as fault:
            # The other machines then renew it themselves.
            log.warning("certificate not published: host=%s %s", join.name, fault)

    def _take(self, join: Join, bundle: Bundle, chain: str) -> Bundle:
        since, until = checked(chain, bundle.key, join.name)
        if until <= bundle.until:
            raise FatalError(f"reason=another-certificate host={join.name} said='not newer'")
        taken = replace(bundle, chain=chain, since=since, until=until)
        write_whole(self._home / f"{join.name}.pem", f"{_mark(bundle)} {since} {until}\n{chain}", 0o600, lasting=True)
        self.taken += 1
        log.info("certificate taken: host=%s until=%d", join.name, until)
        return taken


def answers() -> Ask:
    """Return a function that asks the name servers of a zone."""
    from rollcall.zoneview import ZoneView

    views: dict[str, ZoneView] = {}

    def ask(name: str, rtype: str, zone: str, everywhere: bool) -> frozenset[str]:
        view = views.setdefault(zone, ZoneView(zone))
        return view.all_of(name, rtype) if everywhere else view.any_of(name, rtype)

    return ask


def _install() -> None:
    """Install the library, once. Raises TransientError."""
    try:
        importlib.import_module("acme.client")
        return
    except ImportError:
        pass
    # Outside of the agent's unit, so it goes on if the agent is restarted.
    words = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", "/bin/sh", _SCRIPT, "need", _PACKAGE]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    except (OSError, subprocess.SubprocessError) as failed:
        raise TransientError(f"reason=package-missing package={_PACKAGE} error={type(failed).__name__}") from failed
    if done.returncode:
        raise TransientError("reason=" + done.stderr.strip().rpartition("reason=")[2][:300])
    importlib.invalidate_caches()
