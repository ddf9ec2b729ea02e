"""No secret anywhere: after `up`, a rotation and `destroy`, no secret's value is in state, history, output, logs, userdata,
process arguments, the machines' journals or the repository. And a rotation is one `up`, and no registration fails.

The tests of this file share the stack `closed site` (tests/groups.py), run in the order in which they stand, and destroy it.
"""

from __future__ import annotations

import base64
import gzip
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest
import requests

from localcloud.runtime.prepare import ROOT
from rollcall.edge import ORIGINS
from tests.integration.conftest import wait_until
from tests.integration.shared_stacks import ClosedSite, closed_site
from tests.integration.stolen_credentials import role_credentials, tried_at_aws, tried_at_cloudflare

pytestmark = [pytest.mark.machines, pytest.mark.engine]
# What a machine's cloud keeps for it, by the names that components give.
KEPT = ("token-scalability_expert", "route53-key", "origin-www", "probe-key")
# All output of systemd and of the programs, whatever its permissions are.
LOGGED = (
    "journalctl -a --no-pager -o cat; cat /run/rollcall/*.json; find /var/log /var/lib/cloud -type f -exec cat {} +"
)
PACKED = f"({LOGGED}) 2>&1 | base64 -w0"


class Searched(ClosedSite):
    secrets: dict[str, str]
    rotated: set[str]

    def certificates(self) -> set[str]:
        """The ids of those that are not revoked."""
        return {each["id"] for each in self._get("/certificates", zone_id=self.zone())["result"]}

    def kept(self, name: str) -> str:
        """A secret that Triton keeps for a machine."""
        return self.inside(self.machine("web-joyent-0")["id"], "mdata-get", name).strip()

    def learn(self, when: str) -> None:
        """Every secret that there is now."""
        for name in KEPT:
            private, is_pem, _ = self.kept(name).partition("-----END PRIVATE KEY-----")
            self.secrets[f"{name} {when}"] = private if is_pem else private.split(" ")[-1]
        stolen = role_credentials(self, self.machine("web-aws-0")["id"])
        self.secrets[f"role's key {when}"], self.secrets[f"role's session {when}"] = (
            stolen["SecretAccessKey"],
            stolen["Token"],
        )

    def places(self) -> Iterator[tuple[str, bytes]]:
        """Where a secret might have got to, by name, as bytes."""
        yield "output", self.output.encode()
        yield "process arguments", b"\n".join(self.arguments.seen)
        for folder in ("backend", "program", "logs"):
            for path in sorted((self.sandbox.state / folder).rglob("*")):
                if path.is_file() and not path.is_relative_to(self.sandbox.state / "program" / ".venv"):
                    raw = path.read_bytes()
                    yield (
                        str(path.relative_to(self.sandbox.state)),
                        gzip.decompress(raw) if path.suffix == ".gz" else raw,
                    )
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
        for name in filter(None, listed.decode().split("\0")):
            yield f"repository {name}", (ROOT / name).read_bytes()
        yield "state", self.sandbox.pulumi("stack", "export", "--stack", "local", capture=True).stdout.encode()
        for instance in self.logs.instances:
            yield f"agent's log of {instance}", self.logs.text(instance).encode()

    def on_machines(self) -> Iterator[tuple[str, bytes]]:
        for each in self.machines("web-"):
            instance = each["id"]
            yield f"journal and logs of {instance}", base64.b64decode(self.inside(instance, "sh", "-c", PACKED))
            if instance.startswith("i-"):
                given = self.ec2.describe_instance_attribute(InstanceId=instance, Attribute="userData")["UserData"][
                    "Value"
                ]
                yield f"userdata of {instance}", gzip.decompress(base64.b64decode(given))
            else:
                yield f"userdata of {instance}", self.inside(instance, "mdata-get", "user-script").encode()


def found(secrets: Mapping[str, str], places: Iterable[tuple[str, bytes]]) -> list[str]:
    """`SECRET in PLACE` for each that is there, as it is or in base64."""
    needles = [(name, needle) for name, value in secrets.items() for needle in _forms(value)]
    return [f"{name} in {place}" for place, text in places for name, needle in needles if needle in text]


