"""The comment on a change: what it says, what it must never hold, its length, and the exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from components.commands.review import LogError, commented, read_log
from components.commands.review.__main__ import main, without_secrets
from components.commands.review.comment import LIMIT
from components.commands.review.events import SECRET, plain
from components.commands.review.findings import code, findings_of
from components.registration.diff import Kind

_VARIABLE = re.compile(r'"([A-Z][A-Z0-9_]*(?:TOKEN|SECRET|KEY|PASSPHRASE|PASSWORD|MATERIAL)[A-Z_]*)"')
STACK = "urn:pulumi:prod::rollcall::pulumi:pulumi:Stack::rollcall-prod"
FLEET = "urn:pulumi:prod::rollcall::rollcall:index:Ec2Fleet::web"
INSTANCE = "aws:ec2/instance:Instance"
ROLL_CALL = "pulumi-python:dynamic/rollcall:RollCall"
PLACE = {
    "kind": "cloudflare",
    "zone": "z",
    "domain": "example.org",
    "host": "www.example.org",
    "ttl": 60,
    "proxied": False,
}
SECRET_MARK = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "ciphertext": "hunter2-hunter2"}
EMPTY: dict[str, Any] = {key: [] for key in (kind.value for kind in Kind)}


def event(
    op: str, type_: str, name: str, *, old: Any = None, new: Any = None, kind: str = "resourcePreEvent", **more: Any
) -> str:
    def state(given: Any) -> Any:
        return None if given is None else {"parent": FLEET, "inputs": given, "outputs": given, **more.get("both", {})}

    metadata = {
        "op": op,
        "urn": f"urn:pulumi:prod::rollcall::{type_}::{name}",
        "type": type_,
        "old": state(old),
        "new": state(new),
    }
    metadata |= {key: value for key, value in more.items() if key != "both"}
    return json.dumps({kind: {"metadata": metadata}})


def diagnostic(text: str, severity: str = "error") -> str:
    return json.dumps(
        {"diagnosticEvent": {"message": text, "severity": severity, "prefix": "<{%fg 1%}>error: <{%reset%}>"}}
    )


END = json.dumps({"summaryEvent": {"resourceChanges": {}}})


def comment(*events: str, limit: int = LIMIT) -> str:
    return commented(read_log("\n".join([*events, END])), stack="prod", limit=limit)


def machines(op: str, *names: str) -> list[str]:
    sides: dict[str, Any] = {"create": {"new": {}}, "delete": {"old": {}}}.get(op, {"old": {}, "new": {}})
    return [event(op, INSTANCE, name, **sides) for name in names]


def test_a_replacement_holds_both_at_the_peak_and_successors_come_first() -> None:
    replaced = [
        each for name in ("web-0", "web-1") for each in machines("create-replacement", name) + machines("replace", name)
    ]
    text = comment(
        *replaced,
        *machines("same", "web-2"),
        *machines("create", "web-3"),
        *machines("delete-replaced", "web-0", "web-1"),
    )
    assert "1 machine comes, 2 machines are replaced" in text
    assert "| `web` | AWS | 3 | 1 | 0 | 2 | 0 | 6 | 4 |" in text
    order = (
        text.index("3 new machines are created"),
        text.index("Roll call: every machine"),
        text.index("2 machines are asked to leave"),
    )
    assert list(order) == sorted(order)


def test_nothing_changes() -> None:
    text = comment(*machines("same", "web-0"))
    assert "nothing changes" in text and "differs" not in text and "In this order" not in text


@pytest.mark.parametrize("kind", EMPTY)
def test_each_kind_of_difference_is_shown_with_its_fleet_and_its_twin_is_not(kind: str) -> None:
    line = "web-1 (i-00000000000000001) is as it is"
    for lines in ([line], []):
        read = {**EMPTY, kind: lines}
        log = [
            event("refresh", ROLL_CALL, "web", old=EMPTY, new=EMPTY),
            event("refresh", ROLL_CALL, "web", old=EMPTY, new=read, kind="resOutputsEvent"),
            event("update" if lines else "same", ROLL_CALL, "web", old=read, new=EMPTY, diffs=[kind]),
        ]
        text = comment(*log)
        assert (f"- `web`: `{line}`" in text) == bool(lines)
        assert ("1 difference was found" in text) == bool(lines)


RELEASE = "pulumi-python:dynamic/rollcall:Release"


def release(digest: str, **more: Any) -> dict[str, Any]:
    policy = {"batch": "1", "healthy": 10, "deadline": 60, "canary": 0, "timeout": 300}
    return {
        "fleet": "www",
        "members": [{}, {}],
        "releases": {"www": digest},
        "files": {"www": "aaaaaabbbbbb"},
        "policy": policy,
        "differing": [],
        **more,
    }


def test_a_release_in_place_is_shown_as_the_preview_shows_it() -> None:
    record = {"state": "done", "to": {"www": "3f2a1c00" * 8}, "former": {}, "rollout": "0123abcd", "number": 2.0}
    read = release("3f2a1c00" * 8, record=record, taken=2.0, files={"www": "aaaaaacccccc"})
    wanted = release("9b77e000" * 8)
    log = [
        event("refresh", RELEASE, "www", old=read, new=read),
        event("refresh", RELEASE, "www", old=read, new=read, kind="resOutputsEvent"),
    ]
    changed = comment(*log, event("update", RELEASE, "www", old=read, new=wanted, diffs=["releases"]))
    assert "#### Releases in place" in changed and "1 release rolls out in place" in changed
    assert "- `www: release 3f2a1c -> 9b77e0, 1 file changed, 2 machines in batches of 1`" in changed
    same = comment(*log, event("same", RELEASE, "www", old=read, new=wanted))
    assert "Releases in place" not in same and "nothing changes" in same


def test_a_machine_with_another_release_is_a_difference() -> None:
    for lines in (["www-1 (i-1) should run www 3f2a1c, and runs 9b77e0"], []):
        read = release("3f2a1c00" * 8, differing=lines)
        log = [
            event("refresh", RELEASE, "www", old=release("3f2a1c00" * 8), new=release("3f2a1c00" * 8)),
            event("refresh", RELEASE, "www", old=release("3f2a1c00" * 8), new=read, kind="resOutputsEvent"),
            event("same", RELEASE, "www", old=read, new=release("3f2a1c00" * 8)),
        ]
        text = comment(*log)
        assert ("**Other releases** (1)" in text and f"- `www`: `{lines[0]}`" in text) if lines else "Other" not in text
        assert ("1 difference was found" in text) == bool(lines)


def test_what_a_user_changed_by_hand_is_distinguished_from_what_the_program_changes() -> None:
    group = "aws:ec2/securityGroup:SecurityGroup"
    # `y` is what the program asks for by now, so nothing of it is put back.
    ours, theirs = {"description": "a", "x": 1, "y": 1}, {"description": "a", "x": 2, "y": 2}
    wanted = {"description": "b", "x": 1, "y": 2}
    log = [
        event("refresh", group, "web-group", old=ours, new=ours),
        event("refresh", group, "web-group", old=ours, new=theirs, kind="resOutputsEvent"),
        event("update", group, "web-group", old=theirs, new=wanted, diffs=["description", "x"]),
    ]
    by_hand = findings_of(read_log("\n".join(log))).by_hand
    assert [(each.path, each.before, each.after) for each in by_hand[0].properties] == [("x", "2", "1")]


def test_a_machine_that_its_cloud_has_no_more_is_found_and_comes_again() -> None:
    log = [
        event("refresh", INSTANCE, "web-0", old={}, new={}),
        event("refresh", INSTANCE, "web-0", old={}, kind="resOutputsEvent"),
        *machines("create", "web-0"),
    ]
    text = comment(*log)
    assert "**Gone from their cloud** (1)" in text and "1 machine comes" in text


@pytest.mark.parametrize(
    ("rule", "opens"),
    [
        ({"fromPort": 22, "toPort": 22, "protocol": "tcp", "cidrBlocks": ["0.0.0.0/0"]}, True),
        ({"fromPort": 0, "toPort": 0, "protocol": "-1", "cidrBlocks": ["0.0.0.0/0"]}, True),
        ({"fromPort": 0, "toPort": 65535, "protocol": "tcp", "ipv6CidrBlocks": ["::/0"]}, True),
        ({"fromPort": 20, "toPort": 25, "protocol": "tcp", "ipv6CidrBlocks": ["::/0"]}, True),
        ({"fromPort": 20, "toPort": 25, "protocol": "tcp", "cidrBlocks": ["203.0.113.0/24"]}, False),
        ({"fromPort": 80, "toPort": 80, "protocol": "tcp", "cidrBlocks": ["0.0.0.0/0"]}, False),
        ({"fromPort": 0, "toPort": 65535, "protocol": "udp", "cidrBlocks": ["0.0.0.0/0"]}, False),
        ({"fromPort": -1, "toPort": -1, "protocol": "icmp", "cidrBlocks": ["0.0.0.0/0"]}, False),
        ("FROM any TO tag rollcall-firewall = web ALLOW tcp PORT 22", True),
        ("FROM subnet 0.0.0.0/0 TO tag rollcall-firewall = web ALLOW tcp PORT 22", True),
        ("FROM (subnet 203.0.113.0/24 OR subnet 0.0.0.0/0) TO all vms ALLOW tcp (PORT 80 AND PORT 22)", True),
        ("FROM any TO all vms ALLOW tcp PORTS 20 - 25", True),
        ("FROM any TO all vms ALLOW tcp PORT all", True),
        ("FROM subnet 203.0.113.0/24 TO tag rollcall-firewall = web ALLOW tcp PORT 22", False),
        ("FROM subnet 10.0.0.0/8 TO all vms ALLOW tcp PORT 22", False),
        ("FROM any TO all vms ALLOW tcp PORT 2222", False),
        ("FROM any TO all vms BLOCK tcp PORT 22", False),
        ("FROM any TO all vms ALLOW udp PORT 22", False),
    ],
)
def test_whatever_opens_ssh_to_everybody_is_under_the_heading(rule: dict[str, Any] | str, opens: bool) -> None:
    kind, inputs = (
        ("pulumi-python:dynamic/joyent:FirewallRule", {"rule": rule})
        if isinstance(rule, str)
        else ("aws:ec2/securityGroup:SecurityGroup", {"ingress": [rule]})
    )
    made = comment(event("create", kind, "web-firewall", new=inputs))
    assert ("opens SSH (port 22) to everybody" in made) is opens
    log = [
        event("refresh", kind, "web-firewall", old={}, new={}),
        event("refresh", kind, "web-firewall", old={}, new=inputs, kind="resOutputsEvent"),
    ]
    assert bool(findings_of(read_log("\n".join(log))).dangers) is opens, "and what a user did by hand"


def test_a_fleet_of_a_thousand_has_a_comment() -> None:
    names = [f"a-fleet-with-quite-a-long-name-{number}" for number in range(1000)]
    text = comment(*machines("create", *names))
    assert "`a-fleet-with-quite-a-long-name-99` and 900 more" in text and len(text) < 65_536


def test_what_python_takes_for_the_end_of_a_line_is_none_of_the_log_s() -> None:
    """The engine writes it as it is, and a machine's metadata may have it."""
    line = event("create", "aws:ssm/parameter:Parameter", "given", new={"value": "a\x85b"}).replace("\\u0085", "\x85")
    assert "\x85" in line and read_log(line).steps


