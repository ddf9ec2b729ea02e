"""What the tests of booting machines share: a namespace with stand-ins for the clouds, and a hypervisor."""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from localcloud.machines.compute import Machine
from localcloud.machines.hypervisor import MetadataSide, NspawnHypervisor
from localcloud.machines.image import Image
from localcloud.machines.image.build import ensure
from localcloud.network.namespace import NETWORKS, Namespace, name_for
from tests.integration.cloud_stubs import Imds, self_signed, serve_imds, serve_names
from tests.patience import Deadline, came_true

ON_AWS = Machine(id="i-0123456789abcdef0", cloud="aws", name="web-aws-0", address="198.51.100.10")
ON_JOYENT = Machine(
    id="9f5b7a52-7a0b-4c55-9d0e-2d7c3c1f0a01", cloud="joyent", name="web-joyent-0", address="203.0.113.10"
)


@dataclass
class Heard:
    """An observer that remembers, and that a test can wait on."""

    events: list[tuple[str, str]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def running(self, machine_id: str) -> None:
        self._add("running", machine_id)

    def stopped(self, machine_id: str) -> None:
        self._add("stopped", machine_id)

    def failed(self, machine_id: str, reason: str) -> None:
        self.reasons.append(reason)
        self._add("failed", machine_id)

    def wait(self, *events: str, timeout: float = 30.0) -> None:
        """Until exactly these have been heard, in this order; AssertionError with what was heard instead."""
        deadline = Deadline(timeout)
        with self._changed:
            while len(self.events) < len(events) and not deadline.passed:
                self._changed.wait(min(deadline.left_s, 1.0))
            assert [what for what, _ in self.events] == list(events), (self.events, self.reasons)

    def _add(self, what: str, machine_id: str) -> None:
        with self._changed:
            self.events.append((what, machine_id))
            self._changed.notify_all()


@dataclass
class Room:
    """A namespace with what the clouds serve in it, and a hypervisor. `names` are those that machines can look up, with addresses."""

    namespace: Namespace
    image: Image
    machines: Path
    hypervisor: NspawnHypervisor
    imds: Imds
    metadata: dict[str, MetadataSide]
    tls: ssl.SSLContext
    names: dict[str, str]

    def boot(self, machine: Machine, *heard: str) -> Heard:
        observer = Heard()
        self.hypervisor.boot(machine, observer)
        observer.wait(*(heard or ("running",)))
        return observer

    def answers(self, address: str, port: int = 80, source: str | None = None) -> bool:
        try:
            self.namespace.connect((address, port), source, timeout=0.5).close()
        except OSError:
            return False
        return True

    def run(self, machine: Machine, script: str) -> str:
        done = self.hypervisor.exec(machine.id, ["sh", "-c", script])
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        return done.stdout.decode().strip()

    def settled(self, machine: Machine) -> str:
        """Wait until all that starts at boot, userdata included, has; `running` or `degraded`."""
        states: list[str] = []

        def known() -> bool:
            done = self.hypervisor.exec(machine.id, ["systemctl", "is-system-running"])
            states.append(done.stdout.decode().strip())
            return states[-1] in ("running", "degraded")

        assert until(known, 30), (states[-1], self.hypervisor.console(machine.id).read_text()[-800:])
        return states[-1]


@contextmanager
def open_room(tmp_path: Path) -> Iterator[Room]:
    """A room of its own, and nothing of it left afterwards. `tmp_path` names the namespace, so it must be unique."""
    namespace = Namespace(name_for(tmp_path, f"test-{os.getpid()}"))
    namespace.create()
    imds, metadata, image, names = Imds(), dict[str, MetadataSide](), ensure(), dict[str, str]()
    with ExitStack() as stack:
        stack.callback(namespace.destroy)
        stack.enter_context(serve_imds(namespace, imds))
        for network in NETWORKS.values():
            stack.enter_context(serve_names(namespace, network.gateway, names))
        hosts = "route53.amazonaws.com", "*.s3.us-west-2.amazonaws.com", "ssm.us-west-2.amazonaws.com"
        pem, tls = self_signed(tmp_path, *hosts, "localhost", "registry.example.com")
        hypervisor = NspawnHypervisor(
            namespace=namespace, image=image, machines=tmp_path / "machines", guest_metadata=metadata.get, ca_pem=pem
        )
        stack.callback(hypervisor.close)
        yield Room(namespace, image, tmp_path / "machines", hypervisor, imds, metadata, tls, names)


def until(condition: Callable[[], bool], timeout: float = 20.0) -> bool:
    """Whether the condition came true within `timeout` seconds, without those in which processes waited for a processor."""
    return came_true(condition, timeout, every=0.05)
