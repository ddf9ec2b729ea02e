"""Sessions of the Triton provider whose waits are short."""

from __future__ import annotations

import time

from components.joyent.client import CloudApi
from components.joyent.session import MachineList, Session

_LONGEST_S = 0.05


class Hurried(Session):
    """A session that waits for a twentieth of a second at most; its list of machines grows old as if it had waited longer."""

    def __init__(self, api: CloudApi) -> None:
        super().__init__(api, self._wait)
        self._ahead = 0.0
        self.machines = MachineList(api, lambda: time.monotonic() + self._ahead)

    def _wait(self, seconds: float) -> None:
        shortened = min(seconds, _LONGEST_S)
        time.sleep(shortened)
        self._ahead += seconds - shortened
