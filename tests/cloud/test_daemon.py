"""`python -m localcloud` from a shell: it starts, is asked, disturbed and stopped, and leaves nothing. Boots nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import boto3
import dns.message
import dns.query
import pytest
import requests

from components.joyent.client import CloudApi as Client
from components.joyent.credentials import Credentials
from components.joyent.transport import Transport
from localcloud.machines.image import SUITES, current
from localcloud.network.faults import Faults
from localcloud.runtime import cli
from localcloud.runtime.control import ControlError, ControlServer, ask
from localcloud.runtime.daemon import SITE, Daemon
from localcloud.runtime.fronts import by_host, files, repositories
from localcloud.runtime.keys import fingerprint
from tests.patience import came_true

pytestmark = pytest.mark.clouds

ROOT = Path(__file__).resolve().parent.parent.parent


class Local:
    """The command on its own state folder."""

    def __init__(self, state: Path, instance: str = "test-daemon") -> None:
        self.state, self.instance = state, instance
        self._environment: dict[str, str] | None = None

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "localcloud", "--instance", self.instance, "--state", str(self.state), *words]
        return subprocess.run(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90, check=False
        )

    def __call__(self, *words: str) -> str:
        """What it prints; it must succeed."""
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *words: str) -> str:
        """The one line in which it refuses."""
        done = self.run(*words)
        assert (done.returncode, done.stdout) == (1, ""), done
        (line,) = done.stderr.splitlines()
        return line

    def start(self, *, plugins: bool = False) -> dict[str, Any]:
        self("start", "--no-machines", *([] if plugins else ["--no-plugins"]))
        self._environment = None
        return self.written()

    def written(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.state / "daemon.json").read_text())
        return found

    def environment(self) -> dict[str, str]:
        """What `env` exports, asked for once for each start."""
        if self._environment is None:
            words = [shlex.split(line) for line in self("env").splitlines()]
            assert all(each[0] == "export" and len(each) == 2 for each in words)
            self._environment = dict(each[1].split("=", 1) for each in words)
        return self._environment

    def left(self) -> list[str]:
        """The files below the state folder, less logs and locks."""
        found = (each for each in self.state.rglob("*") if not each.is_dir())
        return sorted(each.name for each in found if each.suffix not in (".log", ".lock"))

    def end(self) -> None:
        self.run("stop")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    made = Local(tmp_path_factory.mktemp("shared") / "state")
    try:
        made.start()
        yield made
    finally:
        made.end()


@pytest.fixture
def running(shared: Local) -> Iterator[Local]:
    yield shared
    ask(shared.state / "control.sock", "clear", service=None)


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    made = Local(tmp_path / "state")
    yield made
    made.end()


def until(probe: Callable[[], bool]) -> None:
    assert came_true(probe, 10), "waited in vain"


def runs(written: dict[str, Any]) -> bool:
    return cli._alive(written["pid"], written["started"])


def client_options(found: dict[str, str]) -> dict[str, str]:
    return {
        "endpoint_url": found["AWS_ENDPOINT_URL"],
        "region_name": found["AWS_REGION"],
        "aws_access_key_id": found["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": found["AWS_SECRET_ACCESS_KEY"],
    }


class TestRunning:
    def test_env_points_any_client_at_what_answers(self, running: Local) -> None:
        found = running.environment()
        url, token = found["CLOUDFLARE_BASE_URL"], found["CLOUDFLARE_API_TOKEN"]
        zones = requests.get(f"{url}/zones", headers={"Authorization": f"Bearer {token}"}, timeout=10).json()
        assert [each["name"] for each in zones["result"]] == ["scalability.expert"]
        assert (
            requests.get(f"{url}/zones", headers={"Authorization": f"Bearer {'x' * 40}"}, timeout=10).status_code == 403
        )
        assert found["AWS_REGION"] == found["AWS_DEFAULT_REGION"] == "us-west-2"
        assert requests.get(found["AWS_ENDPOINT_URL"], timeout=10).status_code in (400, 403)
        assert requests.get(f"{found['TRITON_URL']}/rollcall/machines", timeout=10).status_code == 401

    def test_the_key_that_env_names_is_there_and_the_owners_alone(self, running: Local) -> None:
        found = running.environment()
        key = Path(found["TRITON_KEY_FILE"])
        assert key.stat().st_mode & 0o777 == 0o600
        assert fingerprint(key.with_name("triton_rsa.pub").read_text()) == found["TRITON_KEY_ID"]

    def test_what_is_written_down_holds_no_secret(self, running: Local) -> None:
        found, written = running.environment(), (running.state / "daemon.json").read_text()
        secrets = [found["CLOUDFLARE_API_TOKEN"], found["AWS_SECRET_ACCESS_KEY"], found["AWS_ACCESS_KEY_ID"]]
        assert not [each for each in secrets if each in written]
        assert not [each for each in secrets if each in (running.state / "logs" / "daemon.log").read_text()]

    def test_each_request_is_logged_and_no_secret_of_it(self, running: Local) -> None:
        found = running.environment()
        url, token = f"{found['CLOUDFLARE_BASE_URL']}/zones", found["CLOUDFLARE_API_TOKEN"]
        requests.get(url, params={"name": "in-the-query"}, headers={"Authorization": f"Bearer {token}"}, timeout=10)
        log = running.state / "logs" / "access.log"
        until(lambda: " GET /client/v4/zones 200 " in log.read_text())
        assert token not in log.read_text() and "in-the-query" not in log.read_text()

    def test_machines_that_are_not_booted_have_addresses_that_are_on_no_interface(self, running: Local) -> None:
        ec2: Any = boto3.client("ec2", **client_options(running.environment()))
        image = ec2.describe_images(Filters=[{"Name": "name", "Values": ["*debian-12*"]}])["Images"][0]["ImageId"]
        made = ec2.run_instances(ImageId=image, InstanceType="t3.micro", MinCount=1, MaxCount=1)["Instances"][0]
        found = {each["id"]: each for each in json.loads(running("ps"))}[made["InstanceId"]]
        ec2.terminate_instances(InstanceIds=[made["InstanceId"]])
        assert found["addresses"] == ["198.18.0.10"]

    def test_there_are_two_regions_and_two_data_centres_and_ps_says_which(self, running: Local) -> None:
        found = running.environment()
        ec2: Any = boto3.client("ec2", **{**client_options(found), "region_name": "eu-west-1"})
        image = ec2.describe_images(Filters=[{"Name": "name", "Values": ["*debian-12*"]}])["Images"][0]["ImageId"]
        tags = [{"ResourceType": "instance", "Tags": [{"Key": "rollcall-stack", "Value": "other"}]}]
        requested = {"ImageId": image, "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1}
        made = ec2.run_instances(**requested, TagSpecifications=tags)["Instances"][0]
        here = Client(Transport(Credentials.read(found), environ={}))
        listed = here.list_datacenters()
        assert list(listed) == ["local-1", "local-2"] and listed["local-1"] == found["TRITON_URL"]
        there = Client(Transport(Credentials.read(found, url=listed["local-2"]), environ={}))
        assert there.list_datacenters() == {**listed, "local-1": found["TRITON_URL"]}
        image = next(each for each in there.list_images() if each.name == "debian-12")
        package = next(each for each in there.list_packages() if each.name == "g1.micro")
        chosen = {"name": "far", "image": image.id, "package": package.id, "tag.rollcall-stack": "third"}
        machine = there.post("/machines", chosen)
        assert here.list_machines() == [] and [each.id for each in there.list_machines()] == [machine["id"]]
        shown = {each["id"]: each for each in json.loads(running("ps"))}
        there.delete_machine(machine["id"])
        until(lambda: not there.list_machines())
        ec2.terminate_instances(InstanceIds=[made["InstanceId"]])
        assert shown[made["InstanceId"]]["tags"] == {"rollcall-stack": "other"}
        assert shown[machine["id"]]["tags"] == {"rollcall-stack": "third"}
        assert shown[made["InstanceId"]]["region"] == "eu-west-1"
        assert shown[machine["id"]]["region"] == "local-2"
        assert shown[machine["id"]]["addresses"][0].startswith("198.19.128.")

    def test_the_name_server_answers_for_both_zones(self, running: Local) -> None:
        host, port = running.environment()["ROLLCALL_DNS"].split(":")
        for zone in ("scalability.expert", "unilans.net"):
            reply = dns.query.udp(dns.message.make_query(zone, "TXT"), host, port=int(port), timeout=5)
            assert reply.answer, zone

    def test_the_operators_zones_are_created_once(self, running: Local) -> None:
        control = running.state / "control.sock"
        wanted: dict[str, Any] = {
            "cloudflare": ["shop.example", "scalability.expert"],
            "route53": ["i.shop.example", "unilans.net"],
        }
        assert ask(control, "zones", **wanted) == ["shop.example", "i.shop.example"]
        assert ask(control, "zones", **wanted) == []
        host, port = running.environment()["ROLLCALL_DNS"].split(":")
        for zone in ("shop.example", "i.shop.example"):
            assert dns.query.udp(dns.message.make_query(zone, "NS"), host, port=int(port), timeout=5).answer, zone

    def test_the_site_says_that_no_machine_is_registered(self, running: Local) -> None:
        reply = requests.get(running.environment()["ROLLCALL_SITE_URL"], timeout=10)
        assert (reply.status_code, reply.text) == (502, f"{SITE} resolves to nothing: no machine is registered\n")

    def test_the_site_is_the_host_where_machines_have_registered(self, running: Local) -> None:
        """Whatever `host` the stack has: 502 names it, and in the end the articles' site again."""
        found = running.environment()
        api, token = found["CLOUDFLARE_BASE_URL"], {"Authorization": f"Bearer {found['CLOUDFLARE_API_TOKEN']}"}
        (zone,) = requests.get(f"{api}/zones?name=scalability.expert", headers=token, timeout=10).json()["result"]
        # By IPv6 alone, which the visitor does not ask for: so it says which host it was asked for.
        record = {"type": "AAAA", "name": "shop", "content": "2001:db8::9", "ttl": 60}
        for comment, host in (
            ("by hand", SITE),
            ("rollcall/1 local web 0 0a1b2c i-0123456789abcdef0", "shop.scalability.expert"),
        ):
            url = f"{api}/zones/{zone['id']}/dns_records"
            made = requests.post(url, json={**record, "comment": comment}, headers=token, timeout=10).json()["result"]
            try:
                reply = requests.get(found["ROLLCALL_SITE_URL"], timeout=10)
            finally:
                requests.delete(f"{url}/{made['id']}", headers=token, timeout=10)
            assert reply.status_code == 502 and reply.text.startswith(f"{host}"), (comment, reply.text)
        assert requests.get(found["ROLLCALL_SITE_URL"], timeout=10).text.startswith(SITE)

    def test_ps_lists_no_machine_before_one_is_made(self, running: Local) -> None:
        assert [each for each in json.loads(running("ps")) if each["state"] not in ("terminated", "deleted")] == []

    def test_status_tells_the_process_and_its_faults(self, running: Local) -> None:
        running("fault", "cloudapi", "readonly")
        found = json.loads(running("status", "--json"))
        assert found["pid"] == running.written()["pid"]
        assert 2**20 < found["rss"] < 2**30
        assert found["faults"] == ["cloudapi readonly"]
        assert running("status").endswith("faults: cloudapi readonly\n")

    def test_a_fault_hits_until_it_is_cleared(self, running: Local) -> None:
        url = running.environment()["CLOUDFLARE_BASE_URL"]
        assert running("fault", "cloudflare:GET", "status=599", "for=60") == "cloudflare:GET status=599 for=60\n"
        running("fault", "dns", "drop", "p=0")
        assert running("fault", "--list").splitlines() == ["cloudflare:GET status=599 for=60", "dns drop p=0"]
        assert requests.get(f"{url}/zones", timeout=10).status_code == 599
        running("fault", "--clear", "cloudflare")
        assert running("fault", "--list").splitlines() == ["dns drop p=0"]
        assert requests.get(f"{url}/zones", timeout=10).status_code != 599
        running("fault", "--clear")
        assert running("fault", "--list").strip() == ""

    def test_an_unknown_fault_is_refused_in_one_line(self, running: Local) -> None:
        assert "'azure': is not a service. Choose one of cloudflare" in running.refused("fault", "azure", "drop")

    @pytest.mark.parametrize("words", [("exec", "web", "--", "true"), ("crash", "web"), ("logs", "web")])
    def test_what_needs_a_machine_is_refused_in_one_line(self, running: Local, words: tuple[str, ...]) -> None:
        assert running.refused(*words) == "localcloud: daemon: boots no machines. Start it without --no-machines."

    def test_the_control_socket_is_the_owners_alone_and_knows_its_commands(self, running: Local) -> None:
        control = running.state / "control.sock"
        assert control.stat().st_mode & 0o777 == 0o600
        with pytest.raises(ControlError, match="'dance': is not a command"):
            ask(control, "dance", timeout=10)

    def test_a_second_start_says_that_one_runs_already(self, running: Local) -> None:
        before = running.written()
        message = running.refused("start", "--no-machines")
        assert (
            f"{running.state}: its local clouds already run (process {before['pid']}). Run `localcloud stop` to end them."
            in message
        )
        assert f"already run (process {before['pid']})" in running.refused("serve", "--no-machines")
        assert running.written() == before
        assert json.loads(running("status", "--json"))["pid"] == before["pid"]


