"""Sessions of the Triton provider with short waits."""

from __future__ import annotations

import time

from components.joyent.client import CloudApi
from components.joyent.session import MachineList, Session


class Hurried(Session):
    """A session that waits for `longest` seconds at most; its list of machines grows old as if it had waited longer."""

    def __init__(self, api: CloudApi, longest: float = 0.05) -> None:
        super().__init__(api, self._wait)
        self._longest, self._ahead = longest, 0.0
        self.machines = MachineList(api, lambda: time.monotonic() + self._ahead)

    def _wait(self, seconds: float) -> None:
        shortened = min(seconds, self._longest)
        time.sleep(shortened)
        self._ahead += seconds - shortened
