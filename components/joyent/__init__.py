"""Joyent/Triton for Pulumi programs in Python: a client of CloudAPI and dynamic resources over it.

The resources need pulumi, the client does not, so everything here is loaded when it is first asked for.
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
    from components.joyent.machine import Machine as Machine
    from components.joyent.machine import MachineArgs as MachineArgs
    from components.joyent.ready import Ready as Ready
    from components.joyent.ready import ReadyArgs as ReadyArgs

_HOMES = {
    "client": ("CloudApi",),
    "errors": ("CloudApiError", "FatalError", "NotFoundError", "TransientError"),
    "machine": ("Machine", "MachineArgs"),
    "ready": ("Ready", "ReadyArgs"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def from_settings(*, url: str = "", account: str = "", key_id: str = "", **others: Any) -> CloudApi:
    """A client by the environment first and these values second (`others`: user, keyFile, keyMaterial, …)."""
    from components.joyent.client import CloudApi

    return CloudApi.from_settings({"url": url, "account": account, "keyId": key_id, **others})


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