def test_what_is_dangerous_is_under_its_own_heading() -> None:
    record = {"name": "www.example.org", "type": "CNAME", "content": "a.example.org"}
    roll = {**EMPTY, "places": [PLACE], "drain_delay": 5, "timeout": 60}
    text = comment(
        *machines("delete", "web-0", "web-1"),
        event("delete", ROLL_CALL, "web", old=roll),
        event("delete", "cloudflare:index/dnsRecord:DnsRecord", "site-scalability.expert-apex", old=record),
        event("delete", "cloudflare:index/zone:Zone", "site-zone", old={}, both={"protect": True}),
        event("update", ROLL_CALL, "other", old={"safe_deletes": True}, new={"safe_deletes": False}),
        event("update", "aws:ec2/securityGroup:SecurityGroup", "web-group", old={"ingress": []},
              new={"ingress": [{"fromPort": 22, "toPort": 22, "cidrBlocks": ["0.0.0.0/0"]}]}),
    )  # fmt: skip
    for words in (
        "Check this before you approve", "Fleet `web` is removed: 2 machines", "No machine answers at `www.example.org A` any more",
        "`www.example.org CNAME a.example.org` is deleted", "is protected and would be deleted", "The safety limit is off", "opens SSH",
    ):  # fmt: skip
        assert words in text, words
    assert "Look at this" not in comment(*machines("create", "web-9"))


