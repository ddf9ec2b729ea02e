"""A thread that plays machines while a test runs the engine: at work until it is stopped, and what breaks it fails the test."""

from __future__ import annotations

import threading


class Ticking(threading.Thread):
    """Calls `tick` again and again, `every` seconds apart."""

    every = 0.3

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._over = threading.Event()
        self.broken: list[BaseException] = []

    def tick(self) -> None:
        raise NotImplementedError

    def run(self) -> None:
        try:
            while not self._over.wait(self.every):
                self.tick()
        except BaseException as broken:  # noqa: BLE001 - the test raises it
            self.broken.append(broken)

    def stop(self) -> None:
        self._over.set()
        self.join(20)
        assert not self.broken, self.broken
