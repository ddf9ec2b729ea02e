"""A third cloud: one class for the agent, one fleet, one view, and a line in each of three tables. The program is the real one.

docs/another-cloud.md walks through what is in tests/integration/shed and in REGISTRY_LINES. The tests of this file share one deployment
and run in the order in which they stand.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import requests

from localcloud.runtime.prepare import ROOT
from localcloud.runtime.sandbox import Sandbox
from rollcall import agent as agents
from rollcall import clouds
from rollcall.agent import Agent
from rollcall.aws import AccessKey
from rollcall.cloudflare import CloudflareStore
from rollcall.health import Health
from rollcall.host_label import HostLabels, KeptLabels
from rollcall.registry import CloudflareRegistry, Registry, RetriedRoute53
from rollcall.route53 import Route53Store
from rollcall.route53api import Route53Client
from rollcall.settings import CloudflareJoin, Join, ServiceJoin
from tests.integration.conftest import sandboxed, wait_until
from tests.integration.deployed import Deployed
from tests.integration.instep import SERVICE, InStep, foreign_bytes
from tests.integration.log_inspection import config_file
from tests.integration.shed.cloud import Shed
from tests.integration.shed.compute import Compute, agent_of

pytestmark = [pytest.mark.clouds, pytest.mark.engine]
SHED = ROOT / "tests/integration/shed"
CONFIG = """\
config:
  aws:region: us-west-2
  rollcall:drainDelay: 1
  rollcall:sites: {{ www: {{ zone: scalability.expert, host: www, ttl: 60 }} }}
  rollcall:serviceDiscovery: {{ zone: unilans.net, services: {{ theService: {{ port: 4218, ttl: 5, incarnations: {{ v1: {{}} }} }} }} }}
  rollcall:fleets:
    web: {{ cloud: shed, count: {count}, size: {size}, image: bench-1, joins: [site/www, theService/v1], timeout: {timeout} }}
"""
# In config/models.py: the line before the change, and the line after it.
NAMES = ('CLOUDS = ("aws", "joyent")', 'CLOUDS = ("aws", "joyent", "shed")')
# What is written into the other tables: the line before which it goes, and the line.
REGISTRY_LINES = {
    "compute/registry.py": [
        ("from components.compute.triton import TritonView", "from components.shed.view import ShedView"),
        ('    "joyent": Kind(', '    "shed": Kind(ids=r"shed-.+", view=lambda *_: ShedView()),'),
    ],
    "resources/fleets/registry.py": [
        ("from components.resources.fleets.ec2 import Ec2Fleet", "from components.shed.fleet import ShedFleet"),
        ('    "joyent": JoyentFleet', '    "shed": ShedFleet,'),
    ],
}


def extended(target: Path) -> None:
    """The program's components with the shed beside the others."""
    shutil.copytree(ROOT / "components", target, ignore=shutil.ignore_patterns("__pycache__"))
    (target / "shed").mkdir()
    # The machine's settings modules are imported from beside the components.
    (target.parent / "userdata").symlink_to(ROOT / "userdata")
    for name in ("__init__.py", "api.py", "view.py", "fleet.py"):
        shutil.copy(SHED / name, target / "shed" / name)
    for name, added in REGISTRY_LINES.items():
        text = (target / name).read_text()
        for before, line in added:
            assert text.count(before) == 1, (name, before)
            text = text.replace(before, f"{line}\n{before}")
        (target / name).write_text(text)
    models = (target / "config/models.py").read_text()
    assert models.count(NAMES[0]) == 1
    (target / "config/models.py").write_text(models.replace(*NAMES))


class Sheds(InStep):
    compute: Compute
    config: Path
    before: str

    def __init__(self, sandbox: Sandbox) -> None:
        """Without the machines' network, which is not there."""
        Deployed.__init__(self, sandbox, "")

    def pulumi(self, *words: str, check: bool = True) -> str:
        join = {"SHED_URL": self.compute.url}
        done = self.sandbox.pulumi(*words, "--stack", "local", capture=True, check=check, extra=join)
        return done.stdout + done.stderr

    def configure(self, count: int, size: str = "small", timeout: int = 120) -> None:
        self.config.write_text(CONFIG.format(count=count, size=size, timeout=timeout))
        self.sandbox.write_config()

    def addresses(self) -> set[str]:
        return {each.address for each in self.compute.machines.values()}

    def assert_all_answer(self) -> None:
        ids = set(self.compute.machines)
        assert self.owners() == {"site": ids, "hosts": ids, "service": ids}
        assert set(self.answers()) == self.addresses()
        assert {
            each for value in self.dig(SERVICE, "SRV") for each in self.dig(value.split()[3], "A")
        } == self.addresses()


