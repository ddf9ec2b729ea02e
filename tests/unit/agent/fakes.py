"""What the agent's tests share: a clock, a cloud and a registry in memory, and a server with answers that a test writes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from localcloud.network.http import Server, listen
from rollcall.agent import TICK, Agent, describe
from rollcall.errors import FatalError, RollcallError
from rollcall.ownership import Owner
from rollcall.settings import CloudflareJoin, Join, MachineSettings
from tests.unit.agent.settings_fixtures import as_keys

T = TypeVar("T")
INSTANCE = "i-0123456789abcdef0"
ADDRESS, OTHER_ADDRESS = "198.51.100.10", "198.51.100.11"
PRIVATE_ADDRESS = "192.0.2.10"
IPV6, OTHER_IPV6 = "2001:db8:1::10", "2001:db8:1::11"
OWNER = Owner("local", "web-aws", "0", "ab12cd", INSTANCE)
HOST = "www.scalability.expert"
TOKEN_NAME = "rollcall-token"
TOKEN = "a-token-that-nobody-may-see"
_MEMORY = Path("/dev/shm")  # noqa: S108


@contextmanager
def memory_folder() -> Iterator[Path]:
    """Make a folder in memory, where there is such a place: agents write their status at every tick."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        yield Path(folder)


def runs_well(path: str) -> str:
    """Answer for `rollcall.health._command` without a process: for /bin/true, and for a link to it or to /bin/false."""
    found = Path(path)
    good = "/bin/true" in (path, str(found.readlink()) if found.is_symlink() else "")
    return "" if good else "status=1 said=''"


