"""Random mutation of what parses foreign input: the tests run each target for a moment, `make bench-fuzz` for a minute.

A target takes a stream of chance and feeds its parser with something between right and rubbish. It raises what should not have
come out. A finding is repeated with its seed: `FUZZ_SEED=1234 pytest tests/unit/test_fuzz.py -k NAME`.
"""

from __future__ import annotations

import contextlib
import copy
import json
import random
import re
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dns.message
import dns.rrset
import requests

from components.config.errors import ConfigurationError
from components.config.reader import read
from components.joyent.errors import CloudApiError
from components.joyent.records import ImageRecord, MachineRecord, NetworkRecord, PackageRecord
from rollcall import resolve
from rollcall.cloudflare import CloudflareStore
from rollcall.errors import RollcallError
from rollcall.ownership import Owner
from rollcall.settings import MachineSettings, SettingsError
from rollcall.unit_files import UnitFileError, read_unit

Target = Callable[[random.Random], None]
TEXTS = (
    "",
    " ",
    "\0",
    "a",
    "ü",
    "rollcall/1",
    "-",
    ".",
    "..",
    "1",
    "-1",
    "1e999",
    "٣",
    "²",
    "null",
    "\\",
    '"',
    "=",
    "\n",
    "x" * 300,
)
VALUES: tuple[Any, ...] = (None, True, False, 0, -1, 1, 2**63, 1e308, float("nan"), [], {}, [None], {"a": None}, *TEXTS)


def mutated_bytes(given: bytes, dice: random.Random) -> bytes:
    """A few bytes changed, dropped, doubled or added."""
    found = bytearray(given)
    for _ in range(dice.choice((0, 1, 1, 2, 4, 16))):
        at = dice.randrange(len(found) + 1)
        match dice.randrange(5):
            case 0 if at < len(found):
                found[at] = dice.choice((0, 1, 0x7F, 0x80, 0xC0, 0xFF, dice.randrange(256)))
            case 1:
                found[at:at] = bytes(dice.randrange(256) for _ in range(dice.randrange(1, 9)))
            case 2:
                del found[at : at + dice.randrange(1, 9)]
            case 3:
                found = found[:at]
            case _:
                piece = found[at : at + dice.randrange(1, 40)]
                found[at:at] = piece
    return bytes(found)


def mutated_text(given: str, dice: random.Random) -> str:
    if dice.randrange(8) == 0:
        return dice.choice(TEXTS)
    cut, end = sorted(dice.randrange(len(given) + 1) for _ in range(2))
    match dice.randrange(4):
        case 0:
            return given[:cut] + dice.choice(TEXTS) + given[cut:]
        case 1:
            return given[:cut] + given[end:]
        case 2:
            return (
                given[:cut]
                + chr(dice.choice((0, 10, 32, 127, 0x661, 0x2028, 0xFFFD, dice.randrange(32, 127))))
                + given[cut + 1 :]
            )
        case _:
            return given


def mutated_value(given: Any, dice: random.Random) -> Any:
    """A JSON value with something of it changed, somewhere."""
    if dice.randrange(10) == 0:
        return copy.deepcopy(dice.choice(VALUES))
    if isinstance(given, dict) and given:
        key = dice.choice(list(given))
        rest = {other: value for other, value in given.items() if other != key}
        match dice.randrange(6):
            case 0:
                return rest
            case 1:
                return {**rest, mutated_text(key, dice): given[key]}
            case _:
                return {**rest, key: mutated_value(given[key], dice)}
    if isinstance(given, list) and given:
        at = dice.randrange(len(given))
        if dice.randrange(6) == 0:
            return given[:at] + given[at:] * 2
        return [*given[:at], mutated_value(given[at], dice), *given[at + 1 :]]
    if isinstance(given, str):
        return mutated_text(given, dice)
    return given if dice.randrange(3) else copy.deepcopy(dice.choice(VALUES))


def several(mutate: Callable[[Any, random.Random], Any], given: Any, dice: random.Random) -> Any:
    for _ in range(dice.choice((1, 1, 1, 2, 3, 8))):
        given = mutate(given, dice)
    return given


OWNER = "rollcall/1 local web-aws 0 ab12cd i-0123456789abcdef0"