def test_no_secret_is_shown_whatever_marks_it() -> None:
    old = {"value": SECRET_MARK, "apiToken": "plain-token", "note": "a", "nested": {"password": "hunter2"}}
    new = {**old, "note": "b", "apiToken": "plain-token-2", "nested": {"password": "hunter3"}}
    text = comment(event("update", "cloudflare:index/apiToken:ApiToken", "machines", old=old, new=new,
                         diffs=["value", "apiToken", "note", "nested.password"]))  # fmt: skip
    assert "hunter" not in text and "plain-token" not in text
    assert "`note`: `a` → `b`" in text and text.count(SECRET) >= 4
    assert plain({"a": SECRET_MARK}) == {"a": SECRET}


def secret_variables() -> set[str]:
    """Every environment variable with a secret that some module of the program names."""
    named: set[str] = set()
    for path in (Path(__file__).parents[3] / "components").rglob("*.py"):
        named |= set(_VARIABLE.findall(path.read_text()))
    # Those of CloudAPI are put together from a prefix.
    forms = {each for each in named if each.startswith("KEY_")}
    return named - forms - {"AWS_ACCESS_KEY_ID", "TF_AWS_IGNORE_TAGS_KEY_PREFIXES"} | {
        f"{prefix}_{each}" for prefix in ("TRITON", "SDC") for each in forms
    }


