"""Whatever is wrong at the start ends with one clear message, an exit code that is not 0, and nothing made."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from localcloud.runtime.prepare import ROOT
from localcloud.runtime.sandbox import Sandbox, SandboxError
from tests.integration.conftest import sandboxed

pytestmark = [pytest.mark.clouds, pytest.mark.engine]
SITE = "rollcall:sites: { www: { zone: scalability.expert, ttl: 60 } }"
FLEETS = "rollcall:fleets: { web: { cloud: aws, count: 1, size: t3.micro, image: debian-12, joins: [site/www] } }"
BOTH = (
    FLEETS.removesuffix(" }")
    + ", api: { cloud: joyent, count: 1, size: g1.micro, image: debian-12, joins: [site/www] } }"
)


@pytest.fixture(scope="module")
def clouds() -> Iterator[Sandbox]:
    with sandboxed("bad", machines=False) as sandbox:
        yield sandbox


def refused(clouds: Sandbox, site: str = SITE, fleets: str = FLEETS, *more: str, **env: str) -> str:
    """What `pulumi up` says to this configuration; it must fail, and leave no resource in the state."""
    target = clouds.work / "Pulumi.local.yaml"
    salt = [line for line in target.read_text().splitlines() if line.startswith("encryptionsalt")]
    target.write_text(
        "\n".join(
            ["config:", "  aws:region: us-west-2", f"  {site}", f"  {fleets}", *(f"  {each}" for each in more), *salt]
        )
        + "\n"
    )
    done = clouds.pulumi("up", "--yes", "--stack", "local", capture=True, check=False, extra=env)
    output = done.stdout + done.stderr
    assert done.returncode != 0, output
    assert "Traceback" not in output, output
    made = [each["type"] for each in clouds.resources()]
    assert not [each for each in made if each != "pulumi:pulumi:Stack"], made
    return output


def test_an_unknown_cloud_and_every_other_fault_are_named_at_once(clouds: Sandbox) -> None:
    message = refused(clouds, SITE.replace("60", "5"), FLEETS.replace("cloud: aws", "cloud: gcp"))
    assert "2 errors, nothing was changed" in message
    assert "rollcall:fleets.web.cloud: 'gcp' is not one of aws, joyent. Set one of these." in message
    assert "rollcall:sites.www.ttl: 5 is a TTL that Cloudflare does not take" in message


def test_what_only_a_cloud_shows_is_named_with_the_rest(clouds: Sandbox) -> None:
    message = refused(
        clouds, SITE.replace("60", "5"), FLEETS.replace("t3.micro", "t3.gigantic"), "rollcall:drainDelai: 5"
    )
    assert "3 errors, nothing was changed" in message
    assert "rollcall:drainDelai: is not a setting" in message and "did you mean drainDelay?" in message
    assert "rollcall:sites.www.ttl: 5 is a TTL that Cloudflare does not take" in message
    assert "rollcall:fleets.web.size: EC2 has no instance type 't3.gigantic'" in message


def directory(zone: str, shards: str = "") -> str:
    services = f"{{ theService: {{ port: 4218, incarnations: {{ v1: {{ {shards} }} }} }} }}"
    return f"rollcall:serviceDiscovery: {{ zone: {zone}, services: {services} }}"


def test_zones_that_are_not_in_the_accounts_are_named_with_the_fix(clouds: Sandbox) -> None:
    message = refused(
        clouds, SITE.replace("scalability.expert", "scalability.example"), FLEETS, directory("unilans.example")
    )
    assert "scalability.example is not in the account" in message and "create: true" in message
    assert "this AWS account has no public hosted zone unilans.example" in message and "create: true" in message


def test_wrong_credentials_of_three_clouds_are_each_named(clouds: Sandbox) -> None:
    message = refused(
        clouds,
        SITE,
        BOTH,
        CLOUDFLARE_API_TOKEN="x" * 40,
        AWS_ACCESS_KEY_ID="AKIAAAAAAAAAAAAAAAAA",
        TRITON_KEY_ID=":".join(["00"] * 16),
    )
    assert "CLOUDFLARE_API_TOKEN: Cloudflare does not accept it" in message
    assert "AWS_ACCESS_KEY_ID: AWS does not accept" in message
    (triton,) = [line for line in message.splitlines() if "rollcall:joyent" in line][:1]
    assert "key" in triton.lower()


def test_an_unreachable_cloudflare_is_named(clouds: Sandbox) -> None:
    assert "cannot be reached" in refused(clouds, CLOUDFLARE_BASE_URL="http://127.0.0.1:9/client/v4")


class Cloudflare:
    """The local one, as its dashboard changes it."""

    def __init__(self, clouds: Sandbox) -> None:
        env = clouds.environment()
        self._url, self._headers = (
            env["CLOUDFLARE_BASE_URL"],
            {"Authorization": f"Bearer {env['CLOUDFLARE_API_TOKEN']}"},
        )
        self.zone = self.call("GET", "/zones?name=scalability.expert")[0]["id"]

    def call(self, method: str, path: str, body: Any = None) -> Any:
        reply = requests.request(method, f"{self._url}{path}", headers=self._headers, json=body, timeout=10)
        assert reply.ok, reply.text
        return reply.json()["result"]


@contextlib.contextmanager
def by_hand(clouds: Sandbox, kind: str, content: str) -> Iterator[None]:
    """A record at the site's host while the context lasts."""
    api = Cloudflare(clouds)
    records = f"/zones/{api.zone}/dns_records"
    made = api.call("POST", records, {"type": kind, "name": "www", "content": content, "ttl": 60})
    try:
        yield
    finally:
        api.call("DELETE", f"{records}/{made['id']}")


