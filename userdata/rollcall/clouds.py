"""The clouds, as a machine asks them about itself. Each cloud is one small class; another cloud is one more class in CLOUDS.

All of them answer the same questions: the instance's id, its public and its private addresses, its settings (`rollcall-*` tags or
metadata), a secret by name, and the AWS region if there is one. And all of them take the machine's status and its report.
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from rollcall import mdata
from rollcall.aws import AwsClient, AwsRefusedError, InstanceRole
from rollcall.bucket import Bucket
from rollcall.errors import FatalError, RollcallError, TransientError
from rollcall.imds import IMDS, InstanceMetadata
from rollcall.in_place import CARRIED, REPORT, REPORT_TO, VIEW_TO, report_key
from rollcall.settings import STATUS, STORE

_SECRET_WITHIN_S = 30.0
# RFC 1918, RFC 6598, loopback, link-local and unique local addresses. `is_private` would refuse documentation addresses too.
_LOCAL = "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 ::1/128 fc00::/7 fe80::/10"
_NOT_PUBLIC = [ipaddress.ip_network(each) for each in _LOCAL.split()]


class Cloud(Protocol):
    """The cloud of this machine. Every method raises TransientError while the cloud does not answer, and FatalError if it refuses."""

    name: str

    def instance(self) -> str:
        """Return the cloud's id of this machine."""

    def addresses(self) -> tuple[str, ...]:
        """Return the machine's public addresses, IPv4 first; empty if it has none."""

    def private_addresses(self) -> tuple[str, ...]:
        """Return the addresses for record sets with private addresses, IPv4 first; empty if the machine has none.

        An IPv6 address is the same in both kinds of record set.
        """

    def keys(self) -> dict[str, str]:
        """Read the machine's settings (the `rollcall-*` keys) again and return them."""

    def secret(self, name: str) -> str:
        """Return the value of a secret. Callers never log it."""

    def region(self) -> str:
        """Return the AWS region, or an empty text."""

    def tell(self, status: str) -> None:
        """Write one line where the operator can see it, if this cloud has such a place. Never raises."""

    def report(self, text: str) -> None:
        """Write the report of the releases in place (rollcall.in_place) where the program reads it."""

    def report_view(self, text: str) -> None:
        """Write what the resolvers of this machine answer (rollcall.resolver_view) where the program reads it."""


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_public(address: str) -> bool:
    return is_address(address) and not any(ipaddress.ip_address(address) in net for net in _NOT_PUBLIC)