def test_a_secret_of_the_environment_is_taken_out_of_an_error() -> None:
    assert without_secrets("failed with abcdefghij", {"CLOUDFLARE_API_TOKEN": "abcdefghij"}) == f"failed with {SECRET}"
    assert without_secrets("ab", {"CLOUDFLARE_API_TOKEN": "a"}) == "ab"


@pytest.mark.parametrize("variable", sorted(secret_variables()))
def test_every_secret_that_the_program_reads_from_the_environment_is_taken_out(variable: str) -> None:
    """A TSIG key is also taken out where an error repeats its last part only, which is the secret."""
    assert without_secrets("bad abcdefghij", {variable: "abcdefghij"}) == f"bad {SECRET}"
    assert "abcdefghij" not in without_secrets("bad abcdefghij=", {variable: "hmac-sha256:rollcall:abcdefghij="})


def test_what_a_stranger_wrote_into_dns_does_not_come_alive() -> None:
    line = "`</details> @everyone <img src=x> ``` [a](http://b)"
    shown = code(line)
    assert shown.startswith("````") and shown.endswith("````")
    assert "\n" not in code("a\n# b")
    text = comment(diagnostic("it says ```` and\n@everyone"))
    assert "`````text\n" in text


@pytest.mark.parametrize("limit", [LIMIT, 20_000])
def test_a_long_comment_says_what_it_leaves_out(limit: int) -> None:
    read = {
        **EMPTY,
        "missing": [f"web-{number} (i-{number:017x}) is not at www.example.org A" for number in range(3000)],
    }
    text = comment(
        event("update", ROLL_CALL, "web", old=read, new=EMPTY),
        *(diagnostic(f"{number} {'x' * 9000}") for number in range(40)),
        limit=limit,
    )
    assert len(text) <= limit
    assert "more. A comment on GitHub has at most 65,536 characters" in text and "(3000)" in text
    assert "at most" not in comment(*machines("create", "web-0"))


