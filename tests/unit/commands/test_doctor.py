"""components.commands.doctor: how checks run, and what is said of them, without any cloud."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from components.commands.doctor import aws, rehearsal, zones
from components.commands.doctor.__main__ import shown
from components.commands.doctor.points import (
    Check,
    Finding,
    Point,
    Processes,
    Run,
    Verdict,
    exit_code,
    not_proven,
    ok,
    wrong,
)
from components.preflight.aws_permissions import Denied, Simulated
from components.preflight.delegation import Answers, Delegation
from localcloud.runtime import prepare

ROLE = "arn:aws:iam::123456789012:role/ci/deploy"


def points(*checks: Check, limit_s: float = 5.0) -> dict[str, Point]:
    return {each.name: each for each in Run(limit_s).points(checks)}


def check(name: str, *found: Finding, needs: tuple[str, ...] = ()) -> Check:
    return Check(area="A", name=name, run=lambda: iter(found), needs=needs)


def test_a_private_zone_has_vpcs_in_the_place_of_a_delegation() -> None:
    vpcs = [{"VPCId": "vpc-2", "VPCRegion": "us-west-2"}, {"VPCId": "vpc-1", "VPCRegion": "eu-west-1"}]
    associated, unknown = zones.in_vpcs("unilans.net", vpcs)
    assert (associated.verdict, unknown.verdict) == (Verdict.OK, Verdict.NOT_PROVEN)
    assert "vpc-1 in eu-west-1, vpc-2 in us-west-2" in str(associated) and "rollcall status" in str(unknown)


def test_checks_run_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=5)

    def waits() -> Iterator[Finding]:
        both.wait()
        yield ok("")

    found = points(*(Check(area="A", name=name, run=waits) for name in "xy"))
    assert {each.verdict for each in found.values()} == {Verdict.OK}


def test_a_check_that_does_not_end_is_not_proven_and_the_others_are_shown() -> None:
    never = threading.Event()

    def hangs() -> Iterator[Finding]:
        never.wait(30)
        yield ok("")

    began, run = time.monotonic(), Run(1.0)
    hanging = Check(area="A", name="slow", run=hangs)
    late, behind, quick = run.points([hanging, check("behind", ok(""), needs=("slow",)), check("quick", ok("found"))])
    never.set()
    assert time.monotonic() - began < 3 and run.late
    assert (late.verdict, quick.verdict) == (Verdict.NOT_PROVEN, Verdict.OK)
    assert late.text == "slow: did not end within 1 s. Check the network, and run it again."
    assert behind.verdict is Verdict.NOT_PROVEN


@pytest.mark.parametrize(
    ("before", "verdict"),
    [
        ((ok(""),), Verdict.OK),
        ((ok(""), not_proven("")), Verdict.OK),
        ((not_proven(""),), Verdict.NOT_PROVEN),
        ((ok(""), wrong("")), Verdict.NOT_PROVEN),
    ],
    ids=["ok", "partly proven", "not proven", "wrong"],
)
def test_a_check_runs_only_if_what_it_needs_can_be_used(before: tuple[Finding, ...], verdict: Verdict) -> None:
    assert points(check("first", *before), check("then", ok(""), needs=("first",)))["then"].verdict is verdict


def test_a_check_that_fails_hides_no_other() -> None:
    def fails() -> Iterator[Finding]:
        raise RuntimeError("odd")

    found = points(Check(area="A", name="bad", run=fails), check("good", ok("")))
    assert found["bad"].text == "bad: the check failed (RuntimeError: odd). Report this."
    assert found["good"].verdict is Verdict.OK


@pytest.mark.parametrize(
    ("given", "code"),
    [((Verdict.OK,), 0), ((Verdict.OK, Verdict.WRONG, Verdict.NOT_PROVEN), 1), ((Verdict.OK, Verdict.NOT_PROVEN), 2)],
)
def test_the_exit_code_says_what_is_worst(given: tuple[Verdict, ...], code: int) -> None:
    assert exit_code(Point(area="A", name="x", verdict=each, text="") for each in given) == code


def test_what_is_wrong_comes_first_and_control_characters_are_escaped() -> None:
    made = [
        Point(area="Versions", name="Python", verdict=Verdict.OK, text="3.11"),
        Point(area="AWS", name="key", verdict=Verdict.WRONG, text="K: \x1b[31m is wrong. Fix it."),
        Point(area="AWS", name="quota", verdict=Verdict.NOT_PROVEN, text="Q: is unknown. Ask."),
    ]
    assert shown(made).splitlines() == [
        "3 points: 1 wrong, 1 not proven, 1 ok.", "",
        "Wrong", "  K: \\x1b[31m is wrong. Fix it.", "",
        "Not proven", "  Q: is unknown. Ask.", "",
        "Versions", "  ok          Python                        3.11",
        "AWS", "  wrong       key", "  not proven  quota",
    ]  # fmt: skip


def test_no_child_is_left() -> None:
    children = Processes()
    child = children.start([sys.executable, "-c", "import time; time.sleep(60)"])
    children.end()
    assert child.poll() is not None
    with pytest.raises(OSError, match="doctor has ended"):
        children.start(["true"])
    for pipe in (child.stdout, child.stderr):
        assert pipe is not None
        pipe.close()
    assert isinstance(child, subprocess.Popen)


def test_an_account_in_an_organization_is_not_proven() -> None:
    found = list(aws.judged(ROLE, Simulated(count=9, in_organization=True)))
    assert [each.verdict for each in found] == [Verdict.OK, Verdict.NOT_PROVEN]
    assert "does not evaluate its resource control policies (https://docs.aws.amazon.com/IAM/" in found[1].text
    assert [each.verdict for each in aws.judged(ROLE, Simulated(count=9))] == [Verdict.OK]


def test_a_denial_has_its_reason_and_a_long_list_is_short() -> None:
    denied = [Denied(action="ec2:RunInstances", resources=("*",), why="the permissions boundary does not allow it")]
    (only,) = aws.judged(ROLE, Simulated(denied=tuple(denied), count=9))
    assert only.text == (
        "AWS permissions: the role deploy lacks ec2:RunInstances (the permissions boundary does not allow it). "
        "Allow what docs/operations.md lists."
    )
    many = tuple(Denied(action=f"ec2:A{each}", resources=("*",)) for each in range(6))
    (only,) = aws.judged(ROLE, Simulated(denied=many, count=9))
    assert "ec2:A0, ec2:A1, ec2:A2, ec2:A3, and 2 more actions." in only.text


@pytest.mark.parametrize(
    ("found", "verdict", "words"),
    [
        (Delegation(parent="net", names=frozenset({"a.x", "b.x"})), Verdict.OK, "net names a.x, b.x"),
        (
            Delegation(parent="net", names=frozenset({"a.x"})),
            Verdict.WRONG,
            "delegates it to a.x, and this account's zone",
        ),
        (Delegation(parent="net", missing=True), Verdict.WRONG, "net does not delegate it"),
        (Delegation(parent="net", fault="no server can be asked"), Verdict.NOT_PROVEN, "no server can be asked, so"),
    ],
    ids=["the same", "one is missing", "none", "unknown"],
)
def test_a_delegation_is_compared_with_the_providers_servers(found: Delegation, verdict: Verdict, words: str) -> None:
    finding = zones.compared("unilans.net", found, {"a.x", "b.x"})
    assert finding.verdict is verdict and words in finding.text


def test_a_port_that_is_blocked_by_one_way_is_named() -> None:
    silent = "does not answer"
    (tcp,) = zones.answers("a.net", Answers(by_way={"UDP": {"a.x": ""}, "TCP": {"a.x": silent}}))
    assert tcp.text.startswith("port 53: no name server of a.net answers by TCP from here.")
    (one,) = zones.answers(
        "a.net", Answers(by_way={"UDP": {"a.x": "", "b.x": silent}, "TCP": {"a.x": "", "b.x": silent}})
    )
    assert one.text.startswith("a.net: the name server b.x does not answer by UDP. Fix these servers")


def test_a_rehearsal_needs_what_prepare_installs() -> None:
    assert rehearsal.PACKAGES == prepare.PACKAGES and rehearsal.LEAST_DISK_MIB == prepare.LEAST_DISK_MIB