class TestLife:
    def test_a_stop_leaves_no_process_and_no_file(self, local: Local) -> None:
        written = local.start(plugins=True)
        assert runs(written)
        assert {"daemon.json", "control.sock", "triton_rsa"} <= set(local.left())
        local("stop")
        assert not runs(written)
        assert local.left() == []
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", written["ports"]["cloudflare"]), timeout=5)

    def test_a_stop_where_nothing_runs_is_not_an_error(self, local: Local) -> None:
        assert local("stop") == ""

    @pytest.mark.parametrize("words", [("status",), ("env",), ("ps",), ("fault", "--list")])
    def test_asking_where_nothing_runs_says_how_to_start(self, local: Local, words: tuple[str, ...]) -> None:
        assert local.refused(*words) == "localcloud: daemon: does not run. Run `make up` to start it."

    def test_a_stop_clears_up_after_a_daemon_that_was_killed(self, local: Local) -> None:
        written = local.start(plugins=True)
        os.kill(written["pid"], signal.SIGKILL)
        until(lambda: not runs(written))
        assert "daemon.json" in local.left()
        assert local.refused("status") == "localcloud: daemon: does not run. Run `make up` to start it."
        local("stop")
        assert local.left() == []

    def test_a_start_after_a_kill_waits_for_the_new_daemon(self, local: Local) -> None:
        first = local.start()
        os.kill(first["pid"], signal.SIGKILL)
        until(lambda: not runs(first))
        second = local.start()
        assert (second["pid"], second["epoch"]) != (first["pid"], first["epoch"])
        assert json.loads(local("status", "--json"))["pid"] == second["pid"]

    def test_a_stop_ends_a_daemon_that_is_just_starting(self, local: Local) -> None:
        command = [sys.executable, "-m", "localcloud", "--state", str(local.state), "serve", "--no-machines"]
        with (
            subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as daemon,
            contextlib.ExitStack() as ended,
        ):
            # Where something fails below, the test must not wait for a daemon that goes on.
            ended.callback(daemon.kill)
            lock = local.state / "daemon.lock"
            until(lambda: lock.exists() and lock.read_text() == str(daemon.pid))
            assert not (local.state / "daemon.json").exists()
            assert f"already run (process {daemon.pid})" in local.refused("start", "--no-machines")
            local("stop")
            assert daemon.wait(timeout=10) == 0
        assert local.left() == []

    def test_a_start_clears_up_after_a_daemon_that_was_killed(self, local: Local) -> None:
        first = local.start()
        os.kill(first["pid"], signal.SIGKILL)
        until(lambda: not runs(first))
        (local.state / "machines" / "left").mkdir(parents=True)
        local.start()
        assert not (local.state / "machines" / "left").exists()

    def test_a_daemon_that_cannot_start_says_why(self, local: Local) -> None:
        local.state.mkdir()
        (local.state / "control.sock").mkdir()
        done = local.run("start", "--no-machines", "--no-plugins")
        assert done.returncode == 1
        assert "daemon: did not start" in done.stderr
        assert "IsADirectoryError" in done.stderr
        (local.state / "control.sock").rmdir()

    def test_a_relative_state_folder_is_below_the_working_folder_of_the_user(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local: Local
    ) -> None:
        written = local.start()
        monkeypatch.chdir(tmp_path)
        assert cli.main(["--state", "state", "status"]) == 0
        assert cli.main(["--state", "state", "stop"]) == 0
        assert not runs(written)

    def test_a_process_with_the_daemons_old_id_is_not_ended(self, local: Local) -> None:
        with subprocess.Popen(["sleep", "60"]) as other:
            local.state.mkdir()
            stale = {"pid": other.pid, "started": "1", "namespace": None}
            (local.state / "daemon.json").write_text(json.dumps(stale))
            local("stop")
            assert other.poll() is None
            other.kill()
        assert local.left() == []


