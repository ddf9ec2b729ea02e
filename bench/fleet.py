"""Measure what a fleet costs the engine: `up`, `preview` and `destroy` of 3, 30, 100 and 300 machines, half of them on each cloud.

    make bench-fleet            # SIZES=3,30 for a short run, PREVIEWS

The real engine and the real program run on local clouds with a hypervisor that boots nothing. One thread replaces the
agents. Every two seconds it registers, in one batch, all machines that run and are not asked to drain. So the time that
machines need to boot and to join is not counted. In turn with it runs a project with as many plain resources of the
same two kinds: dynamic ones that do nothing, and SSM parameters through the stand-in of the AWS plugin. A service has
300 machines in one set.

Everything is measured with the state in a file, which the engine writes whole at the beginning and the end of each
operation, compressed (PULUMI_DIY_BACKEND_ZSTD) as docs/operations.md advises for many machines. It is measured once
more as with a backend that keeps a journal (Pulumi Cloud): then the engine writes the state at the end only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "userdata")]

from bench.rows import Row, in_turn, median_ratio, report  # noqa: E402
from components.joyent.client import CloudApi as Triton  # noqa: E402
from components.resources import userdata  # noqa: E402
from localcloud.runtime.sandbox import Sandbox  # noqa: E402
from rollcall.ownership import Owner  # noqa: E402
from rollcall.route53 import host_name  # noqa: E402
from rollcall.settings import DRAIN, FLEET, GENERATION, MACHINE  # noqa: E402
from tests.integration.conftest import sandboxed  # noqa: E402
from tests.integration.deployed import Deployed  # noqa: E402
from tests.integration.instep import SERVICE, InStep  # noqa: E402

SIZES = tuple(int(each) for each in os.environ.get("SIZES", "3,30,100,300").split(","))
PREVIEWS = int(os.environ.get("PREVIEWS", "3"))
CONFIG = """\
config:
  aws:region: us-west-2
  rollcall:drainDelay: 0
  rollcall:serviceDiscovery: {{ zone: unilans.net, services: {{ theService: {{ port: 4218, ttl: 5, incarnations: {{ v1: {{}} }} }} }} }}
  rollcall:fleets:
{fleets}
"""
FLEET_OF = "    {name}: {{ cloud: {cloud}, count: {count}, size: {size}, image: debian-12, timeout: 900, joins: [theService/v1] }}"
# A set takes 400 machines, also while one fleet is replaced.
LARGEST = 75
PLAIN = """
import os
import pulumi_aws as aws
from nothing import Plain

dynamic, others = map(int, os.environ["PLAIN"].split())
for index in range(dynamic):
    Plain(f"d-{index}")
for index in range(others):
    aws.ssm.Parameter(f"p-{index}", name=f"/plain/{index}", type="String", value="x")
"""
# In a separate module: Pulumi writes a provider of `__main__` with all its code, and no more than 312 of them.
NOTHING = """
from pulumi.dynamic import CreateResult, Resource, ResourceProvider


class Nothing(ResourceProvider):
    def create(self, props):
        return CreateResult(props["name"], props)


class Plain(Resource):
    def __init__(self, name):
        super().__init__(Nothing(), name, {"name": name})
