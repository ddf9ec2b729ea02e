"""Joyent/Triton for Pulumi programs in Python: a client of CloudAPI and dynamic resources over it.

The resources need pulumi, the client does not, so each module is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from components.joyent.client import CloudApi as CloudApi
    from components.joyent.errors import CloudApiError as CloudApiError
    from components.joyent.errors import FatalError as FatalError
    from components.joyent.errors import NotFoundError as NotFoundError
    from components.joyent.errors import TransientError as TransientError
    from components.joyent.fabric import FabricNetwork as FabricNetwork
    from components.joyent.fabric import FabricNetworkArgs as FabricNetworkArgs
    from components.joyent.fabric import Vlan as Vlan
    from components.joyent.fabric import VlanArgs as VlanArgs
    from components.joyent.firewall import FirewallRule as FirewallRule
    from components.joyent.firewall import FirewallRuleArgs as FirewallRuleArgs
    from components.joyent.image import Image as Image
    from components.joyent.image import ImageArgs as ImageArgs
    from components.joyent.key import Key as Key
    from components.joyent.key import KeyArgs as KeyArgs
    from components.joyent.lookups import get_account as get_account
    from components.joyent.lookups import get_datacenter as get_datacenter
    from components.joyent.lookups import get_image as get_image
    from components.joyent.lookups import get_network as get_network
    from components.joyent.lookups import get_package as get_package
    from components.joyent.machine import Machine as Machine
    from components.joyent.machine import MachineArgs as MachineArgs
    from components.joyent.ready import Ready as Ready
    from components.joyent.ready import ReadyArgs as ReadyArgs
    from components.joyent.snapshot import Snapshot as Snapshot
    from components.joyent.snapshot import SnapshotArgs as SnapshotArgs

_HOMES = {
    "client": ("CloudApi",),
    "errors": (
        "CloudApiError",
        "FatalError",
        "NotFoundError",
        "TransientError",
    ),
    "fabric": (
        "FabricNetwork",
        "FabricNetworkArgs",
        "Vlan",
        "VlanArgs",
    ),
    "firewall": (
        "FirewallRule",
        "FirewallRuleArgs",
    ),
    "image": (
        "Image",
        "ImageArgs",
    ),
    "key": (
        "Key",
        "KeyArgs",
    ),
    "lookups": (
        "get_account",
        "get_datacenter",
        "get_image",
        "get_network",
        "get_package",
    ),
    "machine": (
        "Machine",
        "MachineArgs",
    ),
    "ready": (
        "Ready",
        "ReadyArgs",
    ),
    "snapshot": (
        "Snapshot",
        "SnapshotArgs",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def from_settings(*, url: str = "", account: str = "", key_id: str = "", **others: Any) -> CloudApi:
    """Make a client from the environment first and these values second (`others`: user, keyFile, keyMaterial, …)."""
    from components.joyent.client import CloudApi

    return CloudApi.from_settings({"url": url, "account": account, "keyId": key_id, **others})


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
