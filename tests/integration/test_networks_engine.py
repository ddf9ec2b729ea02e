"""A Triton fleet's networks with the real engine, on local clouds that boot nothing: what is refused, and what replaces a machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from components.joyent.credentials import Credentials
from components.joyent.session import session_of
from localcloud.runtime.sandbox import Sandbox
from localcloud.triton import Names
from tests.cloud.cloudapi_server import ACCOUNT, RSA_KEY, Front, Lab, private_text
from tests.integration.conftest import sandboxed

pytestmark = [pytest.mark.clouds, pytest.mark.engine]
CONFIG = """config:
  aws:region: us-west-2
  rollcall:drainDelay: 0
  rollcall:sites: {{ www: {{ zone: scalability.expert, ttl: 60 }} }}
  rollcall:fleets:
    web: {{ cloud: joyent, count: 1, size: g1.micro, image: debian-12, joins: [site/www], timeout: 10{networks} }}
{others}"""
OTHER = "    {name}: {{ cloud: joyent, count: 1, size: g1.micro, image: debian-12, joins: [site/www], networks: {networks} }}\n"
KINDS = ("Machine", "Deregistration")


@pytest.fixture(scope="module")
def clouds() -> Iterator[Sandbox]:
    with sandboxed("networks", machines=False) as sandbox:
        yield sandbox


def run(clouds: Sandbox, *words: str, networks: str = "", others: str = "", **env: str) -> tuple[int, str]:
    target = clouds.work / "Pulumi.local.yaml"
    salt = [line for line in target.read_text().splitlines() if line.startswith("encryptionsalt")]
    target.write_text(
        CONFIG.format(networks=networks and f", networks: {networks}", others=others) + "\n".join(salt) + "\n"
    )
    done = clouds.pulumi(*words, "--stack", "local", capture=True, check=False, extra=env)
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr


def made(clouds: Sandbox) -> list[str]:
    types = [each["type"] for each in clouds.resources()]
    return [each for each in types if each != "pulumi:pulumi:Stack"]


def test_networks_that_cannot_be_used_are_named_and_nothing_is_made(clouds: Sandbox) -> None:
    wrong = {
        "misspelt": (
            "[MNX-Triton-Pubilc]",
            "has no network 'MNX-Triton-Pubilc'; it has MNX-Triton-Public (public), MNX-Triton-Private",
        ),
        "fabric": (
            "[My-Fabric-Network]",
            "names no public network (My-Fabric-Network (fabric 203.0.113.224/27)), and machines register",
        ),
        "twice": ("[MNX-Triton-Public, MNX-Triton-Public]", "'MNX-Triton-Public' is in it twice. Name each once."),
    }
    others = "".join(OTHER.format(name=name, networks=networks) for name, (networks, _) in wrong.items())
    code, printed = run(clouds, "up", "--yes", others=others)
    given = printed.replace("the data centre local-1 ", "")
    for name, (_, message) in wrong.items():
        assert code and f"rollcall:fleets.{name}.networks: {message}" in given, printed
    assert made(clouds) == []


def test_several_public_networks_ask_for_a_word(clouds: Sandbox) -> None:
    front = Front()
    try:
        lab = Lab(front, {"networks": Names(public=("North", "South"), fabrics={"Own": "10.7.0.0/24"})})
        key = clouds.state / "lab.pem"
        key.write_bytes(private_text(RSA_KEY))
        there = {
            "TRITON_URL": lab.url,
            "TRITON_ACCOUNT": ACCOUNT,
            "TRITON_KEY_ID": lab.fingerprint,
            "TRITON_KEY_FILE": str(key),
        }
        code, printed = run(clouds, "up", "--yes", **there)
        for message in (
            "rollcall:fleets.web.networks: is not set, and the data centre local-1 has 2 public networks; it has",
            "North (public), South (public), Joyent-SDC-Private (private), Own (fabric 10.7.0.0/24).",
            "Name one of the public ones, as networks: [North].",
        ):
            assert code and message in printed, printed
        assert made(clouds) == []
        code, printed = run(clouds, "preview", networks="[Own, South]", **there)
        assert code == 0, printed
    finally:
        front.stop()


def changes(clouds: Sandbox, networks: str) -> dict[str, set[str]]:
    """What a preview would do to the machine and to its Deregistration."""
    code, printed = run(clouds, "preview", "--json", networks=networks)
    assert code == 0, printed
    steps: list[dict[str, Any]] = json.loads(printed[printed.index("{") :])["steps"]
    found: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for step in steps:
        kind = step["urn"].split("::")[2].rpartition(":")[2]
        if kind in found and step["op"] not in ("refresh", "same"):
            found[kind].add(step["op"])
    return found


def test_other_networks_replace_a_machine_successor_first_and_other_words_do_not(clouds: Sandbox) -> None:
    # Nothing boots, so nothing answers: the machine is made, and the roll call fails.
    code, printed = run(clouds, "up", "--yes")
    assert code and "the roll call was not answered, and nothing changed for 10 s" in printed, printed
    environ = clouds.environment()
    there = Credentials.read(environ)
    settings = {"url": there.url, "account": there.account, "keyId": there.key_id, "keyFile": there.key_file}
    (public,) = [each for each in session_of(settings).catalogue.networks() if each.name == "MNX-Triton-Public"]
    for words in ("", "[MNX-Triton-Public]", f"[{public.id}]"):
        assert changes(clouds, words) == {"Machine": set(), "Deregistration": set()}, words
    both = changes(clouds, "[My-Fabric-Network, MNX-Triton-Public]")
    assert both == {"Machine": {"replace"}, "Deregistration": {"replace"}}
