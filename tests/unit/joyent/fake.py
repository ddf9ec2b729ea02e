"""A CloudAPI in memory, behind the client's real HTTP and signature code, with only the rules that a unit test needs.

Jobs take `pace` reads of the machine (or lists) before they are done. `calls` is what was asked, as `METHOD /path`.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from requests.adapters import BaseAdapter

from components.joyent.client import CloudApi
from components.joyent.credentials import Credentials
from components.joyent.pacing import RateLimiter
from components.joyent.session import Session
from components.joyent.transport import Transport
from tests.hurried import Hurried
from tests.unit.joyent.fake_things import GONE, Answer, FakeThings

PEM = (
    ed25519.Ed25519PrivateKey.generate()
    .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    .decode()
)
PUBLIC, PRIVATE, POOL, MEMBER = (
    str(uuid.uuid5(uuid.NAMESPACE_DNS, name)) for name in ("public", "private", "pool", "member")
)
IMAGES = [
    {"id": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}{version}")), "name": name, "version": version, "os": "linux",
     "type": "lx-dataset", "state": state, "published_at": f"{version[:4]}-01-01T00:00:00Z", "requirements": {"min_ram": least}}
    for name, version, state, least in (
        ("debian-12", "20261101", "active", 512), ("debian-12", "20250101", "active", 512), ("large", "20260101", "active", 4096),
        ("old", "20200101", "disabled", 0), ("twin", "20260101", "active", 0),
    )
]  # fmt: skip
# The image of a virtual machine.
IMAGES.append({**IMAGES[-1], "id": str(uuid.uuid5(uuid.NAMESPACE_DNS, "vm")), "name": "vm", "type": "zvol"})
PACKAGES = [
    {
        "id": str(uuid.uuid5(uuid.NAMESPACE_DNS, name)),
        "name": name,
        "memory": memory,
        "disk": 10240,
        "swap": 0,
        "vcpus": 1,
        "version": "1.0.0",
    }
    for name, memory in (("g1.nano", 512), ("g1.micro", 1024), ("g1.small", 2048))
]
NETWORKS = [
    {"id": PUBLIC, "name": "Joyent-SDC-Public", "public": True},
    {"id": PRIVATE, "name": "Joyent-SDC-Private", "public": False},
    {"id": POOL, "name": "pool", "public": False},
]


class FakeCloud(BaseAdapter):
    def __init__(self) -> None:
        super().__init__()
        self.machines: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.pace = 1
        self.cns = False
        self.faults: list[tuple[str, Callable[[], Answer | None]]] = []
        self.failing = False
        self.hide_packages = False
        self.things = FakeThings()
        self._lock = threading.Lock()

    # Wiring

    def session(self) -> Session:
        given_settings = Credentials(url="http://cloudapi.test", account="rollcall", key_material=PEM)
        transport = Transport(
            given_settings, limiter=RateLimiter(burst=10_000), sleep=lambda _: None, environ={}, adapter=self
        )
        return Hurried(CloudApi(transport), longest=0.0)

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        assert request.headers["Authorization"].startswith('Signature keyId="/rollcall/keys/')
        parts = urlsplit(str(request.url))
        path = parts.path.removeprefix("/rollcall")
        call = f"{request.method} {path}"
        body = json.loads(request.body) if request.body else {}
        self.calls.append(call)
        self.bodies.append(body)
        with self._lock:
            status, answer = self._answer(call, path, dict(parse_qsl(parts.query)), body)
        response = requests.Response()
        response.status_code, response.request, response.url = status, request, str(request.url)
        response._content = b"" if answer is None else json.dumps(answer).encode()
        return response

    def close(self) -> None:
        pass

    def fault(self, call: str, answer: Callable[[], Answer | None]) -> None:
        """The next request that is `call` gets this answer; None: it is carried out and its reply is lost."""
        self.faults.append((call, answer))

    def count(self, call: str) -> int:
        return sum(each == call for each in self.calls)

    def _answer(self, call: str, path: str, query: Mapping[str, str], body: dict[str, Any]) -> Answer:
        fault = next((each for each in self.faults if each[0] == call), None)
        if fault is not None:
            self.faults.remove(fault)
            given = fault[1]()
            if given is not None:
                return given
        method, words = call.split()[0], [unquote(word) for word in path.split("/")[1:]]
        answer = self._route(method, words, query, body)
        if fault is not None:
            raise requests.ConnectionError("the reply was lost")
        return answer

    def _route(self, method: str, words: list[str], query: Mapping[str, str], body: dict[str, Any]) -> Answer:
        match method, words:
            case "GET", []:
                return 200, {"id": "a", "login": "rollcall", "email": "a@example.com", "triton_cns_enabled": self.cns}
            case "GET", ["images"] if query.get("state") == "active":
                return 200, [image for image in IMAGES if image["state"] == "active"]
            case "GET", ["images", image] if any(each["id"] == image for each in IMAGES):
                return 200, next(each for each in IMAGES if each["id"] == image)
            case "GET", ["packages"]:
                return 200, PACKAGES
            case "GET", ["volumes"]:
                return 200, [{"name": "data"}]
            case "GET", ["networks"]:
                return 200, NETWORKS
            case "GET", ["machines"]:
                self._work()
                return 200, self._listed(query)
            case "POST", ["machines"]:
                return self._create(body)
            case _, ["machines", _, "snapshots", *_]:
                return self.things.route(method, words, body)
            case _, ["machines", machine, *rest]:
                return self._machine(method, machine, rest, body)
            case "GET", ["datacenters"]:
                return 200, {"here": "http://cloudapi.test", "there": "https://there.example"}
        return self.things.route(method, words, body)

    def _listed(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        offset, limit = int(query["offset"]), int(query["limit"])
        found = [each for each in self.machines.values() if each["state"] not in ("failed", "deleted")]
        return [_shown(each) for each in found if query.get("name") in (None, each["name"])][offset : offset + limit]

    def _create(self, body: dict[str, Any]) -> Answer:
        alive = [each for each in self.machines.values() if each["state"] not in ("failed", "deleted")]
        if any(each["name"] == body["name"] for each in alive):
            return 409, {"code": "InvalidArgument", "message": "alias: Duplicate"}
        package = next(each for each in PACKAGES if body["package"] in (each["id"], each["name"]))
        requested = [each["ipv4_uuid"] if isinstance(each, dict) else each for each in body.get("networks", [PUBLIC])]
        networks = [MEMBER if each == POOL else each for each in requested]
        machine = {
            "id": str(uuid.uuid4()), "name": body["name"], "state": "provisioning", "brand": "lx", "image": body["image"],
            "package": package["name"], "memory": package["memory"], "ips": [], "networks": [],
            "tags": {key[4:]: value for key, value in body.items() if key.startswith("tag.")},
            "metadata": {key[9:]: value for key, value in body.items() if key.startswith("metadata.")},
            "firewall_enabled": body.get("firewall_enabled", False), "deletion_protection": body.get("deletion_protection", False),
        }  # fmt: skip
        machine["metadata"]["root_authorized_keys"] = "ssh-ed25519 AAAA"
        self.machines[machine["id"]] = machine
        count = len(self.machines)
        address = f"203.0.113.{9 + count}" if count < 200 else f"198.18.{count // 250}.{1 + count % 250}"
        done = {"state": "running", "networks": networks, "ips": [address], "primaryIp": address}
        outcome = {"state": "failed"} if self.failing else done
        self._job(machine, lambda: outcome)
        return 201, _shown(machine)

    def _machine(self, method: str, machine_id: str, rest: list[str], body: dict[str, Any]) -> Answer:
        machine = self.machines.get(machine_id)
        if machine is None:
            return GONE
        self._work()
        if machine["state"] == "deleted":
            return 410, _shown(machine)
        match method, rest:
            case "GET", []:
                return 200, {**_shown(machine), **({"package": ""} if self.hide_packages else {})}
            case "GET", ["audit"]:
                return 200, [
                    {"action": "provision", "success": "no", "time": "2026-11-23", "error": "no server has room"}
                ]
            case "POST", []:
                return self._act(machine, body)
            case "DELETE", []:
                if machine["deletion_protection"]:
                    return 409, {"code": "InvalidArgument", "message": "deletion_protection is enabled"}
                machine["cut"] = machine["state"] == "running"
                self._job(machine, lambda: {"state": "deleted"})
                return 204, None
            case "POST", ["tags" | "metadata" as kind]:
                self._job(machine, lambda: {kind: {**machine[kind], **body}})
                return 200, {**machine[kind], **body}
            case "DELETE", ["tags" | "metadata" as kind, key]:
                if key not in machine[kind]:
                    return GONE
                self._job(
                    machine, lambda: {kind: {each: value for each, value in machine[kind].items() if each != key}}
                )
                return 204, None
            case _, ["nics", *mac]:
                return self._nics(method, machine, mac, body)
        return GONE

    def _nics(self, method: str, machine: dict[str, Any], mac: list[str], body: dict[str, Any]) -> Answer:
        networks = machine["networks"]
        if method == "GET" and not mac:
            return 200, [{"mac": _mac(each), "network": each, "state": "running"} for each in networks]
        if method == "POST" and not mac:
            requested = body["network"]["ipv4_uuid"] if isinstance(body["network"], dict) else body["network"]
            machine["networks"] = [*networks, MEMBER if requested == POOL else requested]
            return 201, {"mac": _mac(machine["networks"][-1]), "state": "provisioning"}
        found = [each for each in networks if _mac(each).replace(":", "") in mac]
        if method == "DELETE" and found:
            machine["networks"] = [each for each in networks if each not in found]
            return 204, None
        return (200, {"mac": mac[0], "network": found[0], "state": "running"}) if method == "GET" and found else GONE

    def _act(self, machine: dict[str, Any], body: dict[str, Any]) -> Answer:
        package = next((each for each in PACKAGES if each["id"] == body.get("package")), {})
        done: dict[str, dict[str, Any]] = {
            "start": {"state": "running"},
            "stop": {"state": "stopped"},
            "rename": {"name": body.get("name")},
            "resize": {"package": package.get("name"), "memory": package.get("memory")},
            **{f"{verb}_firewall": {"firewall_enabled": verb == "enable"} for verb in ("enable", "disable")},
            **{
                f"{verb}_deletion_protection": {"deletion_protection": verb == "enable"}
                for verb in ("enable", "disable")
            },
        }
        self._job(machine, lambda: done[str(body["action"])])
        return 202, None

    def _job(self, machine: dict[str, Any], done: Callable[[], dict[str, Any]]) -> None:
        machine.setdefault("jobs", []).append([self.pace, done])

    def _work(self) -> None:
        for machine in self.machines.values():
            for job in list(machine.get("jobs", ())):
                job[0] -= 1
                if job[0] < 0:
                    machine.update(job[1]())
                    machine["jobs"].remove(job)


def _shown(machine: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in machine.items() if key not in ("jobs", "cut")}


def _mac(network: str) -> str:
    return "90:b8:" + ":".join(network.replace("-", "")[at : at + 2] for at in range(0, 8, 2))
