"""The network that the local clouds live in: one Linux network namespace with a bridge for each cloud.

Nothing leads out of it: no interface of it has a peer outside. The daemon reaches it through sockets that were made
inside, since a socket stays in the namespace of the thread that made it (network_namespaces(7)).
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import ipaddress
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

T = TypeVar("T")
Cloud = Literal["aws", "joyent"]
_RUN_NETNS = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
IMDS = "169.254.169.254"
# A kernel may be built, or started, without it; then machines have none.
# Private addresses of VPCs that machines really have, and the router of all such subnets. Other VPCs' private addresses (as those of a
# default VPC, 172.31.0.0/16) are in no namespace: there a machine has its public address on its interface.
VPC_SIDE, VPC_ROUTER = "192.0.2.0/24", "192.0.2.1"
HAS_IPV6 = Path("/proc/sys/net/ipv6").exists()


class NamespaceError(Exception):
    """The namespace could not be made or entered; the message names the command or call that failed."""


@dataclass(frozen=True, kw_only=True)
class CloudNetwork:
    """One cloud's network.

    `bridge` is the name of its interface. The gateway is also the resolver, and serves the APIs under their real names. The other addresses
    are: `edge` of the Cloudflare edge, `visitor` of requests on behalf of the host, `name_servers` of the zones' own name servers. `ipv6`
    is the prefix and the gateway's address, if machines have IPv6.
    """

    bridge: Cloud
    prefix: str
    gateway: str
    edge: str
    visitor: str
    name_servers: tuple[str, ...]
    more: tuple[str, ...] = ()
    ipv6: tuple[str, str] = ("", "")

    @property
    def addresses(self) -> tuple[str, ...]:
        """All addresses of the bridge itself, with their prefix lengths; the gateway, first, is the default source."""
        length = self.prefix.partition("/")[2]
        own = (self.gateway, self.edge, self.visitor, *self.name_servers)
        return (*(f"{address}/{length}" for address in own), *self.more)


NETWORKS: dict[Cloud, CloudNetwork] = {
    "aws": CloudNetwork(
        bridge="aws",
        prefix="198.51.100.0/24",
        gateway="198.51.100.1",
        edge="198.51.100.2",
        visitor="198.51.100.3",
        name_servers=("198.51.100.4", "198.51.100.5"),
        more=(f"{IMDS}/32", f"{VPC_ROUTER}/24"),
        ipv6=("2001:db8:1::/48", "2001:db8:1::1"),
    ),
    "joyent": CloudNetwork(
        bridge="joyent",
        prefix="203.0.113.0/24",
        gateway="203.0.113.1",
        edge="203.0.113.2",
        visitor="203.0.113.3",
        name_servers=("203.0.113.4", "203.0.113.5"),
    ),
}

# The fabric of the Triton account: a network of its own, a part of the documentation range that no public network gives. Its router
# translates what leaves it (`internet_nat` of CloudAPI's fabric networks), and lets nobody in.
FABRIC, FABRIC_SIDE, FABRIC_ROUTER = "fabric", "203.0.113.224/27", "203.0.113.225"

# Triton has nothing at EC2's metadata address. A machine there must get an error at once, without a timeout.
_RULES = f"""
table inet rollcall {{
  chain input {{ type filter hook input priority 0;
    iifname {{ "joyent", "{FABRIC}" }} ip daddr {IMDS} reject with icmp host-unreachable; }}
  chain forward {{ type filter hook forward priority 0; iifname != "{FABRIC}" oifname "{FABRIC}" ct state new drop; }}
  chain output {{ type filter hook output priority 0; oifname "{FABRIC}" ct state new drop; }}
  chain translate_out {{ type nat hook postrouting priority 100;
    iifname "{FABRIC}" oifname != "{FABRIC}" ip saddr {FABRIC_SIDE} masquerade; }}
}}
"""
_FAULTS = "rollcall_faults"


def name_for(checkout: Path, instance: str) -> str:
    """The namespace of one instance (`local`, `test`, …) of one checkout; two checkouts never share one."""
    return f"rc-{hashlib.sha1(str(checkout.resolve()).encode()).hexdigest()[:6]}-{instance}"  # noqa: S324 - no secret


def hardware_address(address: str) -> str:
    """Return the Ethernet address for an IPv4 address. A machine that takes an address over is then reached at once."""
    return ":".join(["02", "00", *(f"{int(octet):02x}" for octet in address.split("."))])


def is_on_the_wire(network: str) -> bool:
    """Return whether machines really have the private addresses of this network."""
    found = ipaddress.ip_network(network, strict=False)
    return found.version == 4 and found.subnet_of(ipaddress.IPv4Network(VPC_SIDE))


class Namespace:
    """A network namespace by name. Takes root; every method raises NamespaceError when the kernel refuses."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = _RUN_NETNS / name

    @property
    def exists(self) -> bool:
        return self.path.exists()

    def create(self) -> None:
        """Make it with its bridges, addresses and forwarding; one that a killed run left under this name is replaced."""
        self.destroy()
        _ip("netns", "add", self.name)
        try:
            self.run(_switch_on_ipv6)
            self._ip("link", "set", "lo", "up")
            for network in NETWORKS.values():
                self._add_bridge(network)
            self._add_fabric()
            self.run(_forward)
            self._nft(_RULES)
        except BaseException:
            self.destroy()
            raise

    def destroy(self) -> None:
        """Remove it if it is there. What still runs in it keeps it alive, nameless, until it ends."""
        if self.exists:
            _ip("netns", "del", self.name)

    def run(self, action: Callable[[], T]) -> T:
        """What `action()` returns or raises, run in a thread that is in the namespace; the caller's thread stays out."""
        results: list[T] = []
        errors: list[BaseException] = []

        def inside() -> None:
            try:
                self._enter()
                results.append(action())
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                errors.append(error)

        # Use a new thread each time: a thread that has entered the namespace must not run other work.
        thread = threading.Thread(target=inside, name=f"in {self.name}", daemon=True)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def listen(self, address: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        """A bound socket inside the namespace, listening if it is a stream; any thread may use it."""

        def make() -> socket.socket:
            listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((address, port))
                if kind == socket.SOCK_STREAM:
                    listener.listen(128)
            except BaseException:
                listener.close()
                raise
            return listener

        return self.run(make)

    def connect(self, address: tuple[str, int], source: str | None = None, timeout: float = 10.0) -> socket.socket:
        """A TCP connection made inside the namespace, from `source` if one is named."""
        origin = (source, 0) if source else None
        return self.run(lambda: socket.create_connection(address, timeout, source_address=origin))

    def partition(self) -> None:
        """Cut the clouds off from each other; each still reaches the APIs and DNS."""
        aws, joyent = (_bridges(cloud) for cloud in ("aws", "joyent"))
        self._set_faults(f"""
  chain forward {{ type filter hook forward priority 0;
    iifname {aws} oifname {joyent} drop; iifname {joyent} oifname {aws} drop; }}""")

    def isolate(self, cloud: Cloud) -> None:
        """Cut one cloud's machines off from everything: the other cloud, the APIs, DNS, the edge and visitors."""
        bridges = _bridges(cloud)
        self._set_faults(f"""
  chain input {{ type filter hook input priority 0; iifname {bridges} drop; }}
  chain output {{ type filter hook output priority 0; oifname {bridges} drop; }}
  chain forward {{ type filter hook forward priority 0; iifname {bridges} drop; oifname {bridges} drop; }}""")

    def heal(self) -> None:
        """Undo partition() and isolate()."""
        self._set_faults("")

    def plug(self, interface: str, plugged: bool) -> None:
        """Plug a machine's port of its bridge in or out, as its cable; one that is not there is no error. The interface stays
        up: taking it down would flush what the machine knows of its network."""
        with contextlib.suppress(NamespaceError):
            _command(["bridge", "-n", self.name, "link", "set", "dev", interface, "state", "3" if plugged else "0"])

    def pull(self, interface: str) -> None:
        """Remove a machine's port, if it exists.

        The kernel removes a killed machine's network only some time later. Until then its successor's port could not have the same name.
        """
        with contextlib.suppress(NamespaceError):
            self._ip("link", "delete", "dev", interface)

    def add_address(self, cloud: Cloud, address: str) -> None:
        """Give a cloud's bridge an address, so that it answers for it; one that it has already is no error."""
        self._ip("address", "replace", f"{address}/32", "dev", NETWORKS[cloud].bridge)

    def remove_address(self, cloud: Cloud, address: str) -> None:
        """Take an address from a cloud's bridge; one that it does not have is no error."""
        with contextlib.suppress(NamespaceError):
            self._ip("address", "delete", f"{address}/32", "dev", NETWORKS[cloud].bridge)

    def filter(self, name: str, table: str) -> None:
        """Replace the table of that name by `table` (the text of `table inet NAME`, or nothing), in one transaction."""
        # The first line makes the table if there is none, so that the second can remove it.
        self._nft(f"table inet {name} {{}}\ndelete table inet {name}\n{table}")

    def see_bridged_packets(self) -> None:
        """Have the rules see what goes from machine to machine on one bridge, too (the kernel's br_netfilter)."""

        def switch_on() -> None:
            for each in ("iptables", "ip6tables"):
                Path(f"/proc/sys/net/bridge/bridge-nf-call-{each}").write_text("1\n")

        try:
            self.run(switch_on)
        except FileNotFoundError:
            _command(["modprobe", "br_netfilter"])
            self.run(switch_on)

    def _set_faults(self, chains: str) -> None:
        self.filter(_FAULTS, f"table inet {_FAULTS} {{{chains}\n}}\n" if chains else "")

    def _add_bridge(self, network: CloudNetwork) -> None:
        # A bridge that waits before it forwards (15 s of spanning tree) would make each machine's first packets vanish.
        # Without a hardware address of its own it takes its lowest port's, so that every machine's neighbour entry for
        # the gateway would go stale whenever another machine comes or goes.
        ethernet = hardware_address(network.gateway)
        self._ip(
            "link", "add", network.bridge, "address", ethernet, "type", "bridge", "forward_delay", "0", "stp_state", "0"
        )
        for address in network.addresses:
            self._ip("address", "add", address, "dev", network.bridge)
        prefix, gateway = network.ipv6
        if gateway and HAS_IPV6:
            self._ip("address", "add", f"{gateway}/{prefix.partition('/')[2]}", "dev", network.bridge, "nodad")
        self._ip("link", "set", network.bridge, "up")

    def _add_fabric(self) -> None:
        ethernet = hardware_address(FABRIC_ROUTER)
        self._ip("link", "add", FABRIC, "address", ethernet, "type", "bridge", "forward_delay", "0", "stp_state", "0")
        self._ip("address", "add", f"{FABRIC_ROUTER}/{FABRIC_SIDE.partition('/')[2]}", "dev", FABRIC)
        self._ip("link", "set", FABRIC, "up")

    def plug_into_fabric(self, interface: str) -> None:
        """Make an interface a port of the fabric's bridge. Raises NamespaceError while there is no such interface."""
        self._ip("link", "set", "dev", interface, "master", FABRIC, "up")

    def _enter(self) -> None:
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise NamespaceError(f"namespace {self.name}: does not exist ({error.strerror}). Run `make up`.") from error
        try:
            # os.setns came with Python 3.12.
            if ctypes.CDLL(None, use_errno=True).setns(handle, _CLONE_NEWNET) != 0:
                number = ctypes.get_errno()
                raise NamespaceError(
                    f"namespace {self.name}: cannot be entered ({os.strerror(number)}). Run it as root."
                )
        finally:
            os.close(handle)

    def _ip(self, *arguments: str) -> None:
        _ip("-n", self.name, *arguments)

    def _nft(self, rules: str) -> None:
        _command(["nsenter", f"--net={self.path}", "nft", "-f", "-"], rules)


def _bridges(cloud: Cloud) -> str:
    """Return a cloud's bridges as a set of nftables."""
    return '{ "aws" }' if cloud == "aws" else f'{{ "joyent", "{FABRIC}" }}'


def _forward() -> None:
    """Switch on forwarding, so that the clouds reach each other. /proc/sys/net is that of the thread that opens it."""
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1\n")
    Path("/proc/sys/net/ipv4/conf/all/send_redirects").write_text("0\n")


def _switch_on_ipv6() -> None:
    """Switch on IPv6. A new namespace has the host's setting, which may be off."""
    for each in ("all", "default") if HAS_IPV6 else ():
        Path(f"/proc/sys/net/ipv6/conf/{each}/disable_ipv6").write_text("0\n")


def _ip(*arguments: str) -> None:
    _command(["ip", *arguments])


def _command(command: list[str], stdin: str = "") -> None:
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise NamespaceError(
            f"{command[0]}: is not installed. Install the Debian packages iproute2, nftables and util-linux."
        ) from error
    if done.returncode != 0:
        raise NamespaceError(
            f"{' '.join(command)}: failed ({done.stderr.strip() or done.returncode}). Check that it runs as root."
        )
