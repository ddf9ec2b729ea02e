"""Stacks that several files' tests look at: deployed once for each worker, gone when the last test of their group is over.

Who changes such a stack puts it back: the files of a group are in tests/groups.py, in the order in which they use it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from localcloud.rehearsal import Rehearsal
from tests.integration.conftest import rehearsed
from tests.integration.instep import InStep
from tests.integration.witness import config_file

T = TypeVar("T")
S = TypeVar("S", bound="TwoClouds")
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
  rollcall:linger: 2
  rollcall:site: {{ zone: scalability.expert, host: www, ttl: 60 }}
  rollcall:directory: {{ zone: unilans.net, services: {{ theService: {{ port: 4218, ttl: 5, incarnations: {{ v1: {{}} }} }} }} }}
  rollcall:fleets:
    web-aws: {{ cloud: aws, count: {count}, size: t3.micro, image: debian-12, timeout: {timeout}, joins: [site, theService/v1] }}
    web-joyent: {{ cloud: joyent, count: {count}, size: g1.micro, image: debian-12, timeout: {timeout}, joins: [site, theService/v1] }}
"""


class TwoClouds(InStep):
    config: Path

    def configure(self, count: int = 2, timeout: int = 90) -> None:
        """Set what the next `up` deploys."""
        self.config.write_text(TWO_CLOUDS.format(count=count, timeout=timeout))
        self.rehearsal.lay_out()


def two_clouds(kind: type[S]) -> S:
    """Return the stack `two clouds` as a test file's own class sees it."""
    rehearsal, config, output = shared("two clouds", _two_clouds)
    seen = kind(rehearsal, output)
    seen.config = config
    return seen


@contextlib.contextmanager
def _two_clouds() -> Iterator[tuple[Rehearsal, Path, str]]:
    with TemporaryDirectory() as folder:
        config = config_file(Path(folder), TWO_CLOUDS.format(count=2, timeout=90))
        with rehearsed("two-clouds", config) as rehearsal:
            deployed = InStep(rehearsal)
            output = deployed.up()
            # Promise 1, at the moment at which `up` has succeeded.
            assert len(deployed.assert_in_step()) == 4
            yield rehearsal, config, output