def test_the_same_preview_is_the_same_comment_in_whatever_order_the_engine_took_it() -> None:
    events = [*machines("create", "web-10", "web-9"), *machines("same", "web-1")]
    assert comment(*events) == comment(*reversed(events))
    assert "`web-9`, `web-10`" in comment(*events)


@pytest.mark.parametrize(
    ("log", "words", "code"),
    [
        pytest.param([*machines("same", "web-0"), END], [], 0, id="nothing"),
        pytest.param([*machines("same", "web-0"), END], ["--expect-no-changes"], 0, id="nothing expected"),
        pytest.param([*machines("create", "web-0"), END], [], 0, id="a change"),
        pytest.param(
            [*machines("create", "web-0"), END], ["--expect-no-changes"], 3, id="a change where none is expected"
        ),
        pytest.param([diagnostic("no"), END], ["--expect-no-changes"], 1, id="an error"),
        pytest.param(machines("same", "web-0"), ["--expect-no-changes"], 1, id="an engine that died"),
        pytest.param(["Previewing update"], [], 2, id="no event log"),
    ],
)
def test_the_exit_code_says_how_it_went(
    log: list[str], words: list[str], code: int, tmp_path: Path, capsys: Any
) -> None:
    file, out = tmp_path / "events.json", tmp_path / "comment.md"
    file.write_text("\n".join(log))
    assert main(["--stack", "prod", "--log", str(file), "--output", str(out), *words]) == code
    if code != 2:
        assert out.read_text().startswith("<!-- rollcall-review: prod -->\n")
    else:
        assert "line 1: is not JSON" in capsys.readouterr().err


def test_drift_alone_is_a_difference_though_no_resource_changes() -> None:
    read = {**EMPTY, "foreign": ["192.0.2.1 (no owner) at www.example.org A"]}
    log = [event("same", ROLL_CALL, "web", old=read, new=EMPTY), END]
    assert findings_of(read_log("\n".join(log))).changes


def test_a_preview_without_pulumi_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["--stack", "prod"]) == 2
    assert "Put the engine on the PATH" in capsys.readouterr().err
    with pytest.raises(LogError, match="line 1: is not an event"):
        read_log("[]")


@pytest.mark.parametrize("stays", [True, False])
def test_a_fleet_that_stays_and_leaves_a_name_is_seen(stays: bool) -> None:
    before, after = {**EMPTY, "places": [PLACE]}, {**EMPTY, "places": [PLACE] if stays else []}
    text = comment(*machines("update", "web-0"), event("update", ROLL_CALL, "web", old=before, new=after))
    assert ("No machine answers at `www.example.org A` any more" in text) != stays
    assert ("- `www.example.org A`: 1 machine now, 0 afterwards" in text) != stays


def test_a_record_that_is_replaced_is_not_called_deleted() -> None:
    old, new = (
        {"name": "a.example.org", "type": "A", "content": "x"},
        {"name": "b.example.org", "type": "A", "content": "x"},
    )
    record = "cloudflare:index/dnsRecord:DnsRecord"
    steps = [
        event("create-replacement", record, "apex", old=old, new=new, keys=["name"]),
        event("delete-replaced", record, "apex", old=old),
    ]
    text = comment(*steps)
    assert (
        "is deleted" not in text
        and "- replaced: `b.example.org A x`" in text
        and "`name`: `a.example.org` → `b.example.org`" in text
    )


def test_the_guide_names_every_exit_code() -> None:
    guide = (Path(__file__).resolve().parents[3] / "docs" / "review.md").read_text()
    assert re.findall(r"^\| (\d) \|", guide, re.M) == ["0", "1", "2", "3"]