class TestControl:
    @pytest.fixture
    def control(self, tmp_path: Path) -> Iterator[Path]:
        """A control socket in a folder with a path that is longer than a socket's may be."""
        folder = tmp_path / ("long" * 40)
        folder.mkdir()

        def break_down() -> None:
            raise RuntimeError("no nft\nhere")

        daemon = SimpleNamespace(
            faults=Faults(), options=SimpleNamespace(machines=False), namespace=SimpleNamespace(heal=break_down)
        )
        server = ControlServer(folder / "control.sock", cast(Daemon, daemon))
        server.start()
        yield folder / "control.sock"
        server.stop()
        assert not (folder / "control.sock").exists()

    def test_a_long_path_works(self, control: Path) -> None:
        assert ask(control, "faults", timeout=10) == []

    def test_a_command_that_breaks_is_reported_and_the_next_one_is_answered(self, control: Path) -> None:
        with pytest.raises(ControlError, match="RuntimeError: no nft"):
            ask(control, "heal", timeout=10)
        assert ask(control, "fault", timeout=10, spec="dns drop") == "dns drop"

    def test_nonsense_does_not_end_it(self, control: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(10)
            folder = os.open(control.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                client.connect(f"/proc/self/fd/{folder}/{control.name}")
            finally:
                os.close(folder)
            client.sendall(b"{")
            client.shutdown(socket.SHUT_WR)
            assert client.recv(10) == b""
        assert ask(control, "faults", timeout=10) == []


class TestApps:
    @staticmethod
    def get(app: Any, **environ: str) -> tuple[str, bytes]:
        replies: list[str] = []
        body = b"".join(app(environ, lambda status, headers: replies.append(status)))
        return replies[0][:3], body

    def test_a_host_below_a_known_one_is_its_own(self) -> None:
        def aws(environ: Any, start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            return [b"aws"]

        app = by_host({"amazonaws.com": aws})
        for host in ("amazonaws.com", "ec2.us-west-2.amazonaws.com:443", "SSM.amazonaws.com"):
            assert self.get(app, HTTP_HOST=host) == ("200", b"aws")
        for host in ("evilamazonaws.com", "amazonaws.com.example", ""):
            assert self.get(app, HTTP_HOST=host) == ("421", b"")

    def test_files_come_from_their_folder_alone(self, tmp_path: Path) -> None:
        folder = tmp_path / "repository"
        folder.mkdir()
        (folder / "a.deb").write_bytes(b"package")
        (tmp_path / "secret").write_bytes(b"secret")
        app = files(folder)
        assert self.get(app, PATH_INFO="/debian/pool/a.deb") == ("200", b"package")
        for path in ("/../secret", "/secret", "/", "/.."):
            assert self.get(app, PATH_INFO=path) == ("404", b"")

    def test_each_release_has_its_own_repository(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        for release in SUITES:
            current(release).repository.mkdir(parents=True)
            (current(release).repository / "Packages").write_text(release)
        app = repositories()
        assert self.get(app, PATH_INFO="/./Packages") == ("200", b"debian-12")
        assert self.get(app, PATH_INFO="/debian-13/./Packages") == ("200", b"debian-13")
        assert self.get(app, PATH_INFO="/debian-13/a.deb") == ("404", b"")
        offered = tmp_path / "offered"
        (offered / "debian-13").mkdir(parents=True)
        (offered / "debian-13" / "Packages").write_text("more")
        app = repositories(offered)
        assert self.get(app, PATH_INFO="/./Packages") == ("200", b"debian-12")
        assert self.get(app, PATH_INFO="/debian-13/./Packages") == ("200", b"more")