class Registries:
    """As the agent makes them, but for where the APIs are: these know it by themselves, since the environment of this process, by
    which an agent is led to the local clouds, is without them while a stack is laid out. The host's resolver is not asked."""

    def __init__(self, env: Mapping[str, str], labels: HostLabels) -> None:
        self._env, self._labels = env, labels

    def __call__(self, join: Join, secret: Callable[[str], str]) -> Registry:
        if isinstance(join, CloudflareJoin):
            site = CloudflareRegistry(join, lambda: secret(join.token))
            site._open = lambda: CloudflareStore(secret(join.token), self._env["CLOUDFLARE_BASE_URL"])  # type: ignore[method-assign]
            return site
        assert isinstance(join, ServiceJoin)
        service = RetriedRoute53(join, lambda: secret(join.key), lambda _: None, self._labels)
        service._open = lambda: self._store(join, secret(join.key))  # type: ignore[method-assign]
        return service

    def _store(self, join: ServiceJoin, key: str) -> tuple[Route53Store, Callable[[], None]]:
        api = Route53Client(AccessKey(key), url=self._env["AWS_ENDPOINT_URL"])
        return Route53Store(join.zone, api), api.close


@pytest.fixture(scope="module")
def sheds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sheds]:
    folder = tmp_path_factory.mktemp("shed")
    config = config_file(folder, CONFIG.format(count=2, size="small", timeout=10))
    extended(folder / "components")
    with sandboxed("shed", config, machines=False) as sandbox, pytest.MonkeyPatch.context() as patch:
        deployed = Sheds(sandbox)
        deployed.config, deployed.before = config, foreign_bytes(deployed)
        _lead_to(sandbox, folder / "components")
        patch.setattr(clouds, "CLOUDS", (Shed, *clouds.CLOUDS))
        patch.setattr(agents, "health_of", lambda _: Health(str))
        patch.setattr(agents, "REREAD", 1.0)
        patch.setattr(agents, "WATCH", 1.0)

        def look_up(name: str) -> frozenset[str] | None:
            """Return nothing: no member is challenged, and nothing follows from the other members' services."""
            return None if "._" in name else frozenset() if ".c.rc." in name else frozenset(deployed.answers())

        def agent(root: Path) -> Agent:
            labels = KeptLabels()
            registries = Registries(deployed.env, labels)
            return agent_of(root, look_up=look_up, reach=lambda *_: True, registry_of=registries, labels=labels)

        with Compute(folder / "machines", agent) as compute:
            deployed.compute = compute
            yield deployed


def _lead_to(sandbox: Sandbox, components: Path) -> None:
    link = sandbox.work / "components"
    link.unlink()
    link.symlink_to(components)


def test_up_waits_for_machines_that_do_not_answer_and_names_them(sheds: Sheds) -> None:
    sheds.compute.silent = True
    output = sheds.pulumi("up", "--yes", "--skip-preview", check=False)
    assert "web: the roll call was not answered, and nothing changed for 10 s" in output, output
    for each in sheds.compute.machines:
        assert f"({each}) is not at www.scalability.expert A; on, booting" in output, output
    assert len(sheds.compute.machines) == 2 and sheds.owners()["site"] == set()


def test_up_ends_when_every_machine_answers(sheds: Sheds) -> None:
    sheds.compute.silent = False
    sheds.configure(2)
    sheds.pulumi("up", "--yes", "--skip-preview")
    assert len(sheds.compute.machines) == 2 and sheds.compute.ended == []
    sheds.assert_all_answer()
    assert "unchanged" in sheds.pulumi("up", "--yes", "--skip-preview", "--expect-no-changes")


def test_no_secret_of_its_machines_is_in_the_state(sheds: Sheds) -> None:
    secrets = {value for each in sheds.compute.machines.values() for value in each.given_settings["secrets"].values()}
    state = sheds.pulumi("stack", "export")
    assert len(secrets) == 3 and "shed-0000" in state
    assert [each for each in secrets if each in state] == []


def test_a_preview_shows_a_record_that_is_gone(sheds: Sheds) -> None:
    sheds.compute.silence()
    (record, *_) = sheds.records()
    url = f"{sheds.env['CLOUDFLARE_BASE_URL']}/zones/{sheds.zone()}/dns_records/{record['id']}"
    token = {"Authorization": f"Bearer {sheds.env['CLOUDFLARE_API_TOKEN']}"}
    assert requests.delete(url, headers=token, timeout=10).ok
    output = sheds.pulumi("preview", "--diff")
    gone = record["comment"].split()[-1]
    assert f"({gone}) is not at www.scalability.expert A" in output, output
    sheds.compute.silent = False
    wait_until("it has registered again, unaided", lambda: len(sheds.records()) == 2, 60)


def test_a_successor_serves_before_its_predecessor_leaves(sheds: Sheds) -> None:
    before = set(sheds.compute.machines)
    sheds.configure(1, size="large")
    sheds.pulumi("up", "--yes", "--skip-preview")
    assert set(sheds.compute.ended) == before and len(sheds.compute.machines) == 1
    sheds.assert_all_answer()


def test_destroy_leaves_nothing(sheds: Sheds) -> None:
    sheds.pulumi("destroy", "--yes", "--skip-preview")
    assert sheds.compute.machines == {} and sheds.owners() == {"site": set(), "hosts": set(), "service": set()}
    assert [each["urn"] for each in sheds.resources()] == []
    assert foreign_bytes(sheds) == sheds.before and len(sheds.before) > 200