def _forms(value: str) -> Iterator[bytes]:
    """Of a key in PEM, each whole line of its body; of anything else, the value and its base64 at any offset."""
    lines = [line for line in value.splitlines() if line and not line.startswith("-----")]
    assert lines and all(len(line) >= 16 for line in lines[:1]), "no secret's value"
    if len(lines) > 1:
        # The first lines say what kind of key it is, and are the same in others of it.
        yield from (line.encode() for line in lines[1:] if len(line) >= 32)
        return
    yield value.encode()
    for offset in range(3):
        encoded = base64.b64encode(b"x" * offset + value.encode())
        yield encoded[4 : len(encoded) - 4]


@pytest.fixture(scope="module")
def stack() -> Searched:
    stack = closed_site(Searched)
    env = stack.env
    stack.secrets = {
        "operator's Cloudflare token": env["CLOUDFLARE_API_TOKEN"],
        "operator's AWS key": env["AWS_SECRET_ACCESS_KEY"],
        "operator's Triton key": Path(env["TRITON_KEY_FILE"]).read_text(),
        "operators' SSH key": (stack.sandbox.state / "keys" / "operators").read_text(),
        "passphrase": env["PULUMI_CONFIG_PASSPHRASE"],
    }
    stack.learn("first")
    return stack


def test_the_search_finds_what_is_there(stack: Searched) -> None:
    """Where the machines need them, and where a test plants them, plain and packed."""
    token, origin = stack.secrets["token-scalability_expert first"], stack.secrets["origin-www first"]
    assert found({"token": token}, [("here", f"x{token}".encode())]) == ["token in here"]
    packed = base64.b64encode(f"machine's token: {token}, and more".encode())
    assert found({"token": token}, [("there", packed)]) == ["token in there"]
    instance = stack.machine("web-aws-0")["id"]
    served = stack.inside(instance, "cat", str(ORIGINS / "www.scalability.expert.pem"))
    assert found({"origin": origin}, [("nginx's key", served.encode())])
    assert len(stack.arguments.seen) > 50 and any(b"nginx" in each for each in stack.arguments.seen)


def test_no_secret_is_anywhere_after_up(stack: Searched) -> None:
    # Five of the operator's, and two of a role.
    assert len(stack.secrets) == 5 + len(KEPT) + 2
    assert found(stack.secrets, [*stack.places(), *stack.on_machines()]) == []


def test_a_stolen_token_edits_records_of_one_zone_and_does_nothing_else(stack: Searched) -> None:
    """As it lies on a machine: in the metadata on Triton, in the fleet's SSM parameter on EC2."""
    made = requests.post(
        f"{stack.env['CLOUDFLARE_BASE_URL']}/zones",
        json={"name": "other.example"},
        headers={"Authorization": f"Bearer {stack.env['CLOUDFLARE_API_TOKEN']}"},
        timeout=10,
    ).json()["result"]["id"]
    before = stack.zone_records()
    token = stack.kept("token-scalability_expert")
    kept = stack.aws("ssm").get_parameter(Name="/rollcall/local/web-aws/token-scalability_expert", WithDecryption=True)
    assert kept["Parameter"]["Value"] == token
    statuses = tried_at_cloudflare(stack.env["CLOUDFLARE_BASE_URL"], token, stack.zone(), made)
    assert statuses.pop("own token's id") == 200
    mine = {what for what in statuses if what.startswith("own zone")}
    assert {what: status for what, status in statuses.items() if (status == 200) != (what in mine)} == {}
    assert {status for what, status in statuses.items() if what not in mine} == {403}
    assert stack.zone_records() == before


def test_a_stolen_instance_role_reads_its_own_fleets_secrets_and_nothing_else(stack: Searched) -> None:
    """Taken from the metadata of an instance, and used from elsewhere."""
    instance = stack.machine("web-aws-0")["id"]
    route53 = stack.aws("route53")
    own = route53.list_hosted_zones_by_name(DNSName="unilans.net")["HostedZones"][0]["Id"]
    second = route53.create_hosted_zone(Name="unilans.example", CallerReference="thief")["HostedZone"]["Id"]
    roles = [each["RoleName"] for each in stack.aws("iam").list_roles()["Roles"]]
    (role,) = [each for each in roles if each.startswith("web-aws-role")]
    try:
        outcomes = tried_at_aws(
            stack,
            role_credentials(stack, instance),
            fleet="/rollcall/local/web-aws",
            other="/rollcall/local/other",
            instance=instance,
            role=role,
            zones=[own, second],
        )
    finally:
        route53.delete_hosted_zone(Id=second)
    assert "/rollcall/local/other/token-scalability_expert" in stack.parameters(), "nothing was there to be read"
    allowed = {what for what, code in outcomes.items() if code == "yes"}
    assert allowed == {"own token", "own certificate", "own hosted zone", "own release"}
    denied = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
    assert {what: code for what, code in outcomes.items() if code not in (*denied, "yes")} == {}


