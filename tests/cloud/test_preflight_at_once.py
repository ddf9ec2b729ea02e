"""components.preflight.checks: every fault of a configuration at once, those that only a cloud can see as well."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest

from components.preflight import checks
from components.preflight.state import PriorState
from localcloud.aws.route53 import UNLIMITED
from localcloud.machines.compute import InstantHypervisor
from rollcall.in_place import LIVE
from tests.cloud import cloudapi_server, cloudflare_server
from tests.cloud.aws_cloud import Cloud, point_shell_at, running

pytestmark = pytest.mark.clouds
WEB = {"cloud": "aws", "count": 1, "size": "t3.micro", "image": "debian-12", "joins": ["site/www"]}
API = {"cloud": "joyent", "count": 1, "size": "g1.micro", "image": "debian-12", "joins": ["theService/v1"]}
SERVICES = {"theService": {"port": 4218, "incarnations": {"v1": {}}}}
GOOD: dict[str, Any] = {
    "aws:region": "us-west-2",
    "aws:ignoreTags": {"keyPrefixes": list(LIVE)},
    "rollcall:sites": {"www": {"zone": cloudflare_server.ZONE}},
    "rollcall:serviceDiscovery": {"zone": "unilans.net", "services": SERVICES},
    "rollcall:fleets": {"web": WEB, "api": API},
}
Faults = Callable[[dict[str, Any]], list[str]]


@pytest.fixture(scope="module")
def aws() -> Iterator[Cloud]:
    with running(hypervisor=InstantHypervisor(), route53_limits=UNLIMITED) as made:
        made.aws.add_zone("unilans.net")
        yield made


@pytest.fixture(scope="module")
def front() -> Iterator[cloudflare_server.Front]:
    made = cloudflare_server.Front()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def triton() -> Iterator[cloudapi_server.Lab]:
    made = cloudapi_server.Front()
    yield cloudapi_server.Lab(made)
    made.stop()


@pytest.fixture
def faults(
    aws: Cloud,
    front: cloudflare_server.Front,
    triton: cloudapi_server.Lab,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Faults:
    """What the program says to a configuration, one line each; nothing where it goes on."""
    cloudflare_server.Lab(front)
    point_shell_at(aws, monkeypatch)
    monkeypatch.setenv("CLOUDFLARE_BASE_URL", front.url)
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", cloudflare_server.OPERATOR)
    key = tmp_path / "key"
    key.write_bytes(cloudapi_server.private_text(cloudapi_server.RSA_KEY))
    for name, value in (
        ("URL", triton.url),
        ("ACCOUNT", cloudapi_server.ACCOUNT),
        ("KEY_ID", triton.fingerprint),
        ("KEY_FILE", str(key)),
    ):
        monkeypatch.setenv(f"TRITON_{name}", value)
    # There is no engine: what only it can tell is not asked.
    monkeypatch.setattr(checks, "prior_state", lambda: None)
    monkeypatch.setattr(checks, "account_fault", lambda: None)
    monkeypatch.setattr(pulumi, "get_root_directory", lambda: str(tmp_path))
    monkeypatch.setattr(pulumi, "get_stack", lambda: "local")
    monkeypatch.setattr(pulumi.runtime, "is_dry_run", lambda: False)

    def found(settings: dict[str, Any]) -> list[str]:
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in settings.items()}
        token = pulumi.runtime.config.CONFIG.set(texts)
        try:
            checks.checked("local")
        except pulumi.RunError as refused:
            return [line[4:] for line in str(refused).splitlines() if line.startswith("  - ")]
        finally:
            pulumi.runtime.config.CONFIG.reset(token)
        return []

    return found


def keys(found: list[str]) -> list[str]:
    return [each.partition(": ")[0] for each in found]


def test_a_good_configuration_has_none(faults: Faults) -> None:
    assert faults(GOOD) == []
    assert faults({**GOOD, "rollcall:machineToken": "given-by-an-operator-0123456789abcdefghij"})[0].startswith(
        "rollcall:machineToken: "
    )


def test_a_key_that_there_is_not_is_named_with_a_near_one(faults: Faults) -> None:
    (found,) = faults({**GOOD, "rollcall:drainDelai": "5"})
    assert found.startswith(
        "rollcall:drainDelai: is not a setting (did you mean drainDelay?). Use one of sites, serviceDiscovery, fleets,"
    )
    (found,) = faults({**GOOD, "rollcall:serviceDiscovry": {"zone": "unilans.net"}})
    assert (
        found.startswith("rollcall:serviceDiscovry: is not a setting") and "(did you mean serviceDiscovery?)" in found
    )
    (found,) = faults({**GOOD, "rolcall:safeDeletes": "false"})
    assert (
        found
        == "rolcall:safeDeletes: is in the namespace rolcall, which nothing reads (did you mean rollcall:safeDeletes?). "
        "Correct or remove it."
    )
    assert faults({**GOOD, "mycompany:team": "web"}) == []


def test_a_stack_without_a_region_is_refused(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    without = {key: value for key, value in GOOD.items() if key != "aws:region"}
    (found,) = faults(without)
    assert found.startswith("aws:region: is not set, and AWS_REGION, which says us-west-2 here, is not the stack's. ")
    assert "`pulumi config set aws:region us-west-2`" in found
    (found,) = faults({**without, "aws:regoin": "us-west-2"})
    assert found.startswith("aws:region: is not set (aws:regoin is set; did you mean that?)")
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    assert keys(faults(without)) == ["aws:region"]
    assert (
        faults({"rollcall:sites": GOOD["rollcall:sites"], "rollcall:fleets": {"t": {**API, "joins": ["site/www"]}}})
        == []
    )


def test_a_key_that_is_written_twice_is_named(faults: Faults, tmp_path: Path) -> None:
    (tmp_path / "Pulumi.local.yaml").write_text(
        "config:\n  rollcall:sites: { www: { zone: a.example, ttl: 60, ttl: 120 } }\n"
    )
    (found,) = faults(GOOD)
    assert found.startswith("rollcall:sites.www.ttl: is written 2 times in Pulumi.local.yaml (lines 2, 2)")


def test_what_the_clouds_refuse_comes_with_what_they_need_not_be_asked_for(faults: Faults, tmp_path: Path) -> None:
    (tmp_path / "Pulumi.local.yaml").write_text("config:\n  aws:region: us-west-2\n  aws:region: us-west-2\n")
    fleets = {
        "web": {**WEB, "size": "t3.gigantic", "count": -1},
        "old": {**WEB, "image": "ami-00000000000000000"},
        "lost": {**WEB, "joins": ["nowhere"], "size": "t3.mirco"},
        "key": {**WEB, "ssh": {"user": "root", "keyName": "mine", "from": ["198.51.100.0/24"]}},
        "api": {**API, "size": "g1.mirco"},
        "far": {**API, "image": "debian-99", "wieght": 5},
    }
    found = faults(
        {
            **GOOD,
            "rollcall:drainDelai": "5",
            "rollcall:safeDeletes": "maybe",
            "rollcall:sites": {"www": {"zone": "scalability.example", "ttl": 5}},
            "rollcall:serviceDiscovery": {"zone": "unilans.example", "services": SERVICES},
            "rollcall:fleets": fleets,
        }
    )
    assert sorted(keys(found)) == [
        "aws:region",
        "rollcall:drainDelai",
        "rollcall:fleets.api.size",
        "rollcall:fleets.far.image",
        "rollcall:fleets.far.wieght",
        "rollcall:fleets.key.ssh.keyName",
        "rollcall:fleets.lost.joins",
        "rollcall:fleets.lost.size",
        "rollcall:fleets.old.image",
        "rollcall:fleets.web.count",
        "rollcall:fleets.web.size",
        "rollcall:safeDeletes",
        "rollcall:serviceDiscovery.zone",
        "rollcall:sites.www.ttl",
        "rollcall:sites.www.zone",
    ]


def test_a_cloud_that_does_not_know_us_keeps_no_fault_of_another_back(
    faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAAAAAAAAAAAAAAAAA")
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "x" * 40)
    fleets = {"web": WEB, "api": {**API, "size": "g1.mirco"}}
    found = faults({**GOOD, "rollcall:fleets": fleets})
    assert sorted(keys(found)) == ["AWS_ACCESS_KEY_ID", "CLOUDFLARE_API_TOKEN", "rollcall:fleets.api.size"]


def test_limits_of_the_accounts_and_of_records_are_named_together(
    faults: Faults, aws: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state has nothing, so everything is made."""
    monkeypatch.setattr(checks, "prior_state", lambda: PriorState({}))
    assert faults(GOOD) == []
    backend = aws.aws._moto.iam
    monkeypatch.setattr(backend.account_summary, "_roles_quota", 0)
    monkeypatch.setattr(backend.account_summary, "_users_quota", 0)
    monkeypatch.setattr(aws.aws.route53.store, "most_sets", 5)
    networks = [f"10.0.{each}.0/24" for each in range(60)]
    ssh = {"user": "admin", "keyName": "none", "from": networks}
    text = {"txt": {f"k{each}": "é" * 100 for each in range(6)}}
    services = {"theService": {"port": 4218, "incarnations": {"v1": text}}}
    found = faults(
        {
            **GOOD,
            "rollcall:fleets": {"web": {**WEB, "ssh": ssh}, "api": API},
            "rollcall:serviceDiscovery": {"zone": "unilans.net", "services": services},
        }
    )
    assert sorted(keys(found)) == [
        "rollcall:fleets",
        "rollcall:fleets",
        "rollcall:fleets.web",
        "rollcall:fleets.web.ssh.keyName",
        "rollcall:serviceDiscovery.services.theService.incarnations.v1.txt",
        "rollcall:serviceDiscovery.zone",
    ], found
