"""Stand-ins are copies of a process that is ready: with the caller's environment and output, and no longer than the caller."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import pytest
from google.protobuf import empty_pb2, struct_pb2
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from localcloud.plugins import install
from localcloud.plugins.launch import SOCKET
from localcloud.plugins.preloaded import Preloaded
from tests.patience import came_true


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    # Not pytest's own folder: a socket's path has at most 108 bytes.
    with TemporaryDirectory() as folder:
        install(Path(folder) / "pulumi-home", Path(sys.executable))
        yield Path(folder)


@pytest.fixture
def ready(state: Path) -> Iterator[Preloaded]:
    made = Preloaded(state, state / "log")
    assert came_true((state / SOCKET).exists, 30)
    yield made
    made.stop()
    assert not (state / SOCKET).exists()


def start(state: Path, name: str, **environment: str) -> subprocess.Popen[str]:
    (launcher,) = (state / "pulumi-home/plugins").glob(f"*/pulumi-resource-{name}")
    return subprocess.Popen(
        [launcher], stdout=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"], **environment}
    )


def region(port: str) -> str:
    """What the stand-in for AWS fills in for a resource's region."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        provider = provider_pb2_grpc.ResourceProviderStub(channel)
        assert provider.GetPluginInfo(empty_pb2.Empty()).version
        provider.Configure(provider_pb2.ConfigureRequest(args=struct_pb2.Struct()))
        news = struct_pb2.Struct()
        news.update({"region": "eu-west-1"})
        urn = "urn:pulumi:s::p::aws:ssm/parameter:Parameter::name"
        return "; ".join(each.reason for each in provider.Check(provider_pb2.CheckRequest(urn=urn, news=news)).failures)


def ended(port: str) -> bool:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            grpc.channel_ready_future(channel).result(0.2)
        except grpc.FutureTimeoutError:
            return True
    return False


def port_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_each_has_its_callers_environment(ready: Preloaded, state: Path) -> None:
    processes = [start(state, "aws", AWS_REGION=each) for each in ("us-west-2", "sa-east-1")]
    regions = [region(port_of(each)) for each in processes]
    for each in processes:
        each.kill()
        each.communicate()
    assert "provider's region us-west-2" in regions[0] and "provider's region sa-east-1" in regions[1]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_its_caller(ready: Preloaded, state: Path, how: signal.Signals) -> None:
    process = start(state, "cloudflare")
    port = port_of(process)
    process.send_signal(how)
    process.communicate()
    assert came_true(lambda: ended(port), 10)


def test_a_stand_in_starts_by_itself_where_no_process_is_ready(state: Path) -> None:
    process = start(state, "command")
    port = port_of(process)
    assert port and not ended(port)
    process.kill()
    process.communicate()


def test_the_process_ends_when_the_local_clouds_are_killed(state: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from localcloud.plugins.preloaded import Preloaded\n"
        "state = Path(sys.argv[1]); made = Preloaded(state, state / 'log'); print(made._process.pid, flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code, str(state)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout
    process = Path("/proc") / owner.stdout.readline().strip()
    assert came_true((state / SOCKET).exists, 30) and process.exists()
    owner.kill()
    owner.communicate()
    assert came_true(lambda: not process.exists() or "Z" in (process / "stat").read_text().split()[2], 10)
