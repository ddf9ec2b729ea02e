"""The shed as its machines see it: the agent's class for this cloud."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from rollcall.clouds import is_public
from rollcall.errors import FatalError, RollcallError, TransientError


class Shed:
    """Its hypervisor puts a file into each machine that says where its metadata is."""

    name = "shed"

    @classmethod
    def here(cls, root: Path, which: Callable[[str], str | None], url: str) -> Shed | None:
        given = root / "run/shed/metadata"
        return cls(given.read_text().strip()) if given.exists() else None

    def __init__(self, url: str) -> None:
        self._url = url

    def instance(self) -> str:
        return str(self._ask("GET")["id"])

    def addresses(self) -> tuple[str, ...]:
        return tuple(each for each in self._ask("GET")["addresses"] if is_public(each))

    def keys(self) -> dict[str, str]:
        labels = self._ask("GET")["labels"]
        return {key: value for key, value in labels.items() if key.startswith("rollcall-")}

    def secret(self, name: str) -> str:
        secrets = self._ask("GET")["secrets"]
        if name not in secrets:
            raise FatalError(f"reason=no-secret name={name}")
        return str(secrets[name])

    def private_addresses(self) -> tuple[str, ...]:
        return ()

    def region(self) -> str:
        return ""

    def tell(self, status: str) -> None:
        try:
            self._ask("PUT", json={"note": status})
        except RollcallError:
            return

    def report(self, text: str) -> None:
        self._ask("PUT", json={"report": text})

    def report_view(self, text: str) -> None:
        """No machine of the shed is in a VPC."""

    def _ask(self, method: str, **sent: Any) -> dict[str, Any]:
        try:
            reply = requests.request(method, self._url, timeout=5, **sent)
        except requests.RequestException as failed:
            raise TransientError(f"reason=no-metadata error={type(failed).__name__}") from failed
        if not reply.ok:
            raise TransientError(f"reason=no-metadata status={reply.status_code}")
        found: dict[str, Any] = reply.json()
        return found