def ownership(dice: random.Random) -> None:
    text = several(mutated_text, OWNER, dice)
    owner = Owner.parse(text)
    assert owner is None or (str(owner) == text and len(text) <= 100), (text, owner)


@dataclass(frozen=True)
class Text:
    strings: tuple[bytes, ...]


def txt(dice: random.Random) -> None:
    records = [
        Text(
            tuple(
                mutated_bytes(dice.choice((b"path=/", b"=", b"a", b"K=v=w", b"\xff=\xff")), dice)
                for _ in range(dice.randrange(4))
            )
        )
        for _ in range(dice.randrange(3))
    ]
    for key, value in resolve.pairs(records).items():
        assert key and key == key.lower() and "=" not in key and key.isascii() and key.isprintable(), key
        assert value is None or isinstance(value, str)


SERVICE = "_theService._tcp.unilans.net"
QUESTIONS = (
    ("SRV", f"v1.{SERVICE}", ["10 10 4218 aaaaaa.rc.unilans.net.", "10 20 4218 bbbbbb.rc.unilans.net."]),
    ("PTR", SERVICE, [f"v1.{SERVICE}.", f"v2-1.{SERVICE}."]),
    ("TXT", f"v1.{SERVICE}", ['"path=/" "a"']),
    ("A", "aaaaaa.rc.unilans.net", ["198.51.100.10"]),
)


def answer_to(rtype: str, name: str, values: list[str]) -> bytes:
    reply = dns.message.make_response(dns.message.make_query(name, rtype, use_edns=0))
    reply.answer.append(dns.rrset.from_text(f"{name}.", 30, "IN", rtype, *values))
    if rtype == "SRV":
        reply.additional.append(dns.rrset.from_text("aaaaaa.rc.unilans.net.", 30, "IN", "A", "198.51.100.10"))
    return reply.to_wire()


ANSWERS = [answer_to(*each) for each in QUESTIONS]


def dns_answers(dice: random.Random) -> None:
    """A resolver that says anything: the client finds something, or says in one line why not."""

    def exchange(_: tuple[str, int], query: bytes, timeout: float, over_tcp: bool) -> bytes:
        if over_tcp and dice.randrange(2):
            raise TimeoutError
        kind = struct.unpack("!H", query[-15:-13])[0]
        right = next((each for each in ANSWERS if struct.pack("!H", kind) in each), ANSWERS[0])
        wire = mutated_bytes(dice.choice((right, *ANSWERS)), dice)
        # Most of the time it looks as if it were the answer to this question.
        return query[:2] + wire[2:] if dice.randrange(8) else wire

    client = resolve.Client("127.0.0.1:53", exchange=exchange, dice=dice)
    try:
        found = client.discover("theService", "unilans.net", dice.choice(("v1", "v2", "")))
        assert found.targets and len(list(found.order())) == len(found.targets)
        _ = found.txt
        for each in client.addresses(found.targets[0].host):
            assert isinstance(each, str)
        client.services("unilans.net")
    except RollcallError as fault:
        assert "\n" not in str(fault), fault


RECORD = {
    "id": "r" * 32, "name": "www.scalability.expert", "type": "A", "content": "198.51.100.10", "ttl": 60, "proxied": False,
    "comment": OWNER,
}  # fmt: skip
LISTED = {"success": True, "result": [RECORD, RECORD], "result_info": {"page": 1, "total_pages": 1}}
REFUSED = {"success": False, "errors": [{"code": 81057, "message": "exists"}], "result": None}


