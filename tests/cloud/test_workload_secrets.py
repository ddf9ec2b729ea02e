"""The secrets of workloads on a machine, against the local AWS with its faults and against Triton's guest tools."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from components.resources.dns_credentials import policy_document
from rollcall.clouds import Cloud as MachinesCloud
from rollcall.clouds import Ec2, Joyent
from rollcall.settings import Secrets
from rollcall.workload_secrets import LONGEST_PAUSE_S, SETTLE_S, WorkloadSecrets
from tests.cloud.aws_cloud import Cloud, running
from tests.unit.agent.fakes import Clock, Scripted, memory_folder
from tests.unit.agent.test_clouds import Zone

pytestmark = pytest.mark.clouds
PREFIX, OTHER = "/rollcall/local/web-aws/shop.", "/rollcall/local/other/shop."
VALUE = "postgres://shop:a-secret-of-the-shop@db.example/shop"


class Keeper:
    """The thread of an agent, on a clock of the test's."""

    def __init__(self, cloud: MachinesCloud, folder: Path, prefix: str) -> None:
        place = folder / "opt/shop/current"
        place.mkdir(parents=True)
        (place / "workload.json").write_text(json.dumps({"secrets": ["DATABASE_URL"]}))
        (folder / "mounts").write_text("tmpfs / tmpfs rw 0 0\n")
        self.clock, self.ran, self._prefix, self._folder = Clock(), list[str](), prefix, folder
        self._secrets = WorkloadSecrets(
            cloud,
            lambda: None,
            home=folder / "run",
            definitions=folder / "opt",
            clock=self.clock,
            systemctl=self._systemctl,
            mounts=folder / "mounts",
        )

    def _systemctl(self, words: Sequence[str]) -> None:
        self.ran.append(words[0])

    def step(self, revision: str = "r1", after: float = 0.0) -> str:
        """A step so many seconds later; why the workload waits."""
        self.clock.now += after
        self._secrets.step([Secrets(workload="shop", revision=revision, turn=0, prefix=self._prefix)])
        return self._secrets.faults.get("shop", "")

    def value(self) -> str:
        return (self._folder / "run/shop/DATABASE_URL").read_text()


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with running() as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL", made.url)
        for prefix in (PREFIX, OTHER):
            made.client("ssm").put_parameter(Name=f"{prefix}DATABASE_URL", Type="SecureString", Value=VALUE)
        yield made


@contextmanager
def machine(cloud: Cloud) -> Iterator[Ec2]:
    """An instance with a role that has the policy that the program writes for the fleet web-aws."""
    (known,) = cloud.client("ssm").get_parameters(Names=[f"{PREFIX}DATABASE_URL"])["Parameters"]
    policy = json.loads(policy_document([known["ARN"]], []))
    (instance,) = cloud.run(IamInstanceProfile={"Name": cloud.role("machine", policy)})
    address = cloud.hands.machines[instance].address
    server = Scripted(lambda method, path, headers: cloud.aws.imds(address, method, path, headers))
    yield Ec2(server.url)
    server.stop()


@pytest.mark.parametrize("fault", ["ssm drop", "ssm status=500", "ssm throttle"])
def test_an_ssm_that_fails_at_boot_is_reported_waited_for_and_used_when_it_is_back(cloud: Cloud, fault: str) -> None:
    with machine(cloud) as ec2, memory_folder() as folder:
        keeper = Keeper(ec2, folder, PREFIX)
        cloud.faults.add(fault)
        for after in (0.0, LONGEST_PAUSE_S):
            why = keeper.step(after=after)
            assert why.startswith(f"reason=no-secret parameter={PREFIX}DATABASE_URL said="), why
            assert why.endswith(" workload=shop") and VALUE not in why
            assert keeper.ran == []
        cloud.faults.clear()
        assert keeper.step(after=LONGEST_PAUSE_S * 4) == ""
        assert keeper.ran == ["start"] and keeper.value() == VALUE


def test_another_value_is_taken_in_place(cloud: Cloud) -> None:
    with machine(cloud) as ec2, memory_folder() as folder:
        keeper = Keeper(ec2, folder, PREFIX)
        assert keeper.step() == ""
        cloud.client("ssm").put_parameter(Name=f"{PREFIX}DATABASE_URL", Value="another-value", Overwrite=True)
        assert keeper.step("r2") == "" and keeper.value() == VALUE
        assert keeper.step("r2", after=SETTLE_S) == "" and keeper.value() == "another-value"
        assert keeper.ran == ["start", "restart"]


def test_another_fleets_secret_is_refused(cloud: Cloud) -> None:
    with machine(cloud) as ec2, memory_folder() as folder:
        keeper = Keeper(ec2, folder, OTHER)
        why = keeper.step()
        assert "code=AccessDeniedException" in why and keeper.ran == []


@pytest.fixture
def zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Zone:
    made = Zone(tmp_path)
    monkeypatch.setenv("PATH", f"{made.bin}:/usr/bin:/bin")
    return made


def test_on_triton_a_secret_is_metadata_and_each_of_its_lines_arrives(zone: Zone) -> None:
    pem = "-----BEGIN KEY-----\nabc\n-----END KEY-----"
    with memory_folder() as folder:
        keeper = Keeper(Joyent(), folder, "shop.")
        assert keeper.step() == "reason=no-metadata key=shop.DATABASE_URL workload=shop"
        zone.put("shop.DATABASE_URL", pem)
        zone.down.touch()
        assert keeper.step(after=LONGEST_PAUSE_S * 4) == "reason=no-metadata tool=mdata-get exit=2 workload=shop"
        zone.down.unlink()
        assert keeper.step(after=LONGEST_PAUSE_S * 4) == "" and keeper.value() == pem
        zone.put("shop.DATABASE_URL", "another-value")
        keeper.step("r2")
        assert keeper.step("r2", after=SETTLE_S) == "" and keeper.value() == "another-value"
        assert keeper.ran == ["start", "restart"]
