"""The first label of a machine's host name. Each registration has another one.

The first registration uses the machine's generation (`1f2e3d.rc.unilans.net`). Every later one adds a random suffix (`1f2e3d-k3x9.rc…`).
Resolvers remember for up to 15 minutes that a name does not exist (RFC 2308), so a name is not used again after its records were removed
(docs/decisions/0012).
"""

from __future__ import annotations

import json
import logging
import random
import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from rollcall.files import write_whole
from rollcall.ownership import Owner

# With four characters and the generation an SRV set of 400 members still fits one batch of Route53.
_SUFFIX_CHARACTERS, _ALPHABET = 4, string.ascii_lowercase + string.digits
_LABEL = re.compile(rf"([0-9a-f]{{6}})(?:-[a-z0-9]{{{_SUFFIX_CHARACTERS}}})?")
log = logging.getLogger("rollcall")


def generation_of(host: str) -> str:
    """Return the generation in the name of a service's host: `GENERATION.rc.DOMAIN`, `GENERATION-SUFFIX.rc.DOMAIN`."""
    label = host.partition(".")[0]
    found = _LABEL.fullmatch(label)
    return found[1] if found else label


def first_host(value: str, generation: str) -> str:
    """Return an SRV value with the host name of the machine's first registration."""
    return re.sub(rf" {generation}-[a-z0-9]{{{_SUFFIX_CHARACTERS}}}\.", f" {generation}.", value)


class HostLabels(Protocol):
    """The labels of this machine's hosts, by the zone's name."""

    def of(self, owner: Owner, domain: str) -> str:
        """Return the label of the last registration; before the first registration, its label."""

    def is_used(self, owner: Owner, domain: str) -> bool:
        """Return whether a registration is known."""

    def use(self, owner: Owner, domain: str) -> None:
        """Remember that `of` is registered."""

    def renew(self, owner: Owner, domain: str) -> None:
        """Use another label from now on."""


class FirstLabels:
    """Labels for callers that never register a machine a second time."""

    def of(self, owner: Owner, domain: str) -> str:
        return owner.generation

    def is_used(self, owner: Owner, domain: str) -> bool:
        return False

    def use(self, owner: Owner, domain: str) -> None:
        pass

    def renew(self, owner: Owner, domain: str) -> None:
        pass


class KeptLabels:
    """Labels in memory and in a file, which must outlive a restart of the machine.

    Without a file, or if it cannot be written, they are in memory only. A label of another generation does not count: it is there, for
    example, if an image was made from a machine.
    """

    def __init__(self, file: Path | None = None, dice: random.Random | None = None) -> None:
        self._file = file
        self._dice = dice or random.SystemRandom()
        self._labels: dict[str, str] = {}
        self._unwritten = False

    def of(self, owner: Owner, domain: str) -> str:
        return self._known(owner, domain) or owner.generation

    def is_used(self, owner: Owner, domain: str) -> bool:
        return bool(self._known(owner, domain))

    def use(self, owner: Owner, domain: str) -> None:
        self._keep(domain, self.of(owner, domain))

    def renew(self, owner: Owner, domain: str) -> None:
        suffix = "".join(self._dice.choices(_ALPHABET, k=_SUFFIX_CHARACTERS))
        self._keep(domain, f"{owner.generation}-{suffix}")

    def _known(self, owner: Owner, domain: str) -> str:
        if self._file and not self._unwritten:
            # `rollcall join` may have written the file while the agent runs.
            self._labels.update(_read(self._file))
        known = self._labels.get(domain, "")
        return known if _LABEL.fullmatch(known) and generation_of(known) == owner.generation else ""

    def _keep(self, domain: str, label: str) -> None:
        if self._labels.get(domain) == label:
            return
        self._labels[domain] = label
        if self._file is None:
            return
        self._unwritten = True
        try:
            write_whole(self._file, json.dumps(self._labels))
            self._unwritten = False
        except OSError as failed:
            log.warning("host label not kept: file=%s error=%s", self._file, failed)


def _read(file: Path) -> dict[str, str]:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, Mapping) else {}