"""


class Unbooted(InStep):
    """Uses only the APIs: nothing boots, so there is no network of machines."""

    def __init__(self, sandbox: Sandbox) -> None:
        Deployed.__init__(self, sandbox, "")


class Registrar(threading.Thread):
    """Does the work of all machines' agents: every two seconds, one batch for machines that came and one for machines that leave."""

    def __init__(self, stack: Unbooted) -> None:
        super().__init__(daemon=True)
        self._stack = stack
        self._triton = Triton.from_environment(stack.env)
        self._route53: Any = stack.aws("route53")
        self._registered: dict[Owner, str] = {}
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(2.0):
            try:
                self._compare()
            except Exception as failed:  # noqa: BLE001 - it is printed, and the roll call will name the missing machines
                print(f"registrar: {failed!r}", file=sys.stderr)

    def stop(self) -> None:
        self._done.set()
        self.join()

    def _compare(self) -> None:
        wanted = dict(self._machines())
        came = {owner: at for owner, at in wanted.items() if owner not in self._registered}
        left = {owner: at for owner, at in self._registered.items() if owner not in wanted}
        if came or left:
            self._change(came, left, wanted)
            self._registered = wanted

    def _machines(self) -> Iterator[tuple[Owner, str]]:
        filters = [{"Name": "instance-state-name", "Values": ["running"]}]
        for page in self._stack.ec2.get_paginator("describe_instances").paginate(Filters=filters):
            for each in (machine for found in page["Reservations"] for machine in found["Instances"]):
                tags = {tag["Key"]: tag["Value"] for tag in each["Tags"]}
                if tags.get(DRAIN) != "true" and "PublicIpAddress" in each:
                    yield self._owner(tags, each["InstanceId"]), each["PublicIpAddress"]
        for machine in self._triton.list_machines():
            tags = {**machine.tags, **machine.metadata}
            if machine.state == "running" and tags.get(DRAIN) != "true" and machine.ips:
                yield self._owner(tags, machine.id), machine.ips[0]

    def _owner(self, tags: dict[str, Any], instance: str) -> Owner:
        return Owner("local", tags[FLEET], tags[MACHINE], tags[GENERATION], instance)

    def _change(self, came: dict[Owner, str], left: dict[Owner, str], wanted: dict[Owner, str]) -> None:
        zone = next(each["Id"] for each in self._route53.list_hosted_zones()["HostedZones"])
        members = [
            self._set(
                action,
                SERVICE,
                "SRV",
                *(f"10 10 4218 {host_name(owner.generation, 'unilans.net')}." for owner in of),
                ttl=5,
            )
            for action, of in (("DELETE", self._registered), ("CREATE", wanted))
            if of
        ]
        # A host is written before the set names it, and removed after the set no longer does.
        for batch in (*self._hosts("CREATE", came), members, *self._hosts("DELETE", left)):
            self._route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": batch})

    def _hosts(self, action: str, which: dict[Owner, str]) -> Iterator[list[dict[str, Any]]]:
        """Yield batches. A batch has 32,000 characters of values at the most."""
        owners = list(which.items())
        for at in range(0, len(owners), 100):
            yield [
                self._set(action, host_name(owner.generation, "unilans.net"), rtype, value)
                for owner, address in owners[at : at + 100]
                for rtype, value in (("A", address), ("TXT", f'"{owner}"'))
            ]

    @staticmethod
    def _set(action: str, name: str, rtype: str, *values: str, ttl: int = 60) -> dict[str, Any]:
        records = [{"Value": each} for each in values]
        made = {"Name": name, "Type": rtype, "TTL": ttl, "ResourceRecords": records}
        return {"Action": action, "ResourceRecordSet": made}


@dataclass
class Project:
    """One stack, with its `up`, `preview` and `destroy`."""

    sandbox: Sandbox
    folder: Path
    stack: str
    extra: dict[str, str]

    def run(self, *words: str) -> float:
        began = time.monotonic()
        self.sandbox.pulumi(*words, "--stack", self.stack, "-C", str(self.folder), capture=True, extra=self.extra)
        return time.monotonic() - began

    def up(self) -> float:
        return self.run("up", "--yes", "--skip-preview")

    def preview(self) -> float:
        return self.run("preview", "--expect-no-changes")

    def destroy(self) -> float:
        return self.run("destroy", "--yes", "--skip-preview")


@contextlib.contextmanager
def plain(sandbox: Sandbox, dynamic: int, others: int, extra: dict[str, str]) -> Iterator[Project]:
    folder = sandbox.state / "plain"
    folder.mkdir()
    (folder / "Pulumi.yaml").write_text("name: plain\nruntime: python\noptions: {refresh: always}\n")
    (folder / "__main__.py").write_text(PLAIN)
    (folder / "nothing.py").write_text(NOTHING)
    project = Project(sandbox, folder, "plain", {"PLAIN": f"{dynamic} {others}", **extra})
    sandbox.pulumi("stack", "init", "plain", "-C", str(folder), capture=True)
    try:
        yield project
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# An instance has its user data in the state twice: as the input, and as the provider reads them.
USER_DATA_KB = round(len(userdata.gzipped_base64()) / 1000)
PREVIEW_WHY = (
    "a preview of Rollcall first asks both clouds, DNS and the quotas of the accounts. For this it starts boto3 in two processes,"
    " and imports the EC2 part of the SDK. With 3 machines, this takes most of the time. With more machines there is a"
    " second reason: the SDK and the engine work longer for"
    " a resource with more inputs, outputs and dependencies. A plain resource has almost no input and no dependency. The user data of"
    f" an EC2 instance have {USER_DATA_KB} KB, and the engine writes them into its log each time that it sends the instance to a plugin"
)
FILE_WHY = (
    "the engine writes the whole state twice for each resource. So if the state is in a file or a bucket (here: a compressed file),"
    f" its work grows with the square of the number of resources, also for plain resources. {2 * USER_DATA_KB} KB of an EC2 instance in"
    " the state are the user data, which are there twice: as the input, and as the provider reads them. With a journal, the engine does"
    " not write the whole state"
)
JOURNAL_WHY = (
    "CloudAPI accepts 30 calls at once, and then ten a second. A Triton machine needs one call to create it, and three to drain, stop"
    " and delete it. With few machines, the first 30 calls are a large part of all calls. With more machines, most calls must wait"
)
WHY = {"file": FILE_WHY, "journal": JOURNAL_WHY}
# For the state in a file, as docs/operations.md advises for many machines.
BACKENDS = {"file": {"PULUMI_DIY_BACKEND_ZSTD": "true"}, "journal": {"PULUMI_SKIP_CHECKPOINTS": "true"}}