def test_a_delegation_at_the_sites_host_is_named(clouds: Sandbox) -> None:
    with by_hand(clouds, "NS", "ns.elsewhere.example"):
        message = refused(clouds)
    assert (
        "rollcall:sites.www.host: www.scalability.expert is delegated to ns.elsewhere.example by an NS record"
        in message
    )


def test_what_each_cloud_would_refuse_is_named_before_anything_is_made(clouds: Sandbox) -> None:
    """A CNAME at the site's host, default tags that EC2 refuses, and a policy that is too large for IAM."""
    tags = 'aws:defaultTags: { tags: { cost center: "7", rollcall-drain: "true" } }'
    fleets = BOTH.replace(
        "g1.micro, image: debian-12, joins: [site/www]", "g1.micro, image: debian-12, joins: [theService/v1]"
    )
    with by_hand(clouds, "CNAME", "elsewhere.example"):
        message = refused(clouds, SITE, fleets, tags, directory("unilans.net", "shards: 40"))
    assert "rollcall:sites.www.host: www.scalability.expert is a CNAME to elsewhere.example already" in message
    assert "aws:defaultTags: the key 'cost center' cannot be on each EC2 instance" in message
    assert "aws:defaultTags: the key 'rollcall-drain' begins with rollcall-" in message
    assert "rollcall:fleets.api.joins: the fleet joins 40 SRV sets, so the policy of its IAM user would have" in message


def test_machines_in_a_zone_that_is_to_be_made_are_refused(clouds: Sandbox) -> None:
    message = refused(
        clouds, SITE.replace("scalability.expert", "scalability.example").replace(" }", ", create: true }")
    )
    assert (
        "rollcall:sites.www.create: the zone scalability.example is to be made, and no name in it resolves before"
        in message
    )


def test_a_second_make_of_the_same_checkout_is_refused_by_process_id(clouds: Sandbox) -> None:
    with (clouds.state / "make.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SandboxError, match="another one of this checkout works"), clouds.alone():
            pytest.fail("it was let in")


def prepared(tmp_path: Path, *steps: str, **env: str) -> subprocess.CompletedProcess[str]:
    only = [word for step in steps for word in ("--only", step)]
    given = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1", **env}
    return subprocess.run(
        [sys.executable, "-m", "localcloud.runtime.prepare", *only],
        cwd=ROOT,
        env=given,
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_way_to_an_engine_is_reported_with_both_fixes(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    done = prepared(tmp_path, "engine", PATH=str(tools))
    assert done.returncode != 0
    assert "Install Go 1.25 or newer" in done.stderr and "pulumi 3.259 or newer" in done.stderr
    assert not list(tmp_path.glob("rollcall/engine-*/bin"))


def test_a_full_disk_is_reported_with_what_is_needed(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(small)], check=True)
    try:
        done = prepared(small, "machine")
        assert done.returncode != 0
        assert "MiB free" in done.stderr and "XDG_CACHE_HOME" in done.stderr
    finally:
        subprocess.run(["umount", str(small)], check=True)


# The program is loaded first: no other user may read this interpreter's library.
_AS = "import os, sys; sys.path.insert(0, sys.argv[1]); from localcloud.runtime import prepare; {change}; prepare.check_machine()"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("os.setuid(65534)", "Run it as root"),
        ("sys.platform = 'darwin'", "Run it on Linux, or deploy with plain `pulumi up`"),
    ],
    ids=["no root", "not Linux"],
)
def test_the_error_on_a_machine_that_cannot_rehearse_has_the_reason(change: str, message: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("giving up root takes root")
    program = _AS.format(change=change)
    done = subprocess.run([sys.executable, "-c", program, str(ROOT)], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert message in done.stderr.splitlines()[-1]