def test_a_rotation_is_one_up_and_no_registration_fails(stack: Searched) -> None:
    """Meanwhile one machine of each cloud leaves and joins again. A leave takes the service's TTL (docs/decisions/0014)."""
    before = {name: stack.secrets[f"{name} first"] for name in KEPT}
    joined, expected = stack.in_state(), stack.expected()
    stack.rotated = stack.certificates()
    assert len(stack.rotated) == 1
    assert stack.owners() == expected
    movers = [stack.machine(name)["id"] for name in ("web-aws-1", "web-joyent-1")]
    since = time.time()
    stop = threading.Event()
    restarts: list[str] = []

    failed: list[BaseException] = []

    def move(instance: str) -> None:
        """Leave, join again and stay a while: the roll call must be able to meet the machine while it is registered."""
        try:
            while not stop.wait(5):
                stack.inside(instance, "systemctl", "restart", "rollcall-leave")
                restarts.append(instance)
                wait_until(f"{instance} has joined again", lambda: _is_everywhere(stack, instance), 120)
        except BaseException as error:  # noqa: BLE001 - asserted on below
            failed.append(error)

    threads = [threading.Thread(target=move, args=(each,), daemon=True) for each in movers]
    for each in threads:
        each.start()
    try:
        stack.configure("2026-11")
        stack.output += stack.run_with_output("up")
    finally:
        stop.set()
        for each in threads:
            each.join(180)
    assert not failed, failed
    assert stack.in_state() == joined and {*restarts} == {*movers}
    stack.learn("second")
    for name in KEPT:
        assert stack.secrets[f"{name} second"] != before[name], name
    _assert_revoked(stack, before)
    # Those that were not restarted have the old secrets in memory, and a stop is the first that they ask for.
    for name in ("web-aws-0", "web-joyent-0"):
        instance = stack.machine(name)["id"]
        stack.inside(instance, "systemctl", "stop", "rollcall-leave")
        assert all(instance not in each for each in stack.owners().values()), name
        stack.inside(instance, "systemctl", "start", "rollcall")
    wait_until("all stand again", lambda: stack.owners() == expected, 30)
    for instance in joined:
        log = stack.logs.text(instance)
        assert "leave failed" not in log, (instance, log[-2000:])
        assert "status=403" not in log and "status=401" not in log and "InvalidClientTokenId" not in log, log[-2000:]
    print(f"\na rotation with leaves and joins beside it: {time.time() - since:.0f} s")


def _is_everywhere(stack: Searched, instance: str) -> bool:
    return all(instance in each for each in stack.owners().values())


def _assert_revoked(stack: Searched, before: Mapping[str, str]) -> None:
    url = stack.env["CLOUDFLARE_BASE_URL"] + "/user/tokens/verify"
    for when, code in (("first", 401), ("second", 200)):
        token = stack.secrets[f"token-scalability_expert {when}"]
        assert requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=10).status_code == code, when
    iam = stack.aws("iam")
    users = [each["UserName"] for each in iam.list_users(PathPrefix="/rollcall/")["Users"]]
    keys = [each["AccessKeyId"] for user in users for each in iam.list_access_keys(UserName=user)["AccessKeyMetadata"]]
    assert len(keys) == 1, keys


def test_no_secret_is_anywhere_after_the_rotation(stack: Searched) -> None:
    assert len(stack.secrets) == 5 + 2 * (len(KEPT) + 2)
    assert found(stack.secrets, [*stack.places(), *stack.on_machines()]) == []


def test_no_secret_is_anywhere_after_destroy_and_none_is_valid(stack: Searched) -> None:
    stack.output += stack.run_with_output("destroy")
    assert found(stack.secrets, stack.places()) == []
    url = stack.env["CLOUDFLARE_BASE_URL"]
    token = {"Authorization": f"Bearer {stack.secrets['token-scalability_expert second']}"}
    assert requests.get(f"{url}/user/tokens/verify", headers=token, timeout=10).status_code == 401
    assert stack.aws("iam").list_users(PathPrefix="/rollcall/")["Users"] == []
    assert stack.triton("fwrules", "-j").strip() == ""
    # Machines take a certificate's successor within a day, so the rotated one is not revoked (components/resources/origin_tls.py).
    assert stack.certificates() == stack.rotated
    assert stack.parameters() == []
