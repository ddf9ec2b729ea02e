"""A workload with a secret, by the real engine on booted machines of both clouds: `up`, an empty `preview`, no secret anywhere, and a
rotation that restarts one machine after the other."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.integration.conftest import sandboxed, wait_until
from tests.integration.log_inspection import Arguments, Logs, config_file
from tests.integration.test_secrets import Searched, found

pytestmark = [pytest.mark.machines, pytest.mark.engine]
KEY = "rollcall:workloads.shop.secrets.DATABASE_URL"
# Of this run: the repository is searched as well.
FIRST, SECOND = (f"postgres://shop:{secrets.token_hex(16)}@db.example/shop" for _ in range(2))
APP = """#!/usr/bin/python3
import hashlib, http.server, os, pathlib

SECRET = pathlib.Path(os.environ["CREDENTIALS_DIRECTORY"], "DATABASE_URL").read_bytes()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{hashlib.sha256(SECRET).hexdigest()} {os.getpid()}".encode())

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("", 4218), Handler).serve_forever()
"""
STACK = """\
config:
  aws:region: us-west-2
  rollcall:drainDelay: 2
  rollcall:rotationTrigger: "{rotate}"
  rollcall:serviceDiscovery: {{ zone: unilans.net, services: {{ theService: {{ port: 4218, ttl: 5, incarnations: {{ v1: {{}} }} }} }} }}
  rollcall:workloads:
    shop: {{ files: {files}, run: ./start, check: {{ http: ":4218/" }} }}
  rollcall:fleets:
    web-aws: {{ cloud: aws, count: 2, size: t3.micro, image: debian-12, runs: [shop], joins: [theService/v1] }}
    web-joyent: {{ cloud: joyent, count: 2, size: g1.micro, image: debian-12, runs: [shop], joins: [theService/v1] }}
"""


class Shop(Searched):
    files: Path

    def set_up(self, secret: str, rotate: str = "") -> None:
        """Set what the next `up` deploys."""
        self.config.write_text(STACK.format(files=self.files, rotate=rotate))
        self.sandbox.write_config()
        self.secret(secret)

    def secret(self, value: str, *options: str) -> None:
        """`pulumi config set`, with the value from standard input."""
        subprocess.run(
            ["pulumi", "config", "set", *(options or ("--secret",)), "--path", KEY, "--stack", "local"],
            cwd=self.sandbox.work,
            env={**os.environ, **self.sandbox.environment()},
            input=value,
            text=True,
            check=True,
        )

    def apps(self) -> dict[str, str]:
        """What the app of each machine answers (the hash of its secret and its process), by the machine's name; empty where it does
        not."""
        return {each["name"]: self._app(each["addresses"][0]) for each in self.machines("web-")}

    def started(self, machine: str) -> float:
        """When a machine last started the app, in seconds of the computer's clock since its boot."""
        words = ("systemctl", "show", "-p", "ExecMainStartTimestampMonotonic", "--value", "workload-shop.service")
        return int(self.inside(machine, *words)) / 1e6

    def _app(self, address: str) -> str:
        try:
            with contextlib.closing(self._namespace.connect((address, 4218), timeout=2)) as call:
                call.settimeout(2)
                call.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return call.makefile("rb").read().rpartition(b"\r\n\r\n")[2].decode()
        except OSError:
            return ""

    def machine_settings(self) -> dict[str, str]:
        """The machine setting of each EC2 machine, by the machine's id."""
        reservations = self.ec2.describe_instances()["Reservations"]
        return {
            each["InstanceId"]: tag["Value"]
            for reservation in reservations
            for each in reservation["Instances"]
            for tag in each.get("Tags", ())
            if tag["Key"] == "rollcall-secrets-shop"
        }


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with TemporaryDirectory() as folder:
        files = Path(folder, "shop")
        files.mkdir()
        (files / "start").write_text(APP)
        (files / "start").chmod(0o755)
        config = config_file(Path(folder), STACK.format(files=files, rotate=""))
        with (
            Arguments().recorded() as arguments,
            sandboxed("secretive", config) as sandbox,
            Logs(sandbox) as logs,
        ):
            made = Shop(sandbox)
            made.config, made.files, made.arguments, made.logs = config, files, arguments, logs
            made.output, made.secrets = "", {"first": FIRST, "second": SECOND}
            yield made


def hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def test_a_secret_in_plain_text_is_refused_and_nothing_is_made(shop: Shop) -> None:
    shop.secret("a-plain-value", "--plaintext")
    done = shop.sandbox.pulumi("preview", "--stack", "local", capture=True, check=False)
    fault = (
        f"{KEY}: is in plain text. Run `pulumi config set --secret --path '{KEY}'` with another value than this one."
    )
    assert done.returncode and fault in done.stdout + done.stderr, done.stdout + done.stderr
    assert "a-plain-value" not in done.stdout + done.stderr


def test_each_machine_has_the_secret_and_a_preview_after_up_is_empty(shop: Shop) -> None:
    shop.set_up(FIRST)
    shop.output += shop.run_with_output("up")
    answers = shop.apps()
    assert len(answers) == 4 and {each.split()[0] for each in answers.values()} == {hashed(FIRST)}, answers
    shop.sandbox.pulumi("preview", "--stack", "local", "--expect-no-changes", capture=True)


def test_no_secret_of_a_workload_is_anywhere(shop: Shop) -> None:
    assert shop.kept("shop.DATABASE_URL") == FIRST
    assert found({"first": FIRST}, [("a plant", f"x{FIRST}".encode())]) == ["first in a plant"]
    assert found(shop.secrets, [*shop.places(), *shop.on_machines()]) == []


def test_another_value_restarts_one_machine_after_the_other(shop: Shop) -> None:
    before, machines = shop.apps(), shop.in_state()
    shop.set_up(SECOND)
    failing: list[int] = []

    def all_have_it() -> bool:
        answers = shop.apps()
        failing.append(sum(not each for each in answers.values()))
        return sum(each.startswith(hashed(SECOND)) for each in answers.values()) == 4

    # The first one may restart while `up` runs.
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(shop.run_with_output, "up")
        wait_until("all have the new value", all_have_it, 300, every=0.25)
        shop.output += running.result()
    assert shop.in_state() == machines, "it is applied in place"
    # What systemd of each machine says, by the clock that they share: a busy computer observes two restarts at the same time.
    started = {each["name"]: shop.started(each["id"]) for each in shop.machines("web-")}
    assert min(later - one for one, later in itertools.pairwise(sorted(started.values()))) > 10, started
    assert max(failing) <= 1, failing
    assert {name: answer.split()[1] for name, answer in shop.apps().items()} != {
        name: answer.split()[1] for name, answer in before.items()
    }
    shop.sandbox.pulumi("preview", "--stack", "local", "--expect-no-changes", capture=True)


def test_a_rotation_is_another_revision_of_the_same_value(shop: Shop) -> None:
    before, machines = shop.machine_settings(), shop.in_state()
    shop.set_up(SECOND, rotate="2026-11")
    shop.output += shop.run_with_output("up")
    after = shop.machine_settings()
    assert shop.in_state() == machines and len(after) == 2 and after.keys() == before.keys()
    assert all(after[each].split()[0] != before[each].split()[0] for each in after), (before, after)
    assert [json.dumps(each.split()[1:]) for each in after.values()] == [
        json.dumps(each.split()[1:]) for each in before.values()
    ]
    shop.sandbox.pulumi("preview", "--stack", "local", "--expect-no-changes", capture=True)


def test_no_secret_of_a_workload_is_anywhere_after_rotations_and_destroy(shop: Shop) -> None:
    assert found(shop.secrets, [*shop.places(), *shop.on_machines()]) == []
    shop.output += shop.run_with_output("destroy")
    assert found(shop.secrets, shop.places()) == []
    assert shop.parameters() == []