class Canned(requests.adapters.BaseAdapter):
    """Answers each request with what it was given."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        super().__init__()
        self.status, self.body, self.headers = status, body, headers
        self.queries = 0

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        self.queries += 1
        if self.queries > 50:
            raise AssertionError("it asks without an end")
        reply = requests.Response()
        reply.status_code, reply._content, reply.request = self.status, self.body, request
        reply.headers.update(self.headers)
        return reply

    def close(self) -> None:
        pass


def cloudflare_replies(dice: random.Random) -> None:
    status = dice.choice((200, 200, 200, 400, 404, 429, 500))
    body = several(mutated_value, LISTED if status == 200 else REFUSED, dice)
    raw = json.dumps(body).encode()
    if dice.randrange(8) == 0:
        raw = mutated_bytes(raw, dice)
    store = CloudflareStore("t", url="http://127.0.0.1:1")
    store._session.mount("http://", Canned(status, raw, {"Retry-After": dice.choice(TEXTS).strip("\0\n")}))
    try:
        for each in store.list("z", "www.scalability.expert"):
            assert isinstance(each.ttl, int) and isinstance(each.comment, str)
        store.delete("z", "r")
    except RollcallError:
        pass


MACHINE = {
    "id": "2f3a", "name": "web-0-ab12cd", "state": "running", "brand": "lx", "image": "i", "package": "g1.nano", "memory": 512,
    "ips": ["203.0.113.10"], "primaryIp": "203.0.113.10", "networks": ["n"], "tags": {"rollcall-stack": "local", "n": 1},
    "metadata": {"rollcall-drain": "true"}, "firewall_enabled": False,
}  # fmt: skip
IMAGE = {
    "id": "i",
    "name": "debian-12",
    "version": "1",
    "os": "linux",
    "type": "lx-dataset",
    "state": "active",
    "requirements": {},
}
PACKAGE = {"id": "p", "name": "g1.nano", "memory": 512, "disk": 1024, "swap": 1, "vcpus": 1}
NETWORK = {"id": "n", "name": "public", "public": True}
RECORDS: tuple[tuple[Any, dict[str, Any]], ...] = (
    (MachineRecord, MACHINE), (ImageRecord, IMAGE), (PackageRecord, PACKAGE), (NetworkRecord, NETWORK),
)  # fmt: skip


def cloudapi_replies(dice: random.Random) -> None:
    """Through the client: what comes out is a record or a CloudApiError."""
    from components.joyent.client import CloudApi

    kind, right = dice.choice(RECORDS)
    body = several(mutated_value, [right, right], dice)

    class Reply:
        def send(self, *_: Any, **__: Any) -> Any:
            return SimpleNamespace(body=body if dice.randrange(4) else several(mutated_value, right, dice))

    client = CloudApi(Reply())  # type: ignore[arg-type]
    asks: dict[Any, list[Callable[[], object]]] = {
        MachineRecord: [client.list_machines, lambda: client.get_machine("2f3a"), lambda: client.create_machine({})],
        ImageRecord: [client.list_images],
        PackageRecord: [client.list_packages],
        NetworkRecord: [client.list_networks],
    }
    with contextlib.suppress(CloudApiError):
        dice.choice(asks[kind])()


CONFIG: dict[str, Any] = {
    "sites": {
        "www": {"zone": "scalability.expert", "ttl": 120, "proxied": True, "protection": "high", "acceleration": True}
    },
    "serviceDiscovery": {
        "zone": "unilans.net",
        "services": {"theService": {"protocol": "tcp", "port": 4218, "incarnations": {"v1": {"txt": {"path": "/"}}}}},
    },
    "fleets": {
        "web-aws": {"cloud": "aws", "count": 2, "size": "t3.micro", "image": "debian-12", "joins": ["site/www"]},
        "api": {"cloud": "joyent", "count": 2, "size": "g1.micro", "image": "debian-12", "joins": ["theService/v1"],
                "ssh": {"keyName": "k"}},
    },
    "joyent": {"url": "https://us-west-1.api.example", "account": "a", "keyId": "b"},
    "drainDelay": 20,
    "safeDeletes": True,
    "resolvers": ["192.0.2.53", "[2001:db8::53]:5353"],
}  # fmt: skip


def configuration(dice: random.Random) -> None:
    """It is read, or every fault has its key and a fix, in lines that a terminal can show."""
    try:
        # What Pulumi gives is a mapping; each key of it may be anything.
        config = {
            key: several(mutated_value, value, dice) if dice.randrange(3) == 0 else value
            for key, value in CONFIG.items()
        }
        read("local", config)
    except ConfigurationError as faults:
        assert "rollcall:" in str(faults), faults


KEYS = {
    "rollcall-stack": "local", "rollcall-fleet": "web-aws", "rollcall-machine": "0", "rollcall-generation": "ab12cd",
    "rollcall-drain": "false", "rollcall-workloads": "site",
    "rollcall-join-0": "cloudflare zone=z host=www.scalability.expert token=t ttl=60 check=http:80:/",
    "rollcall-join-1": "route53 zone=Z domain=unilans.net service=_theService._tcp incarnation=v1 port=4218",
}  # fmt: skip


def metadata(dice: random.Random) -> None:
    """Machine settings are read, or rejected with a message. Then what reads the guest tools' JSON and a settings file."""
    keys = {mutated_text(key, dice) if dice.randrange(6) == 0 else key: value for key, value in KEYS.items()}
    chosen = dice.choice(list(keys))
    keys[chosen] = several(mutated_text, keys[chosen], dice)
    try:
        settings = MachineSettings.from_keys(keys, dice.choice(("", "i-0123456789abcdef0")))
        for join in settings.joins:
            assert isinstance(join.ttl, int)
    except SettingsError as fault:
        assert str(fault)


