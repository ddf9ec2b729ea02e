"""Stacks that several files' tests share: deployed once for each worker, gone when the last test of their group is over.

A test that changes such a stack restores it: the files of a group are in tests/groups.py, in the order in which they use it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from localcloud.runtime.sandbox import Sandbox
from tests.integration.conftest import sandboxed
from tests.integration.instep import SERVICE, InStep
from tests.integration.log_inspection import Arguments, Logs, config_file
from tests.timing import SHORT_STOP

T = TypeVar("T")
S = TypeVar("S", bound="TwoClouds")
C = TypeVar("C", bound="ClosedSite")
_open: dict[str, Any] = {}
_ends = ExitStack()


def shared(name: str, deploy: Callable[[], AbstractContextManager[T]]) -> T:
    """Return what `deploy` made when it was first asked for under this name. One that failed fails for all, and is not tried again."""
    if name not in _open:
        try:
            _open[name] = _ends.enter_context(deploy())
        except BaseException as failed:
            _open[name] = failed
            raise
    if isinstance(made := _open[name], BaseException):
        raise made
    found: T = made
    return found


def close() -> None:
    """End every shared stack of this process."""
    _open.clear()
    _ends.close()


# Two machines on each cloud, all of them at the site and in the service's set.
TWO_CLOUDS = """\
config:
  aws:region: us-west-2
  rollcall:drainDelay: 2
  rollcall:sites: {{ www: {{ zone: scalability.expert, host: www, ttl: 60 }} }}
  rollcall:serviceDiscovery: {{ zone: unilans.net, services: {{ theService: {{ port: 4218, ttl: 5, incarnations: {{ v1: {{}} }} }} }} }}
  rollcall:fleets:
    web-aws: {{ cloud: aws, count: {count}, size: t3.micro, image: debian-12, timeout: {timeout}, joins: [site/www, theService/v1] }}
    web-joyent: {{ cloud: joyent, count: {count}, size: g1.micro, image: debian-12, timeout: {timeout}, joins: [site/www, theService/v1] }}
"""


class TwoClouds(InStep):
    config: Path

    def configure(self, count: int = 2, timeout: int = 90) -> None:
        """Set what the next `up` deploys."""
        self.config.write_text(TWO_CLOUDS.format(count=count, timeout=timeout))
        self.sandbox.write_config()

    def everywhere(self, *words: str) -> None:
        """Run a command on all machines at the same moment."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda each: self.inside(each["id"], *words), self.machines("web-")))

    def registered(self) -> tuple[set[str], set[str]]:
        """The addresses at the site, and those of the hosts in the service's set."""
        hosts = [value.split()[3] for value in self.dig(SERVICE, "SRV")]
        return set(self.answers()), {address for host in hosts for address in self.dig(host, "A")}


def two_clouds(kind: type[S], timers: str = SHORT_STOP) -> S:
    """Return the stack `two clouds` as a test file's own class sees it. `timers` are the same in all files of a group."""
    sandbox, config, output = shared("two clouds", lambda: _two_clouds(timers))
    seen = kind(sandbox, output)
    seen.config = config
    return seen


@contextlib.contextmanager
def _two_clouds(timers: str) -> Iterator[tuple[Sandbox, Path, str]]:
    with TemporaryDirectory() as folder:
        config = config_file(Path(folder), TWO_CLOUDS.format(count=2, timeout=90))
        with sandboxed("two-clouds", config, timers=timers) as sandbox:
            deployed = InStep(sandbox)
            output = deployed.up()
            # Promise 1, at the moment at which `up` has succeeded.
            assert len(deployed.assert_in_step()) == 4
            yield sandbox, config, output


# A proxied site on both clouds. Its machines accept the edge only; one machine has an image without nginx.
CLOSED_SITE = """\
config:
  aws:region: us-west-2
  rollcall:drainDelay: 2
  rollcall:rotationTrigger: "{rotation}"
  rollcall:sites: {{ www: {{ zone: scalability.expert, host: www, proxied: true, protection: high, acceleration: true }} }}
  rollcall:serviceDiscovery: {{ zone: unilans.net, services: {{ theService: {{ port: 4218, ttl: 5, incarnations: {{ v1: {{}} }} }} }} }}
  rollcall:fleets:
    web-aws: {{ cloud: aws, count: 2, size: t3.micro, image: debian-12, joins: [site/www, theService/v1] }}
    web-joyent: {{ cloud: joyent, count: 2, size: g1.micro, image: debian-12, joins: [site/www, theService/v1] }}
    web-bare: {{ cloud: joyent, count: 1, size: g1.micro, image: debian-12-bare, joins: [site/www] }}
    other: {{ cloud: aws, count: 0, size: t3.micro, image: debian-12, joins: [site/www] }}
"""


class ClosedSite(InStep):
    """`arguments` are those of every process since before the first `up`, `logs` the agents'."""

    config: Path
    arguments: Arguments
    logs: Logs

    def configure(self, rotation: str) -> None:
        """Set what the next `up` deploys."""
        self.config.write_text(CLOSED_SITE.format(rotation=rotation))
        self.sandbox.write_config()

    def run_with_output(self, verb: str) -> str:
        """Run `pulumi VERB` as a user would, with its preview; all that it printed."""
        done = self.sandbox.pulumi(verb, "--yes", "--stack", "local", "--diff", capture=True)
        return done.stdout + done.stderr

    def expected(self) -> dict[str, set[str]]:
        """Which machines should have records at each side (see `owners`)."""
        everybody, bare = self.in_state(), {each["id"] for each in self.machines("web-bare")}
        return {"site": everybody, "hosts": everybody - bare, "service": everybody - bare}


def closed_site(kind: type[C]) -> C:
    """Return the stack `closed site` as a test file's own class sees it."""
    sandbox, output, config, arguments, logs = shared("closed site", _closed_site)
    seen = kind(sandbox, output)
    seen.config, seen.arguments, seen.logs = config, arguments, logs
    return seen


@contextlib.contextmanager
def _closed_site() -> Iterator[tuple[Sandbox, str, Path, Arguments, Logs]]:
    with TemporaryDirectory() as folder:
        config = config_file(Path(folder), CLOSED_SITE.format(rotation=""))
        with (
            Arguments().recorded() as arguments,
            sandboxed("closed-site", config) as sandbox,
            Logs(sandbox) as logs,
        ):
            deployed = ClosedSite(sandbox)
            output = deployed.run_with_output("up")
            assert len(deployed.in_state()) == 5 and deployed.owners() == deployed.expected()
            yield sandbox, output, config, arguments, logs