class Ec2:
    """EC2: instance metadata, version 2 only, and SSM by the instance role.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-metadata.html
    """

    name = "aws"

    @classmethod
    def here(cls, root: Path, which: Callable[[str], str | None], url: str) -> Ec2 | None:
        return cls(url)

    def __init__(self, url: str = IMDS) -> None:
        self._url = url
        self._metadata = InstanceMetadata(url)
        self._meta = self._metadata.get

    def instance(self) -> str:
        return self._meta("instance-id")

    def addresses(self) -> tuple[str, ...]:
        found = [self._meta("public-ipv4", missing=""), *self._meta("ipv6", missing="").split()]
        return tuple(each for each in found if is_public(each))

    def private_addresses(self) -> tuple[str, ...]:
        """Return the private IPv4 address of the primary interface. IPv6 addresses of a VPC are unique everywhere.

        https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-categories.html (local-ipv4, ipv6)
        """
        return tuple(filter(None, [self._meta("local-ipv4", missing=""), *self._meta("ipv6", missing="").split()]))

    def keys(self) -> dict[str, str]:
        names = self._meta("tags/instance", missing="").split()
        return {name: self._meta(f"tags/instance/{name}", missing="") for name in names if name.startswith("rollcall-")}

    def region(self) -> str:
        return self._meta("placement/region")

    def secret(self, name: str) -> str:
        """Return the value of an SSM parameter.

        https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameter.html
        """
        region, domain = self.region(), self._meta("services/domain", missing="amazonaws.com")
        url = os.environ.get("AWS_ENDPOINT_URL") or f"https://ssm.{region}.{domain}"
        client = AwsClient("ssm", region, InstanceRole(self._metadata), url, _SECRET_WITHIN_S)
        request = json.dumps({"Name": name, "WithDecryption": True}).encode()
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "AmazonSSM.GetParameter"}
        try:
            return str(json.loads(client.call("POST", "/", body=request, headers=headers))["Parameter"]["Value"])
        except (RollcallError, KeyError, TypeError, ValueError) as failed:
            problem = str(failed) if isinstance(failed, RollcallError) else f"garbled reply: {type(failed).__name__}"
            raise TransientError(f"reason=no-secret parameter={name} said={problem[:200]!r}") from failed
        finally:
            client.close()

    def tell(self, status: str) -> None:
        # An instance may not tag itself, but EC2 shows its console.
        print(f"rollcall: {status}", flush=True)

    def report(self, text: str) -> None:
        """Write the report to the stack's bucket, in which the instance role may write only the machine's reports and claims."""
        self._put(REPORT_TO, text)

    def report_view(self, text: str) -> None:
        self._put(VIEW_TO, text)

    def _put(self, setting: str, text: str) -> None:
        """Write this machine's object at the beginning of a key that a setting has."""
        store, to = (self._meta(f"tags/instance/{name}", missing="") for name in (STORE, setting))
        headers = {"Content-Type": "application/json"}
        try:
            Bucket(store, metadata=self._url).call("PUT", report_key(to, self.instance()), text.encode(), headers)
        except AwsRefusedError as refused:
            raise TransientError(f"reason=report-refused {refused}") from refused


class Joyent:
    """The metadata of a Triton machine, by the guest tools `mdata-get`, `mdata-list` and `mdata-put`, or over `socket` if there is one.

    https://docs.tritondatacenter.com/private-cloud/instances/using-mdata
    """

    name = "joyent"

    def __init__(self, socket: Path | None = None) -> None:
        self._socket = socket

    @classmethod
    def here(cls, root: Path, which: Callable[[str], str | None], url: str) -> Joyent | None:
        """Return this cloud if the machine has the guest tools and their socket, or a serial line on which the host answers."""
        if not which("mdata-get"):
            return None
        # In a zone of Linux the host's files are below /native.
        for folder in (root / "native", root):
            if (path := folder / ".zonecontrol/metadata.sock").exists():
                return cls(path)
        serial = (root / "dev/ttyS1").exists() and mdata.run_tool(("mdata-get", "sdc:uuid")).returncode == 0
        return cls() if serial else None

    def instance(self) -> str:
        return self._get("sdc:uuid")

    def addresses(self) -> tuple[str, ...]:
        # The primary NIC is on the machine's first public network, at any position in the list: lib/machines.js of sdc-cloudapi.
        nics = sorted(self._nics(), key=lambda nic: not nic.get("primary"))
        found = [each for nic in nics if not _on_fabric(nic) for each in _addresses(nic) if is_public(each)]
        return tuple(sorted(dict.fromkeys(found), key=lambda each: ":" in each))

    def private_addresses(self) -> tuple[str, ...]:
        """Return the addresses on fabrics and other private networks, in the order of the NICs, which is that of `networks`."""
        found = [each for nic in self._nics() for each in _addresses(nic) if _on_fabric(nic) or not is_public(each)]
        return tuple(sorted(dict.fromkeys(found), key=lambda each: ":" in each))

    def _nics(self) -> list[dict[str, Any]]:
        return list(json.loads(self._get("sdc:nics")))

    def keys(self) -> dict[str, str]:
        with self._metadata() as ask:
            return {name: ask("mdata-get", name) for name in ask("mdata-list").split() if _is_setting(name)}

    def region(self) -> str:
        return ""

    def secret(self, name: str) -> str:
        return self._get(name)

    def tell(self, status: str) -> None:
        try:
            with self._metadata() as ask:
                ask("mdata-put", STATUS, status)
        except RollcallError:
            return

    def report(self, text: str) -> None:
        with self._metadata() as ask:
            ask("mdata-put", REPORT, text)

    def report_view(self, text: str) -> None:
        """Do nothing: no machine of this cloud is in a VPC."""

    def _get(self, key: str) -> str:
        with self._metadata() as ask:
            return ask("mdata-get", key)

    def _metadata(self) -> AbstractContextManager[mdata.Ask]:
        return mdata.socket_at(self._socket) if self._socket else nullcontext(mdata.ask_tool)


