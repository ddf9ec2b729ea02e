"""The local CloudAPI behind HTTP, npm's `triton` and a signer of our own as its clients."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import requests
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from localcloud.machines.compute import InstantHypervisor, Machine, Observer
from localcloud.network.faults import Faults
from localcloud.network.http import Server, listen
from localcloud.triton import CloudApi
from tests.cloud.triton_client import HURRY, Resident

ACCOUNT = "rollcall"
_HASHES: dict[str, Callable[[], hashes.HashAlgorithm]] = {
    "sha1": hashes.SHA1,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class Front:
    """One HTTP server for a whole file of tests; each test has its own cloud behind it."""

    def __init__(self) -> None:
        self.cloud: CloudApi | None = None
        self._socket = listen("127.0.0.1")
        self._server = Server(self._serve, [self._socket])
        self._server.start()
        self.url = f"http://127.0.0.1:{self._server.ports[0]}"
        self.http = requests.Session()

    def _serve(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        assert self.cloud is not None
        return self.cloud.app(environ, start_response)

    def stop(self) -> None:
        self.http.close()
        self._server.stop()
        self._socket.close()


@dataclass
class Signer:
    """Signs as a test configures it. `key_id` is the one in the header."""

    key: PrivateKey
    key_id: str
    algorithm: str = ""
    names: str = "(request-target) date"
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        if not self.algorithm:
            usual = {rsa.RSAPrivateKey: "rsa-sha256", ec.EllipticCurvePrivateKey: "ecdsa-sha256"}
            self.algorithm = next(
                (name for kind, name in usual.items() if isinstance(self.key, kind)), "ed25519-sha512"
            )

    def sign(self, text: str) -> str:
        digest = _HASHES[self.algorithm.partition("-")[2].lower()]()
        if isinstance(self.key, rsa.RSAPrivateKey):
            made = self.key.sign(text.encode(), padding.PKCS1v15(), digest)
        elif isinstance(self.key, ec.EllipticCurvePrivateKey):
            made = self.key.sign(text.encode(), ec.ECDSA(digest))
        else:
            made = self.key.sign(text.encode())
        return base64.b64encode(made).decode()

    def headers(self, method: str, target: str, given: dict[str, str]) -> dict[str, str]:
        sent = {"Date": formatdate(self.clock(), usegmt=True), **given}
        known = {name.lower(): value for name, value in sent.items()}
        known["(request-target)"] = f"{method.lower()} {target}"
        text = "\n".join(f"{name}: {known[name]}" for name in self.names.split())
        parameters = f'keyId="{self.key_id}",algorithm="{self.algorithm}",headers="{self.names}"'
        return {**sent, "Authorization": f'Signature {parameters},signature="{self.sign(text)}"'}


def public_text(key: PrivateKey) -> str:
    written = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return written.decode()


def private_text(key: PrivateKey) -> bytes:
    form = serialization.PrivateFormat.OpenSSH
    if isinstance(key, rsa.RSAPrivateKey):
        form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


class ManualHypervisor:
    """Writes down what it is asked for; nothing happens until a test says so, but with `obedient` at once."""

    def __init__(self, obedient: bool = True) -> None:
        self.calls: list[str] = []
        self.guests: dict[str, Machine] = {}
        self.observer: Observer | None = None
        self.obedient = obedient

    def boot(self, machine: Machine, observer: Observer) -> None:
        self.calls.append("boot")
        self.guests[machine.id], self.observer = machine, observer
        if self.obedient:
            observer.running(machine.id)

    def shut_down(self, machine_id: str) -> None:
        self.calls.append("shut down")
        if self.obedient and self.observer:
            self.observer.stopped(machine_id)

    def reboot(self, machine_id: str) -> None:
        self.calls.append("reboot")
        if self.obedient and self.observer:
            self.observer.running(machine_id)

    def cut_power(self, machine_id: str) -> None:
        self.calls.append("cut power")
        if self.observer:
            self.observer.stopped(machine_id)

    def remove(self, machine_id: str) -> None:
        self.calls.append("remove")


RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass
class Lab:
    """A new local CloudAPI with one key, over HTTP."""

    front: Front
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.faults = Faults()
        self.hypervisor = self.options.pop("hypervisor", None) or InstantHypervisor()
        options = {"job_delay": 0.0, "throttle": None, **self.options}
        self.cloud = CloudApi(account=ACCOUNT, hypervisor=self.hypervisor, faults=self.faults, **options)
        self.front.cloud = self.cloud
        self.url = self.front.url
        self.fingerprint = self.cloud.add_key("operator", public_text(RSA_KEY))
        self.signer = Signer(RSA_KEY, f"/{ACCOUNT}/keys/{self.fingerprint}")

    def raw(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        signer: Signer | None = None,
        account: str = ACCOUNT,
        data: bytes | None = None,
    ) -> requests.Response:
        """A signed request, below the account."""
        target = f"/{account}{path}" + (f"?{urlencode(query)}" if query else "")
        given = {"Accept": "application/json", "Accept-Version": "~9||~8", **(headers or {})}
        if body is not None:
            data = json.dumps(body).encode()
            given = {"Content-Type": "application/json", **given}
        sent = (signer or self.signer).headers(method, target, given)
        return self.front.http.request(
            method, self.url + target, data=data, headers=sent, timeout=10, allow_redirects=False
        )

    def get(self, path: str, **query: Any) -> Any:
        response = self.raw("GET", path, query=query)
        assert response.status_code in (200, 410), response.text
        return response.json()

    def post(self, path: str, body: Any, status: int = 200) -> Any:
        response = self.raw("POST", path, body)
        assert response.status_code == status, response.text
        return response.json() if response.content else None

    def create(self, **fields: Any) -> Any:
        """A machine of the least size, still provisioning."""
        usual = {"package": "g1.nano", "image": self.image("debian-12")}
        return self.post("/machines", {**usual, **fields}, 201)

    def running(self, **fields: Any) -> Any:
        made = self.create(**fields)
        return self.until(made["id"], "running")

    def until(self, machine: str, state: str) -> Any:
        return wait(lambda: found if (found := self.get(f"/machines/{machine}"))["state"] == state else None)

    def act(self, machine: str, action: str, **values: Any) -> None:
        response = self.raw("POST", f"/machines/{machine}", {"action": action, **values})
        assert (response.status_code, response.content) == (202, b""), response.text

    def image(self, name: str) -> str:
        found = self.get("/images", name=name, state="all")
        return str(max(found, key=lambda image: image["version"])["id"])

    def network(self, name: str) -> str:
        return next(str(each["id"]) for each in self.get("/networks") if each["name"] == name)

    def refused(self, method: str, path: str, body: Any, status: int, code: str, **options: Any) -> dict[str, Any]:
        """The request must be refused so; the body of the refusal."""
        response = self.raw(method, path, body, **options)
        error: dict[str, Any] = response.json()
        assert (response.status_code, error.get("code")) == (status, code), response.text
        return error


@dataclass
class Triton:
    """The official client, with a key in the `.ssh` of its own home. With `resident` one process runs all commands that
    must succeed; each one that may fail has its own, and its exit status decides."""

    program: Path
    home: Path
    lab: Lab
    key: PrivateKey = RSA_KEY
    resident: Resident | None = None

    def __post_init__(self) -> None:
        ssh = self.home / ".ssh"
        ssh.mkdir(mode=0o700, exist_ok=True)
        (ssh / "id_test").write_bytes(private_text(self.key))
        (ssh / "id_test").chmod(0o600)
        (ssh / "id_test.pub").write_text(public_text(self.key) + "\n")

    def environ(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TRITON_URL": self.lab.url,
            "TRITON_ACCOUNT": ACCOUNT,
            "TRITON_KEY_ID": self.lab.fingerprint,
            "TRITON_PROFILE": "env",
        }

    def __call__(self, *words: str, check: bool = True, **environ: str) -> subprocess.CompletedProcess[str]:
        if self.resident and check and not environ:
            done = self.resident.run(*words)
        else:
            done = subprocess.run(
                ["node", "-r", str(HURRY), str(self.program), *words],
                env={**self.environ(), **environ},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def json(self, *words: str) -> Any:
        """What it prints: one object, or one on each line."""
        printed = self(*words).stdout.strip()
        try:
            return json.loads(printed)
        except ValueError:
            return [json.loads(line) for line in printed.splitlines()]


def wait(probe: Callable[[], Any], seconds: float = 10.0) -> Any:
    """What `probe` gives as soon as it gives something."""
    end = time.monotonic() + seconds
    while not (found := probe()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return found
