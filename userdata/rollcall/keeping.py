"""Keep what the settings say of a machine's system, besides what it joins: its system, and the credentials of its workloads."""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Mapping
from typing import Protocol

from rollcall.machine import SCRIPT
from rollcall.settings import MachineSettings

_COMMAND_S = 10.0
log = logging.getLogger("rollcall")


class Agent(Protocol):
    """What the step reads of the agent."""

    @property
    def settings(self) -> MachineSettings | None: ...

    @property
    def workloads(self) -> tuple[str, ...]: ...


class Keeping:
    """The step of each turn of the agent for the system of its machine."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._system: Mapping[str, str] | None = None
        self._credentials: threading.Thread | None = None

    def keep_system(self) -> None:
        """Set the system again if a setting of it has changed. The boot script has applied the first ones."""
        settings = self._agent.settings
        if settings is None:
            return
        if settings.credentials and not (self._credentials and self._credentials.is_alive()):
            # Only on EC2, and Triton machines do not carry the module.
            from rollcall.role_credentials import keep

            self._credentials = threading.Thread(target=keep, args=(lambda: self._agent.workloads,), daemon=True)
            self._credentials.start()
        before, self._system = self._system, settings.system
        if before is not None and before != settings.system:
            log.info("system settings changed: %s", " ".join(sorted(settings.system)) or "none")
            # In a unit of its own, since it may install packages, and the agent may be restarted meanwhile.
            words = ("systemd-run", "--quiet", "--collect", "/bin/sh", SCRIPT, "set_up_system")
            subprocess.run(words, capture_output=True, timeout=_COMMAND_S, check=True)
