"""Call CloudAPI, the API of a Triton data centre. The module does not depend on Pulumi.

Every call raises an error of `components.joyent.errors` and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from components.joyent.credentials import Credentials
from components.joyent.errors import CloudApiError, LostReplyError, NotFoundError, TransientError
from components.joyent.records import ImageRecord, MachineRecord, NetworkRecord, PackageRecord, TagValue
from components.joyent.transport import Query, Transport

PAGE = 1000


class CloudApi:
    """One account in one data centre. Threads may share it; all its calls share one rate limiter."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> CloudApi:
        """Make a client from `TRITON_…`, or else `SDC_…`. Raises ConfigurationError naming what is not set."""
        return cls(Transport(Credentials.read(environ), environ=environ))

    @classmethod
    def from_settings(
        cls, settings: Mapping[str, Any] | None = None, environ: Mapping[str, str] = os.environ
    ) -> CloudApi:
        """Make a client from the environment first and `settings` second. Raises ConfigurationError naming what is not set.

        `settings` are `url`, `account`, `user`, `keyId`, `keyFile`, `keyMaterial`, `keyPassphrase`, `insecure`.
        """
        return cls(Transport(Credentials.read(environ, settings), environ=environ))

    # Machines

    def list_machines(
        self, *, name: str | None = None, tags: Mapping[str, TagValue] | None = None, tombstone: bool = False
    ) -> list[MachineRecord]:
        """Return every machine that is not deleted and has not failed; with `tombstone` those too.

        Paging by offset does not give a consistent list, so a machine that moved between pages is returned once. Lists
        do not contain `dns_names`.
        """
        query = [("name", name)] if name is not None else []
        query += [(f"tag.{key}", _text(value)) for key, value in (tags or {}).items()]
        query += [("tombstone", "true")] if tombstone else []
        with _understood("ListMachines"):
            return list({each["id"]: MachineRecord.of(each) for each in self._pages("/machines", query)}.values())

    def get_machine(self, machine: str) -> MachineRecord:
        """Return a machine. Raises NotFoundError also for one that was deleted (410)."""
        with _understood("GetMachine"):
            return MachineRecord.of(self._get(f"/machines/{machine}"))

    def create_machine(self, fields: Mapping[str, Any]) -> MachineRecord:
        """Create a machine. `fields` are as CreateMachine takes them: flat `metadata.K` and `tag.K`.

        The request is not repeated. After a LostReplyError, search for the machine by its name before you ask again.
        """
        with _understood("CreateMachine", LostReplyError):
            return MachineRecord.of(self.transport.send("POST", "/machines", body=fields).body)

    def act(self, machine: str, action: str, **values: Any) -> None:
        """Request an action: start, stop, reboot, rename, resize, enable_firewall, …

        CloudAPI accepts it before it is done: wait for the field or state.
        """
        self.transport.send(
            "POST", f"/machines/{machine}", body={"action": action, **values}, idempotent=action != "reboot"
        )

    def delete_machine(self, machine: str) -> None:
        """Delete a machine, which is a power cut. CloudAPI accepts it before it is done: wait for 404 or 410."""
        self.transport.send("DELETE", f"/machines/{machine}")

    def audit(self, machine: str) -> list[Mapping[str, Any]]:
        """Return finished jobs, newest first: `{action, success: "yes"|"no", time, …}`."""
        return list(self._get(f"/machines/{machine}/audit"))

    def get_tags(self, machine: str) -> dict[str, TagValue]:
        return dict(self._get(f"/machines/{machine}/tags"))

    def merge_tags(self, machine: str, tags: Mapping[str, TagValue]) -> None:
        """Set these tags and leave all others. The reply is a guess, not what is stored, so nothing is returned."""
        self.transport.send("POST", f"/machines/{machine}/tags", body=dict(tags), idempotent=True)

    def delete_tag(self, machine: str, key: str) -> None:
        self.transport.send("DELETE", f"/machines/{machine}/tags/{_part(key)}")

    def get_metadata(self, machine: str) -> dict[str, str]:
        return dict(self._get(f"/machines/{machine}/metadata"))

    def merge_metadata(self, machine: str, metadata: Mapping[str, str]) -> None:
        """Set these keys and leave all others."""
        self.transport.send("POST", f"/machines/{machine}/metadata", body=dict(metadata), idempotent=True)

    def delete_metadata(self, machine: str, key: str) -> None:
        self.transport.send("DELETE", f"/machines/{machine}/metadata/{_part(key)}")

    def list_nics(self, machine: str) -> list[Mapping[str, Any]]:
        return list(self._get(f"/machines/{machine}/nics"))

    def add_nic(self, machine: str, network: str | Mapping[str, Any]) -> Mapping[str, Any]:
        """Add a NIC, which reboots the machine. `network` is its id, or an object `{ipv4_uuid, ipv4_ips: [one]}`.

        The request is not repeated: CloudAPI would refuse a second NIC on the same network, or make it.
        """
        body: Mapping[str, Any] = self.transport.send(
            "POST", f"/machines/{machine}/nics", body={"network": network}
        ).body
        return body

    def get_nic(self, machine: str, mac: str) -> Mapping[str, Any]:
        body: Mapping[str, Any] = self._get(f"/machines/{machine}/nics/{mac.replace(':', '')}")
        return body

    def remove_nic(self, machine: str, mac: str) -> None:
        """Remove a NIC, which reboots the machine."""
        self.transport.send("DELETE", f"/machines/{machine}/nics/{mac.replace(':', '')}")

    # Catalogue and account

    def list_images(self, *, state: str = "active") -> list[ImageRecord]:
        with _understood("ListImages"):
            return [ImageRecord.of(each) for each in self._get("/images", [("state", state)])]

    def list_packages(self) -> list[PackageRecord]:
        with _understood("ListPackages"):
            return [PackageRecord.of(each) for each in self._get("/packages")]

    def list_networks(self) -> list[NetworkRecord]:
        with _understood("ListNetworks"):
            return [NetworkRecord.of(each) for each in self._get("/networks")]

    def list_datacenters(self) -> dict[str, str]:
        return dict(self._get("/datacenters"))

    def get_account(self) -> Mapping[str, Any]:
        body: Mapping[str, Any] = self._get("")
        return body

    def get_limits(self) -> list[Mapping[str, Any]]:
        """Return the account's limits and use, where Triton's operator has the plugin for it (CloudAPI 9.8); else nothing."""
        try:
            found: list[Mapping[str, Any]] = self._get("/limits")
        except NotFoundError:
            return []
        return found

    # Everything else has one path each

    def get(self, path: str, query: Query = ()) -> Any:
        return self._get(path, query)

    def post(self, path: str, body: Mapping[str, Any], *, idempotent: bool = False) -> Any:
        return self.transport.send("POST", path, body=body, idempotent=idempotent).body

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        return self.transport.send("PUT", path, body=body).body

    def delete(self, path: str) -> None:
        self.transport.send("DELETE", path)

    def _get(self, path: str, query: Query = ()) -> Any:
        return self.transport.send("GET", path, query=query).body

    def _pages(self, path: str, query: Sequence[tuple[str, str]]) -> Iterator[Mapping[str, Any]]:
        offset = 0
        while True:
            page = self._get(path, [*query, ("limit", str(PAGE)), ("offset", str(offset))])
            yield from page
            # X-Resource-Count is the number of rows in this page, not the total: a short page is the last.
            if len(page) < PAGE:
                return
            offset += PAGE


@contextmanager
def _understood(call: str, kind: type[CloudApiError] = TransientError) -> Iterator[None]:
    """Turn a reply that differs from the API's reference (a proxy's page, a wrong version) into an error like any other.

    The request may have created something all the same.
    """
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as garbled:
        raise kind(
            f"{call}: the reply is not what CloudAPI's reference says ({garbled!r}). Check TRITON_URL, or try again."
        ) from garbled


def _text(value: TagValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _part(key: str) -> str:
    return quote(key, safe="")