class Clock:
    """A clock that does not move by itself."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FakeCloud:
    """Metadata in memory. `silent`, where it is set, is raised by every question."""

    name = "fake"

    def __init__(self, settings: MachineSettings) -> None:
        self.settings = settings
        self.extra: dict[str, str] = {}
        self.known: tuple[str, ...] = (ADDRESS,)
        self.private: tuple[str, ...] = (PRIVATE_ADDRESS,)
        self.secrets = {TOKEN_NAME: TOKEN}
        self.silent: RollcallError | None = None
        self.secrets_read = self.keys_read = 0
        self.statuses: list[str] = []
        self.reports: list[str] = []

    def instance(self) -> str:
        return self._answer(INSTANCE)

    def addresses(self) -> tuple[str, ...]:
        return self._answer(self.known)

    def private_addresses(self) -> tuple[str, ...]:
        return self._answer(self.private)

    def keys(self) -> dict[str, str]:
        self.keys_read += 1
        return self._answer({**as_keys(self.settings), **self.extra})

    def secret(self, name: str) -> str:
        self.secrets_read += 1
        return self._answer(self.secrets[name])

    def region(self) -> str:
        return ""

    def tell(self, status: str) -> None:
        self.statuses.append(status)

    def report(self, text: str) -> None:
        self.reports.append(self._answer(text))

    def report_view(self, text: str) -> None:
        self.reports.append(self._answer(text))

    def _answer(self, value: T) -> T:
        if self.silent is not None:
            raise self.silent
        return value


class FakeDns:
    """What is registered where, for all memberships of a test; the API and the name servers in one.

    `faults` are raised by the next calls, `broken` by all of them; `token` is the only one that is let in.
    """

    def __init__(self, clock: Clock) -> None:
        self.registered: dict[str, tuple[Owner, tuple[str, ...], Join]] = {}
        self.calls: list[tuple[float, str, str]] = []
        self.faults: list[RollcallError] = []
        self.broken: RollcallError | None = None
        self.token = TOKEN
        self.queries = 0
        # So many that each confirms every ten minutes, as in a service's set.
        self.size = 1200
        # Machines beside this one in every record set.
        self.others = 9
        self.kept: dict[str, bool] = {}
        self._answers: frozenset[str] | str | None = ""
        self._clock = clock

    def registry(self, membership: Join, secret: Callable[[str], str]) -> FakeRegistry:
        return FakeRegistry(self, membership, secret)

    def look_up(self, name: str) -> frozenset[str] | None:
        """Return what the name servers answer: the registered records, unless `answers` is set."""
        if ".c.rc." in name:
            return frozenset()
        self.queries += 1
        if isinstance(self._answers, str):
            here = (found for place, (_, found, _) in self.registered.items() if place == f"host={name}")
            return frozenset(address for found in here for address in found)
        return self._answers

    def answers(self, given: frozenset[str] | None) -> None:
        self._answers = given

    def count(self, verb: str) -> int:
        return sum(each[1] == verb for each in self.calls)

    def times(self, verb: str) -> list[float]:
        return [each[0] for each in self.calls if each[1] == verb]

    def called(self, verb: str, place: str, token: str) -> None:
        self.calls.append((self._clock(), verb, place))
        if self.faults:
            raise self.faults.pop(0)
        if self.broken is not None:
            raise self.broken
        if token != self.token:
            raise FatalError("reason=refused api=fake status=403 code=9109 message='Invalid access token'")


class FakeRegistry:
    def __init__(self, dns: FakeDns, membership: Join, secret: Callable[[str], str]) -> None:
        self._dns, self._membership, self._secret = dns, membership, secret
        self._place, self.size = describe(membership), dns.size
        self.members: tuple[str, ...] = ()
        self.generations: dict[str, str] = {}
        self.left_hosts: frozenset[str] = frozenset()
        self.lives: Callable[[str, bool], bool] = lambda *_: False

    def join(self, owner: Owner, *addresses: str, kept: bool = False) -> bool:
        self._call("join")
        self._dns.kept[self._place] = kept
        wanted = (owner, addresses, self._membership)
        changed = self._dns.registered.get(self._place) != wanted
        self._dns.registered[self._place] = wanted
        return changed

    def leave(self, owner: Owner) -> bool:
        return self.leave_set(owner)

    def leave_set(self, owner: Owner, *addresses: str) -> bool:
        self._call("leave")
        registered = self._dns.registered.get(self._place)
        if registered is None or registered[0] != owner:
            return False
        del self._dns.registered[self._place]
        return True

    def leave_unhealthy(self, owner: Owner, floors: Mapping[str, int], *addresses: str) -> str:
        registered = self._dns.registered.get(self._place)
        if registered is not None and registered[0] == owner and self._dns.others < min(floors.values()):
            self._call("leave")
            self._dns.kept[self._place] = True
            return f"reason=too-few-others others={self._dns.others}"
        self.leave_set(owner)
        return ""

    def remove_hosts(self, owner: Owner, hosts: Collection[str], *addresses: str) -> bool:
        return False

    def owner_at(self, key: str) -> Owner | None:
        self._call("owner_at")
        return next((owner for owner, addresses, _ in self._dns.registered.values() if key in addresses), None)

    def challenge(self, owner: Owner, on: bool, by: str = "") -> bool:
        self._call("challenge")
        return False

    def challengers(self, owner: Owner) -> tuple[str, ...]:
        self._call("challengers")
        return ()

    def interrupt(self) -> None:
        pass

    def _call(self, verb: str) -> None:
        token = self._secret(self._membership.token) if isinstance(self._membership, CloudflareJoin) else TOKEN
        self._dns.called(verb, self._place, token)


class Guest:
    """An agent on a machine with a workload that is healthy when the test says so, on the test's clock."""

    def __init__(self, home: Path, **membership: Any) -> None:
        self._check = home / "check"
        self.healthy(True)
        self.clock = Clock()
        self.dns = FakeDns(self.clock)
        self.cloud = FakeCloud(
            MachineSettings(
                stack="local", fleet="web-aws", machine="0", generation="ab12cd", joins=(self.join_of(**membership),)
            )
        )
        self.status_file = home / "run" / "status.json"
        self.agent = self._agent()

    def _agent(self) -> Agent:
        return Agent(
            self.cloud,
            status_file=self.status_file,
            clock=self.clock,
            look_up=self.dns.look_up,
            registry_of=self.dns.registry,
            reach=lambda *_: True,
        )

    def restarted(self) -> Guest:
        """The agent was killed, and systemd started it again: its records stay, what it knew is forgotten."""
        self.agent = self._agent()
        self.dns.calls.clear()
        return self

    def join_of(self, host: str = HOST, **membership: Any) -> CloudflareJoin:
        return CloudflareJoin(
            **{"zone": "a" * 32, "host": host, "token": TOKEN_NAME, "check": f"command:{self._check}", **membership}
        )

    def healthy(self, is_healthy: bool) -> None:
        self._check.unlink(missing_ok=True)
        self._check.symlink_to("/bin/true" if is_healthy else "/bin/false")

    def tell(self, **changed: Any) -> None:
        """Change the machine settings, as an operator does."""
        settings = {name: getattr(self.cloud.settings, name) for name in MachineSettings.__dataclass_fields__}
        self.cloud.settings = MachineSettings(**{**settings, **changed})

    def pass_time(self, seconds: float, step: float = TICK) -> None:
        """Tick as `run` does; in larger steps where nothing but time matters."""
        end = self.clock.now + seconds
        while self.clock.now + step <= end:
            self.clock.now += step
            self.agent.tick()
        self.clock.now = end

    @property
    def registered(self) -> dict[str, str]:
        """Addresses by place."""
        return {place.partition("=")[2]: " ".join(found) for place, (_, found, _) in self.dns.registered.items()}

    def status(self) -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(self.status_file.read_text())
        return shown


Reply = tuple[int, Mapping[str, str], bytes]


class Scripted:
    """An HTTP server on loopback; `answer(method, path, headers)` says what each request gets."""

    def __init__(self, answer: Callable[[str, str, Mapping[str, str]], Reply]) -> None:
        self.answer = answer
        self.requests: list[str] = []
        self._server = Server(self._serve, [listen("127.0.0.1")])
        self._server.start()
        self.port = self._server.ports[0]
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._server.stop()

    def _serve(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        headers = {key[5:].replace("_", "-").lower(): value for key, value in environ.items() if key[:5] == "HTTP_"}
        self.requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        status, sent, body = self.answer(environ["REQUEST_METHOD"], environ["PATH_INFO"], headers)
        start_response(f"{status} -", [*sent.items(), ("Content-Length", str(len(body)))])
        return [body]
