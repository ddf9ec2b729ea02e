"""A proxied site's machines are closed: on both clouds only the edge reaches them, and the edge verifies their certificates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from localcloud.network.namespace import NETWORKS, Namespace
from localcloud.runtime.sandbox import visit
from tests.integration.conftest import machines, wait_until
from tests.integration.deployed import HOST
from tests.integration.shared_stacks import ClosedSite, closed_site

pytestmark = [pytest.mark.machines, pytest.mark.engine]
WEB = (80, 443)
# How often a closed machine's own web server may be reached by another client than the edge: never.
Way = tuple[str, dict[str, Any], int]
STRANGERS = tuple(address for network in NETWORKS.values() for address in (network.gateway, network.visitor))
# Correct except for its issuer.
FORGED = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -keyout k -out c "
    f"-subj /CN={HOST} -addext subjectAltName=DNS:{HOST} 2>/dev/null"
)


class Closed(ClosedSite):
    @property
    def namespace(self) -> Namespace:
        return Namespace(json.loads((self.sandbox.state / "daemon.json").read_text())["namespace"])

    @property
    def live(self) -> list[dict[str, Any]]:
        return [each for each in machines(self.sandbox) if each["state"] == "running"]

    def reaches(self, source: str, machine: dict[str, Any], port: int) -> bool:
        try:
            self.namespace.connect((machine["addresses"][0], port), source, timeout=1.0).close()
        except OSError:
            return False
        return True

    def that_reach(self, ways: Sequence[Way]) -> list[Way]:
        """Those ways (source, machine, port) that lead to a connection, all tried at once."""
        with ThreadPoolExecutor(len(ways)) as pool:
            return [
                way for way, open_ in zip(ways, pool.map(lambda way: self.reaches(*way), ways), strict=True) if open_
            ]

    def over_tls(self, edge: str, host: str = HOST) -> tuple[int, str]:
        """What a visitor in the namespace gets from the edge by https, who trusts the local CA only: status and `X-Served-By`."""
        words = ["curl", "-s", "-o", "/dev/null", "--max-time", "10", "--cacert", self.env["ROLLCALL_CA_FILE"]]
        words += ["--interface", NETWORKS["aws"].visitor, "--resolve", f"{host}:443:{edge}"]
        words += ["-w", "%{http_code} %header{x-served-by}", f"https://{host}/"]
        code, _, by = self.sandbox.localcloud("run", "--", *words, capture=True).partition(" ")
        return int(code), by


@pytest.fixture(scope="module")
def closed() -> Closed:
    made = closed_site(Closed)
    everybody = {each["id"] for each in made.live}
    wait_until("all machines serve", lambda: {made.over_tls("198.51.100.2")[1] for _ in range(10)} == everybody, 60, 1)
    return made


def test_only_the_edge_reaches_a_machine(closed: Closed) -> None:
    assert len(closed.live) == 5
    strangers = [(each, machine, port) for each in STRANGERS for machine in closed.live for port in WEB]
    assert not [(source, machine["name"], port) for source, machine, port in closed.that_reach(strangers)]
    for machine in closed.live:
        own = NETWORKS[machine["cloud"]].edge
        assert closed.reaches(own, machine, 443) and not closed.reaches(own, machine, 80)


def test_a_machine_does_not_get_to_another(closed: Closed) -> None:
    """One of each fleet, on either cloud, and a second one of the first."""
    some = [closed.machine(name) for name in ("web-aws-0", "web-aws-1", "web-joyent-0")]

    def attempt(one: dict[str, Any], other: dict[str, Any], port: int) -> str:
        words = f"curl -sk -m 1 -o /dev/null telnet://{other['addresses'][0]}:{port} </dev/null; echo $?"
        return closed.inside(one["id"], "sh", "-c", words).strip()

    ways = [(one, other, port) for one in some for other in some if one != other for port in WEB]
    with ThreadPoolExecutor(len(ways)) as pool:
        found = list(pool.map(lambda way: attempt(*way), ways))
    # 28: it took too long to connect.
    assert set(found) == {"28"}, [(one["name"], other["name"]) for one, other, _ in ways]


def test_ssh_is_closed(closed: Closed) -> None:
    ways = [(source, each, 22) for each in closed.live for source in STRANGERS]
    assert not [(source, machine["name"]) for source, machine, _ in closed.that_reach(ways)]


def test_through_the_edge_every_machine_serves_over_tls(closed: Closed) -> None:
    for network in NETWORKS.values():
        found = [closed.over_tls(network.edge) for _ in range(15)]
        assert {status for status, _ in found} == {200}
        assert {by for _, by in found} == {each["id"] for each in closed.live}


def test_the_apex_is_served_over_tls_too(closed: Closed) -> None:
    assert closed.over_tls("198.51.100.2", "scalability.expert")[0] == 200


def test_a_visitor_in_the_clear_is_sent_to_https_and_served_there(closed: Closed) -> None:
    sent_on = requests.post(closed.env["ROLLCALL_SITE_URL"], data="x", timeout=10, allow_redirects=False)
    assert (sent_on.status_code, sent_on.headers["Location"]) == (301, f"https://{HOST}/")
    reply = requests.get(closed.env["ROLLCALL_SITE_URL"], timeout=10)
    assert (reply.status_code, reply.headers["X-Rollcall-Over"]) == (200, "tls")
    assert set(visit(closed.env["ROLLCALL_SITE_URL"], 30)) == {each["id"] for each in closed.live}


def test_the_key_is_on_the_machines_and_nowhere_a_user_of_them_could_read_it(closed: Closed) -> None:
    pem = closed.aws("ssm").get_parameter(Name="/rollcall/local/web-aws/origin-www", WithDecryption=True)["Parameter"][
        "Value"
    ]
    line = pem.splitlines()[1]
    for machine in closed.live:
        found = closed.inside(
            machine["id"], "sh", "-c", f"grep -rlF -- '{line}' /etc /run /var /root /usr 2>/dev/null || true"
        )
        assert found.split(), machine["name"]
        for path in found.split():
            mode = closed.inside(machine["id"], "stat", "-c", "%a", path).strip()
            assert mode in ("600", "400"), (machine["name"], path, mode)


def test_a_port_that_a_user_opened_is_a_difference_and_up_closes_it(closed: Closed) -> None:
    (group,) = closed.ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["web-aws-group*"]}])[
        "SecurityGroups"
    ]
    anyone = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    closed.ec2.authorize_security_group_ingress(GroupId=group["GroupId"], IpPermissions=[anyone])
    joyent = next(each for each in closed.live if each["cloud"] == "joyent")
    closed.triton("instance", "disable-firewall", "--wait", joyent["id"])
    shown = closed.sandbox.pulumi("preview", "--stack", "local", capture=True).stdout
    assert "[diff: ~ingress]" in shown and "[diff: ~firewallEnabled]" in shown.replace(
        "firewall_enabled", "firewallEnabled"
    )
    closed.up()
    wait_until(
        "all are closed", lambda: not [each for each in closed.live if closed.reaches(STRANGERS[0], each, 80)], 10
    )


def test_a_machine_with_a_self_signed_certificate_gets_no_requests(closed: Closed) -> None:
    wrong = next(each for each in closed.live if each["cloud"] == "joyent")
    pem = "/etc/nginx/rollcall-origins/www.scalability.expert.pem"
    closed.inside(
        wrong["id"], "sh", "-c", f"cp -p {pem} /root/kept && cd /root && {FORGED} && cat k c >{pem} && nginx -s reload"
    )
    seen: set[tuple[int, str]] = set()

    def refused() -> bool:
        seen.update({closed.over_tls(NETWORKS["joyent"].edge) for _ in range(10)})
        return any(status == 526 for status, _ in seen)

    wait_until("the edge refuses it", refused, 20)
    others = {(200, each["id"]) for each in closed.live if each != wrong}
    assert {closed.over_tls(NETWORKS["aws"].edge) for _ in range(20)} == {(526, ""), *others}
    closed.inside(wrong["id"], "sh", "-c", f"cp -p /root/kept {pem} && nginx -s reload")
    wait_until("it serves again", lambda: {closed.over_tls(NETWORKS["aws"].edge)[0] for _ in range(15)} == {200}, 20)