@dataclass
class Times:
    """The times. `preview` is empty where none was asked for."""

    resources: int
    up: tuple[float, float]
    preview: tuple[list[float], list[float]]
    destroy: tuple[float, float]


def configured(count: int) -> str:
    """Return the configuration: half of the machines on each cloud, in fleets of at most LARGEST."""
    fleets = []
    for cloud, size, machines in (("aws", "t3.nano", (count + 1) // 2), ("joyent", "g1.nano", count // 2)):
        for at in range(0, machines, LARGEST):
            name = f"{cloud}{at // LARGEST}"
            fleets.append(FLEET_OF.format(name=name, cloud=cloud, count=min(LARGEST, machines - at), size=size))
    return CONFIG.format(fleets="\n".join(fleets))


def measured(count: int, backend: str, previews: int) -> Times:
    with tempfile.TemporaryDirectory(prefix="rollcall-bench-") as scratch:
        config = Path(scratch) / "Pulumi.local.yaml"
        config.write_text(configured(count))
        with sandboxed(f"bench-fleet-{count}", config, machines=False) as sandbox:
            stack = Unbooted(sandbox)
            ours = Project(sandbox, sandbox.work, "local", BACKENDS[backend])
            registrar = Registrar(stack)
            registrar.start()
            try:
                up = ours.up()
                made = [each for each in stack.resources() if each.get("custom")]
                dynamic = sum(each["type"].startswith("pulumi-python:") for each in made)
                assert len(stack.in_state()) == count
                with plain(sandbox, dynamic, len(made) - dynamic, BACKENDS[backend]) as floor:
                    floor_up = floor.up()
                    found = in_turn({"ours": ours.preview, "plain": floor.preview}, previews)
                    floor_destroy = floor.destroy()
                destroy = ours.destroy()
            finally:
                registrar.stop()
    return Times(len(made), (up, floor_up), (found["ours"], found["plain"]), (destroy, floor_destroy))


def main() -> int:
    rows = []
    for backend in BACKENDS:
        times = {count: measured(count, backend, PREVIEWS if backend == "file" else 0) for count in SIZES}
        suffix = ", with a journal" if backend == "journal" else ""
        for count, found in times.items():
            rows += [_once(verb, count, found, suffix) for verb in ("up", "destroy")]
            rows += [_previewed(count, found)] if found.preview[0] else []
        for verb in ("up", "destroy", *(["preview"] if backend == "file" else [])):
            why = PREVIEW_WHY if verb == "preview" else WHY[backend]
            rows += growth(verb, suffix, times, why)
    return report("fleet", rows)


def _once(verb: str, count: int, found: Times, suffix: str) -> Row:
    ours, floor = getattr(found, verb)
    return Row(
        question=f"`{verb}` of {count} machines{suffix}",
        ours=f"{ours:.1f} s",
        other=f"{found.resources} plain resources: {floor:.1f} s",
        ratio=ours / floor,
        n="1",
    )


def _previewed(count: int, found: Times) -> Row:
    ours, floor = found.preview
    ratio = median_ratio(ours, floor)
    return Row(
        question=f"`preview` of {count} machines",
        ours=f"{statistics.median(ours):.1f} s",
        other=f"{found.resources} plain resources: {statistics.median(floor):.1f} s",
        ratio=ratio,
        n=f"{PREVIEWS} in turn",
        goal="≤ 1.2 ×",
        met=ratio <= 1.2,
        why="" if ratio <= 1.2 else PREVIEW_WHY,
    )


def growth(verb: str, suffix: str, times: dict[int, Times], why: str) -> list[Row]:
    """Say how the time grows with the machines: what each additional one takes, among many and among fewer."""
    if len(times) < 3:
        return []
    few, some, many = sorted(times)[-3:]

    def each(side: int) -> tuple[float, float]:
        took = {}
        for count, found in times.items():
            figure = getattr(found, verb)[side]
            took[count] = statistics.median(figure) if isinstance(figure, list) else figure
        return (took[some] - took[few]) / (some - few), (took[many] - took[some]) / (many - some)

    (first, then), (plain_first, plain_then) = each(0), each(1)
    met = then <= first * 1.2
    return [
        Row(
            question=f"`{verb}`{suffix}: time for each further machine, between {some} and {many} machines",
            ours=f"{then:.3f} s",
            other=f"from {few} to {some} machines: {first:.3f} s. Plain resources: {plain_first:.3f} s ({few} to {some}),"
            f" {plain_then:.3f} s ({some} to {many})",
            ratio=then / first,
            n="1",
            goal="linear: ≤ 1.2 ×",
            met=met,
            why="" if met else why,
        )
    ]


if __name__ == "__main__":
    sys.exit(main())
