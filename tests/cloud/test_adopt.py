"""`rollcall adopt` on the local Cloudflare and Route53: a dry run writes nothing, --yes the marks and no other byte."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from components.commands import adopt
from components.commands.adopt import RunningMachine
from components.commands.site_marks import CloudflareSiteMarks
from components.preflight.zone_store import ZoneStore
from localcloud.aws.route53 import UNLIMITED
from rollcall.ownership import Owner
from tests.cloud.aws_cloud import OPERATOR as KEYS
from tests.cloud.aws_cloud import Cloud, running
from tests.cloud.cloudflare_server import OPERATOR, ZONE, Front, Lab

pytestmark = pytest.mark.clouds
HOST = f"www.{ZONE}"
SERVICES = {"theService": {"port": 4218, "incarnations": {"v1": {}}}}
CONFIG = {
    "rollcall:sites": json.dumps({"www": {"zone": ZONE, "host": "www"}}),
    "rollcall:serviceDiscovery": json.dumps({"zone": "unilans.net", "services": SERVICES}),
    "rollcall:fleets": json.dumps(
        {"web": {"cloud": "aws", "size": "t3.micro", "image": "debian-12", "joins": ["site/www", "theService/v1"]}}
    ),
    "aws:region": "us-west-2",
}
ROOT = {"type": "pulumi:pulumi:Stack", "urn": "urn:pulumi:local::rollcall::pulumi:pulumi:Stack::rollcall-local"}
# What a PATCH of the comment moves by itself.
MOVES = ("comment", "comment_modified_on", "modified_on")


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    made = Front()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with running(route53_limits=UNLIMITED) as made:
        yield made


@pytest.fixture
def lab(front: Front, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Lab:
    for name, value in (
        ("CLOUDFLARE_BASE_URL", front.url), ("CLOUDFLARE_API_TOKEN", OPERATOR), ("AWS_ENDPOINT_URL", cloud.url),
        ("AWS_ACCESS_KEY_ID", KEYS[0]), ("AWS_SECRET_ACCESS_KEY", KEYS[1]), ("AWS_REGION", "us-west-2"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    return Lab(front)


def kept(index: int) -> RunningMachine:
    owner = Owner("local", "web", str(index), "ab12cd", f"i-{index:017x}")
    return RunningMachine(owner=owner, addresses=(f"198.51.100.{10 + index}",))


def result_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], machines: Sequence[RunningMachine], *words: str
) -> dict[str, Any]:
    monkeypatch.setattr(adopt, "exported", lambda stack: ([ROOT], CONFIG))
    monkeypatch.setattr(adopt, "running", lambda *_: list(machines))
    assert adopt.main(["--json", *words]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def bytes_of(lab: Lab) -> dict[str, dict[str, Any]]:
    found = lab.raw("GET", f"/zones/{lab.zone}/dns_records", params={"per_page": "500"}).json()["result"]
    return {each["id"]: each for each in found}


@pytest.mark.parametrize("seed", range(12))
def test_only_the_comments_of_the_stacks_own_change(
    lab: Lab, seed: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Records of many kinds in the zone: records of machines and of others, with and without comments, of any type, at any name."""
    chance = random.Random(seed)  # noqa: S311
    machines = [kept(index) for index in range(chance.randint(0, 4))]
    other = Owner("other", "web", "0", "ab12cd", f"i-{0:017x}")
    for number in range(10, 10 + chance.randint(3, 9)):
        comment = chance.choice(["", "", "", "mine", str(other), str(kept(0).owner)])
        name = chance.choice(["www", "www", "www", "api"])
        lab.record(name=name, content=f"198.51.100.{number}", comment=comment, ttl=chance.choice([60, 300]))
    lab.record(name="www", type="TXT", content='"198.51.100.10"')
    lab.record(name="www", type="AAAA", content="2001:db8::10")
    before = bytes_of(lab)

    dry = result_of(monkeypatch, capsys, machines)
    assert bytes_of(lab) == before and dry["written"] == []
    wet = result_of(monkeypatch, capsys, machines, "--yes")
    after = bytes_of(lab)

    addresses = {address: str(each.owner) for each in machines for address in each.addresses}
    expected = {
        id_: addresses[each["content"]]
        for id_, each in before.items()
        if each["name"] == HOST and each["type"] == "A" and not each["comment"] and each["content"] in addresses
    }
    assert {id_: after[id_]["comment"] for id_ in expected} == expected
    assert (
        wet["written"]
        == sorted(expected.values())
        == sorted(each["becomes"] for each in dry["records"] if each["becomes"])
    )
    for id_, each in before.items():
        moves = MOVES if id_ in expected else ()
        assert {key: value for key, value in after[id_].items() if key not in moves} == {
            key: value for key, value in each.items() if key not in moves
        }
    # Once more, there is nothing left to write.
    assert result_of(monkeypatch, capsys, machines, "--yes")["written"] == []
    assert bytes_of(lab) == after


def test_a_record_that_changed_meanwhile_keeps_its_comment(lab: Lab) -> None:
    lab.record(content="198.51.100.10", comment="")
    store = ZoneStore(OPERATOR)
    marks = CloudflareSiteMarks(store, lab.zone, HOST)
    seen = marks.list()
    lab.api.dns.records.edit(
        zone_id=lab.zone, dns_record_id=seen[0].id, name=HOST, type="A", ttl=60, content="192.0.2.1"
    )  # type: ignore[call-overload]
    left = adopt.write(marks, seen, {seen[0].id: str(kept(0).owner)})
    assert list(left.values()) == [f"{HOST} A 198.51.100.10 is 192.0.2.1 now"]
    (now,) = bytes_of(lab).values()
    assert (now["content"], now["comment"] or "") == ("192.0.2.1", "")


def test_values_of_a_services_set_stay_foreign_to_the_byte(
    lab: Lab, cloud: Cloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    zone = cloud.aws.add_zone("unilans.net")
    route53 = cloud.client("route53")
    record = {
        "Name": "v1._theService._tcp.unilans.net",
        "Type": "SRV",
        "TTL": 60,
        "ResourceRecords": [{"Value": "1 2 4218 By-Hand.unilans.net."}],
    }
    host = {"Name": "by-hand.unilans.net", "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": "198.51.100.10"}]}
    changes = [{"Action": "CREATE", "ResourceRecordSet": each} for each in (record, host)]
    route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": changes})
    before = route53.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    found = result_of(monkeypatch, capsys, [kept(0)], "--yes")
    (record,) = found["records"]
    assert record["value"] == "1 2 4218 By-Hand.unilans.net." and record["becomes"] == ""
    assert "the host of a member is a name below rc" in record["reason"]
    assert route53.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"] == before