def _addresses(nic: dict[str, Any]) -> list[str]:
    """Return the addresses of a NIC of Triton, without the words that stand for one (`dhcp`, `addrconf`)."""
    found = [each.partition("/")[0] for each in (nic.get("ips") or [nic.get("ip", "")])]
    return [each for each in found if is_address(each)]


def _on_fabric(nic: dict[str, Any]) -> bool:
    """Return whether a NIC is on a fabric, which is an overlay with a tag of its own, whatever its addresses are.

    https://github.com/canonical/cloud-init/blob/main/tests/unittests/sources/test_smartos.py (SDC_NICS)
    """
    return str(nic.get("nic_tag", "")).startswith("sdc_overlay/")


def _is_setting(key: str) -> bool:
    """Return whether a key of a Triton machine is a setting. The agent itself writes two others, and a release is large."""
    return key.startswith("rollcall-") and key not in (STATUS, REPORT) and not key.startswith(CARRIED)


class File:
    """A settings file on a machine that Rollcall did not make: `{"keys": {…}, "secrets": {…}}`.

    The file may also have `instance`, `addresses` and `region`. Otherwise they come from the cloud on which the machine runs.
    """

    def __init__(self, path: Path, under: Cloud | None = None) -> None:
        self._path = path
        self._under = under
        self.name = under.name if under else "file"

    def instance(self) -> str:
        return str(self._read("instance"))

    def addresses(self) -> tuple[str, ...]:
        return tuple(self._read("addresses"))

    def private_addresses(self) -> tuple[str, ...]:
        found = self._all().get("private_addresses")
        if found is None and self._under is not None:
            return self._under.private_addresses()
        return tuple(found or ())

    def keys(self) -> dict[str, str]:
        return {str(key): str(value) for key, value in self._read("keys").items()}

    def region(self) -> str:
        return str(self._all().get("region") or (self._under.region() if self._under else ""))

    def secret(self, name: str) -> str:
        secrets = self._all().get("secrets", {})
        if name in secrets:
            return str(secrets[name])
        if self._under is None:
            raise FatalError(f"reason=no-secret name={name} file={self._path}")
        return self._under.secret(name)

    def tell(self, status: str) -> None:
        if self._under is not None:
            self._under.tell(status)

    def report(self, text: str) -> None:
        if self._under is not None:
            self._under.report(text)

    def report_view(self, text: str) -> None:
        if self._under is not None:
            self._under.report_view(text)

    def _read(self, key: str) -> Any:
        found = self._all()
        if key in found:
            return found[key]
        if self._under is None:
            raise FatalError(f"reason=no-{key} file={self._path}")
        return getattr(self._under, key)()

    def _all(self) -> dict[str, Any]:
        try:
            found = json.loads(self._path.read_text())
        except (OSError, ValueError) as unread:
            raise FatalError(f"reason=unreadable-settings file={self._path} error={type(unread).__name__}") from unread
        return found if isinstance(found, dict) else {}


def detect(root: Path = Path("/"), which: Callable[[str], str | None] = shutil.which, url: str = IMDS) -> Cloud:
    """Return the cloud of this machine: a settings file if there is one, otherwise the first of CLOUDS that recognizes the machine."""
    settings = root / "etc/rollcall.json"
    if settings.exists() and "instance" in File(settings)._all():
        return File(settings)
    under = next(cloud for kind in CLOUDS if (cloud := kind.here(root, which, url)))
    return File(settings, under) if settings.exists() else under


# The classes in the order in which they are asked whether this machine is on their cloud. EC2 is the last, since it accepts any machine.
CLOUDS = (Joyent, Ec2)
