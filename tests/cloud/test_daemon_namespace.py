"""What the daemon serves inside its network namespace, under the vendors' own names, and that nothing of it is left."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from localcloud.runtime.control import ask
from tests.cloud.test_daemon import Local, runs, until

pytestmark = [
    pytest.mark.machines,
    pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace takes root"),
]


class Inside(Local):
    """Local clouds with a namespace, and commands that run in it as a machine's would."""

    def start(self, *, plugins: bool = False) -> dict[str, Any]:
        self("start", *([] if plugins else ["--no-plugins"]))
        return self.written()

    def inside(self, *words: str) -> str:
        command = ["nsenter", f"--net=/run/netns/{self.written()['namespace']}", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout

    def dig(self, name: str, server: str = "198.51.100.1") -> list[str]:
        return self.inside("dig", f"@{server}", "+short", "+tries=1", "+time=3", name).split()

    def curl(self, url: str, *words: str, address: str = "198.51.100.1") -> tuple[int, str]:
        """Status and body. The CA of a sandbox is in its machines' trust stores only, so here it is not asked for."""
        host = url.split("/")[2]
        to = ["--connect-to", f"{host}::{address}:"]
        printed = self.inside("curl", "-sk", "--max-time", "10", "-w", "\n%{http_code}", *to, *words, url)
        body, _, code = printed.rpartition("\n")
        return int(code), body


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    made = Inside(tmp_path_factory.mktemp("inside") / "state", f"inside-{os.getpid()}")
    try:
        made.start()
        yield made
    finally:
        made.end()


@pytest.fixture
def clouds(shared: Inside) -> Iterator[Inside]:
    yield shared
    shared("fault", "--clear")
    shared("heal")


def namespaces() -> list[str]:
    return [line.split()[0] for line in subprocess.check_output(["ip", "netns", "list"], text=True).splitlines()]


def test_the_vendors_hosts_are_found_and_answer_as_their_apis_do(clouds: Inside) -> None:
    for name in ("api.cloudflare.com", "ssm.us-west-2.amazonaws.com", "us-central-1.api.mnx.io", "deb.debian.org"):
        for server in ("198.51.100.1", "203.0.113.1"):
            assert clouds.dig(name, server) == ["198.51.100.1"], name
    code, body = clouds.curl("https://api.cloudflare.com/client/v4/user/tokens/verify")
    assert (code, json.loads(body)["success"]) == (400, False)
    code, body = clouds.curl("https://ssm.us-west-2.amazonaws.com/")
    assert code in (400, 403)
    assert clouds.curl("https://us-central-1.api.mnx.io/rollcall/machines")[0] == 401
    assert clouds.curl("https://www.example.com/")[0] == 421


def test_what_no_cloud_serves_does_not_exist_inside(clouds: Inside) -> None:
    assert clouds.dig("www.example.com") == []


def test_a_published_file_is_at_its_address_and_what_is_not_published_is_not(clouds: Inside, tmp_path: Path) -> None:
    file, url = tmp_path / "api", "https://releases.shop.example/v1/api-1"
    file.write_bytes(b"program")
    digest = hashlib.sha256(b"program").hexdigest()
    assert clouds.dig("releases.shop.example") == []
    # The zone of an operator's web server is often that of the site, and here it has no record of the server.
    ask(clouds.state / "control.sock", "zones", cloudflare=["shop.example"], route53=[])
    assert clouds("publish", url, str(file)) == f"artifact: {url}\nsha256: {digest}\n"
    file.write_bytes(b"another program")
    for server in ("198.51.100.1", "203.0.113.1"):
        assert clouds.dig("releases.shop.example", server) == ["198.51.100.1"]
    assert clouds.curl(url) == (200, "program")
    assert clouds.curl("https://releases.shop.example/v1/api-2")[0] == 404
    clouds("publish", url, str(file))
    assert clouds.curl(url) == (200, "another program")


def test_a_published_folder_is_served_below_its_address(clouds: Inside, tmp_path: Path) -> None:
    (tmp_path / "mirror/releases").mkdir(parents=True)
    for name in ("a.tar.bz2", "b.tar.bz2"):
        (tmp_path / "mirror/releases" / name).write_bytes(name.encode())
    url = "https://mirror.shop.example/rollcall"
    output = clouds("publish", f"{url}/", str(tmp_path / "mirror"))
    assert output == f"{url}/releases/a.tar.bz2\n{url}/releases/b.tar.bz2\n"
    assert clouds.curl(f"{url}/releases/b.tar.bz2") == (200, "b.tar.bz2")
    assert clouds.curl(f"{url}/releases/c.tar.bz2")[0] == 404


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://releases.shop.example/api", "is not the https address of a file"),
        ("https://releases.shop.example/", "is not the https address of a file"),
        ("https://b.s3.us-west-2.amazonaws.com/api", "is a host of one of the clouds"),
    ],
)
def test_an_address_that_cannot_be_published_is_reported(clouds: Inside, url: str, message: str) -> None:
    assert clouds.refused("publish", url, __file__).startswith(f"localcloud: {url}: {message}. ")


