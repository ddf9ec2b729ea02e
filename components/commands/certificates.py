"""Say when the certificates of a stack's sites end, for `rollcall status`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from components.registration.inventory import RESOLVERS
from rollcall.acme_client import challenge_host, pointers
from rollcall.zoneview import ZoneView

_TYPE = "pulumi-python:dynamic/rollcall:Certificate"
# The machines renew with a third of the validity left. A tenth left says that they could not.
_LATE = 0.1


@dataclass(frozen=True, kw_only=True)
class CertificateStatus:
    """The newest certificate of a host. `ends` is its last second (ISO 8601, UTC). `fault` is what is wrong with it."""

    host: str
    ends: str
    fault: str = ""

    def __str__(self) -> str:
        return f"{self.host} ends {self.ends}"


def certificates_of(
    resources: Iterable[Mapping[str, Any]], config: Mapping[str, str], now: float | None = None
) -> list[CertificateStatus]:
    """Return the certificates of an exported state. The name servers of a zone say whether machines have a newer one."""
    found, at = [], time.time() if now is None else now
    resolvers = json.loads(config.get(RESOLVERS) or "[]")
    for each in resources:
        if each.get("type") == _TYPE and not each.get("delete"):
            outputs = each["outputs"]
            shown = ZoneView(outputs["domain"], resolvers).any_of(challenge_host(outputs["host"]), "TXT")
            until = int(outputs["until"])
            newest = max((until, *(one.until for one in pointers([*shown]))))
            found.append(_status(str(outputs["host"]), newest, until - int(outputs["since"]), at))
    return sorted(found, key=lambda each: each.host)


def _status(host: str, until: int, validity: int, now: float) -> CertificateStatus:
    ends = datetime.fromtimestamp(until, timezone.utc).isoformat()
    fault = ""
    if until <= now:
        fault = f"the certificate of {host} expired at {ends}"
    elif until - now < validity * _LATE:
        fault = f"the certificate of {host} ends at {ends}, and no machine has renewed it"
    return CertificateStatus(host=host, ends=ends, fault=fault)