UNIT = """[Unit]
After=network-online.target
[Service]
Type=notify
ExecStartPre=-./prepare \\
  --all
ExecStart=./start --port ${PORT}
Environment=A=b
[Install]
WantedBy=multi-user.target
"""
# What leads out of a workload's confinement.
ESCAPES = (
    "+", "!", "|", " ; +/bin/sh", "\\\n", "\\ ", "\r", "\x0b", "\u2028", "\x85", "\nUser=root", "\nBindPaths=/",
    "\n[Service]\nIPAddressAllow=any", '"+/bin/sh"', "\\x2b/bin/sh", "\nExecStart=", "#", ";", "%",
)  # fmt: skip
ONE_LINE = re.compile(r"[A-Za-z]+=[^\x00-\x08\x0a-\x1f]*(?<!\\)")
PLAIN_COMMAND = re.compile(r"(?:[-@:]*(?:\./|/)?[A-Za-z0-9_][^\s\"'\\]*(?:\s.*)?)?")


def unit_files(dice: random.Random) -> None:
    """An operator's unit file gives whole lines, and commands without other rights, or is refused by a message."""
    text = UNIT
    for _ in range(dice.randrange(1, 5)):
        at = dice.randrange(len(text) + 1)
        text = text[:at] + dice.choice(ESCAPES) + text[at:] if dice.randrange(2) else mutated_text(text, dice)
    try:
        found = read_unit(text)
    except UnitFileError as refused:
        assert str(refused)
        return
    assert found.user != "root"
    for line in (*found.unit, *found.service):
        assert ONE_LINE.fullmatch(line), line
        key, _, value = line.partition("=")
        assert key not in ("User", "BindPaths", "IPAddressAllow"), line
        assert not key.startswith("Exec") or (PLAIN_COMMAND.fullmatch(value) and " ; " not in f"{value} "), line


TARGETS: dict[str, Target] = {
    "unit-files": unit_files,
    "ownership": ownership,
    "txt": txt,
    "dns-answers": dns_answers,
    "cloudflare-replies": cloudflare_replies,
    "cloudapi-replies": cloudapi_replies,
    "configuration": configuration,
    "metadata": metadata,
}


@dataclass
class Fuzzed:
    runs: int
    findings: dict[str, int]
    """What came out that should not have, with the first seed that showed it."""


def fuzz(target: Target, seconds: float, first: int = 0, least: int = 0) -> Fuzzed:
    """Feed the target for so long and at least so often. Each run has its own seed, counted from `first`."""
    end, seed, findings = time.monotonic() + seconds, first, dict[str, int]()
    while time.monotonic() < end or seed - first < least:
        try:
            target(random.Random(seed))  # noqa: S311
        except Exception as finding:  # noqa: BLE001 - anything that comes out here is what is looked for
            findings.setdefault(_named(finding), seed)
        seed += 1
    return Fuzzed(seed - first, findings)


def _named(finding: Exception) -> str:
    """Its kind and where it came from, so that the same one counts once."""
    trace, where = finding.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if "site-packages" not in code.co_filename:
            where = f"{Path(code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return (
        f"{type(finding).__name__} at {where}: {finding}"[:200]
        if isinstance(finding, AssertionError)
        else f"{type(finding).__name__} at {where}"
    )