def test_a_file_that_is_not_there_cannot_be_published(clouds: Inside) -> None:
    assert clouds.refused("publish", "https://r.example/a", "/no/file") == (
        "localcloud: /no/file: cannot be read (No such file or directory). Name a file."
    )


def test_each_host_shows_its_own_certificate(clouds: Inside) -> None:
    for host, address in (("api.cloudflare.com", "198.51.100.1"), ("www.scalability.expert", "203.0.113.2")):
        shown = clouds.inside(
            "sh", "-c", f"openssl s_client -connect {address}:443 -servername {host} </dev/null 2>/dev/null"
        )
        assert f"subject=CN = {host}" in shown and "issuer=CN = Rollcall sandbox CA" in shown


def test_the_metadata_address_answers_only_machines(clouds: Inside) -> None:
    assert clouds.curl("http://169.254.169.254/latest/meta-data/", address="169.254.169.254")[0] in (401, 404)


def test_a_fault_hits_the_edge(clouds: Inside) -> None:
    url, edge = "http://www.scalability.expert/", "198.51.100.2"
    assert clouds.curl(url, address=edge)[0] == 409
    clouds("fault", "edge status=503 times=1")
    assert [clouds.curl(url, address=edge)[0] for _ in range(2)] == [503, 409]


def test_nothing_leads_out_of_the_namespace(clouds: Inside) -> None:
    links = json.loads(clouds.inside("ip", "-json", "link"))
    assert {each["ifname"] for each in links} == {"lo", "aws", "joyent", "fabric"}
    assert all("link_netnsid" not in each for each in links)
    routes = json.loads(clouds.inside("ip", "-json", "route"))
    assert {each["dst"] for each in routes} == {
        *("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "203.0.113.224/27"),
    }


def test_the_clouds_are_cut_off_from_each_other_until_healed(clouds: Inside) -> None:
    """What the rules do to packets is shown with machines, in tests/integration/test_hypervisor.py."""
    assert "rollcall_faults" not in clouds.inside("nft", "list", "tables")
    clouds("partition")
    assert 'iifname "aws" oifname { "fabric", "joyent" } drop' in clouds.inside("nft", "list", "ruleset")
    clouds("isolate", "aws")
    assert 'iifname "aws" drop' in clouds.inside("nft", "list", "ruleset")
    clouds("heal")
    assert "rollcall_faults" not in clouds.inside("nft", "list", "tables")


def test_the_daemon_takes_less_than_250_mib(clouds: Inside) -> None:
    assert json.loads(clouds("status", "--json"))["rss"] < 250 * 2**20


class TestLife:
    @pytest.fixture
    def clouds(self, tmp_path: Path) -> Iterator[Inside]:
        made = Inside(tmp_path / "state", f"life-{os.getpid()}")
        yield made
        made.end()

    def test_a_stop_leaves_no_namespace(self, clouds: Inside) -> None:
        name = clouds.start()["namespace"]
        assert name in namespaces()
        clouds("stop")
        assert name not in namespaces()
        assert clouds.left() == []

    def test_a_stop_after_a_kill_leaves_no_namespace(self, clouds: Inside) -> None:
        written = clouds.start()
        os.kill(written["pid"], signal.SIGKILL)
        until(lambda: not runs(written))
        assert written["namespace"] in namespaces()
        clouds("stop")
        assert written["namespace"] not in namespaces()
        assert clouds.left() == []

    def test_a_start_after_a_kill_makes_the_namespace_again(self, clouds: Inside) -> None:
        first = clouds.start()
        os.kill(first["pid"], signal.SIGKILL)
        until(lambda: not runs(first))
        clouds.start()
        assert clouds.dig("api.cloudflare.com") == ["198.51.100.1"]


def test_an_image_is_served_as_its_registry_does_to_machines_and_to_the_program(clouds: Inside, tmp_path: Path) -> None:
    (tmp_path / "cart").mkdir()
    (tmp_path / "cart/start").write_bytes(b"program")
    output = clouds("image", "registry.shop.example/acme/cart:1", str(tmp_path / "cart"), "/start")
    name, _, digest = output.strip().removeprefix("container: ").partition("@")
    assert name == "registry.shop.example/acme/cart:1" and digest.startswith("sha256:")
    path = f"/v2/acme/cart/manifests/{digest}"
    code, body = clouds.curl(f"https://registry.shop.example{path}")
    assert code == 200 and f"sha256:{hashlib.sha256(body.encode()).hexdigest()}" == digest
    url = ask(clouds.state / "control.sock", "env")["ROLLCALL_REGISTRY_URL"]
    reply = requests.head(f"{url}/v2/acme/cart/manifests/1", headers={"Host": "registry.shop.example"}, timeout=5)
    assert (reply.status_code, reply.headers["Content-Type"]) == (200, "application/vnd.oci.image.manifest.v1+json")
    assert requests.get(f"{url}/v2/acme/cart/manifests/1", timeout=5).status_code == 404
    assert clouds.refused("image", "registry.shop.example/a:1", "/no/file").startswith(
        "localcloud: /no/file: is not an archive"
    )
