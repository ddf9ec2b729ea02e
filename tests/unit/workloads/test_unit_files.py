"""rollcall.unit_files: what an operator's unit file may say, and what leads out of the confinement."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from components.config.models import WorkloadSettings
from components.config.reader import read
from components.workloads import definitions
from get_release import ReleaseError
from rollcall.unit_files import UnitFileError, read_unit
from rollcall.workload_units import units
from rollcall.workloads import own_unit

GOOD = """# Of the vendor.
[Unit]
Description=The shop
After=network-online.target postgresql.service
Wants=postgresql.service

[Service]
Type=notify
User=www-data
NoNewPrivileges=no
ProtectSystem=false
ExecStartPre=-./prepare --all \\
    # a comment between the two
    --quietly
ExecStart=./shop --port ${PORT}
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
LimitNOFILE=65536
StandardOutput=journal

[Install]
WantedBy=multi-user.target
"""


def unit_of(service: str) -> str:
    return f"[Service]\nExecStart=./start\n{service}\n"


def test_its_lines_come_before_those_that_confine_it() -> None:
    text = units("shop", {"unit": "shop.service", "env": {"PORT": "1"}}, "i-1", read_unit(GOOD))[
        "workload-shop.service"
    ]
    lines = text.splitlines()
    files = "/opt/rollcall/workloads/shop/current/files"
    assert ["ExecStartPre=-" + files + "/prepare", "--all", "--quietly"] in [each.split() for each in lines]
    assert f"ExecStart={files}/shop --port ${{PORT}}" in lines and "ExecReload=/bin/kill -HUP $MAINPID" in lines
    assert lines.index("Restart=always") < lines.index("Restart=on-failure") < lines.index("NoNewPrivileges=yes")
    assert lines.index("Type=exec") < lines.index("Type=notify") < lines.index("ProtectSystem=strict")
    assert lines.index("Description=The shop") < lines.index("[Service]")
    assert "User=www-data" in lines and "DynamicUser=yes" not in lines
    # What Rollcall sets is there once.
    assert "NoNewPrivileges=no" not in lines and "ProtectSystem=false" not in lines
    assert lines.count("WantedBy=multi-user.target") == 1 and 'Environment="PORT=1"' in lines


def test_the_user_of_the_configuration_comes_before_the_unit_file_s() -> None:
    text = units("shop", {"unit": "x.service", "user": "games"}, "i-1", read_unit(GOOD))["workload-shop.service"]
    assert "User=games" in text and "User=www-data" not in text


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("User=root", "has User=root"),
        ("User=0", "has User=0"),
        ("User=%u", "has User=%u"),
        ("Group=disk", "has Group= in [Service]"),
        ("SupplementaryGroups=adm", "has SupplementaryGroups= in [Service]"),
        ("ExecStartPre=+/bin/sh -c id", "has ExecStartPre=+/bin/sh -c id"),
        ('ExecStartPre="+/bin/sh" -c id', 'has ExecStartPre="+/bin/sh" -c id'),
        ("ExecStartPre=\\x2b/bin/sh", "has ExecStartPre=\\x2b/bin/sh"),
        ("ExecStartPre=-!!/bin/sh", "has ExecStartPre=-!!/bin/sh"),
        ("ExecReload=|/bin/sh", "has ExecReload=|/bin/sh"),
        ("ExecStartPre=/bin/true ; +/bin/sh", "has several commands in ExecStartPre="),
        ("IPAddressAllow=169.254.169.254", "has IPAddressAllow= in [Service]"),
        ("BindPaths=/opt/rollcall/releases:/x", "has BindPaths= in [Service]"),
        ("LoadCredential=x:/etc/shadow", "has LoadCredential= in [Service]"),
        ("EnvironmentFile=/run/rollcall/secrets/www/KEY", "has EnvironmentFile= in [Service]"),
        ("StateDirectory=rollcall", "has StateDirectory= in [Service]"),
        ("WorkingDirectory=/", "has WorkingDirectory= in [Service]"),
        ("StandardOutput=file:/etc/passwd", "has StandardOutput=file:/etc/passwd"),
        ("CapabilityBoundingSet=CAP_SYS_ADMIN", "has CapabilityBoundingSet= in [Service]"),
        ("SystemCallArchitectures=x86", "has SystemCallArchitectures= in [Service]"),
        ("NetworkNamespacePath=/run/netns/x", "has NetworkNamespacePath= in [Service]"),
        ("FutureKey=yes", "has FutureKey= in [Service]"),
        ("Type=oneshot", "has Type=oneshot"),
        ("Description=a\\ ", "has a backslash at the end"),
        ("[Socket]\nListenStream=80", "has the section [Socket]"),
        ("[Install]\nAlias=rollcall.service", "has Alias= in [Install]"),
        ("[Unit]\nConflicts=rollcall.service", "has Conflicts= in [Unit]"),
        ("[Unit]\nWants=reboot.target", "has Wants=reboot.target"),
        ("[Unit]\nAfter=rollcall-leave.service", "has After=rollcall-leave.service"),
        ("[Unit]\nOnFailure=emergency.target", "has OnFailure= in [Unit]"),
        ("nonsense", "has the line 'nonsense'"),
        ("Nice=\x01", "has a control character"),
    ],
)
def test_what_leads_out_of_the_confinement_is_refused(line: str, problem: str) -> None:
    read_unit(unit_of("Nice=5"))
    with pytest.raises(UnitFileError, match=f"^{re.escape(problem)}"):
        read_unit(unit_of(line))


def test_a_unit_without_a_command_is_refused() -> None:
    with pytest.raises(UnitFileError, match=r"^has no ExecStart\. Set it, as ExecStart=\./start$"):
        read_unit("[Service]\nType=simple\n")


def test_no_line_of_a_unit_file_swallows_one_of_rollcall_s() -> None:
    # systemd continues a line that ends with a backslash.
    for text in (unit_of("Nice=5\\"), unit_of("Nice=5 \\  "), GOOD, GOOD.replace("\n", "\r\n")):
        try:
            found = read_unit(text)
        except UnitFileError:
            continue
        assert all(
            re.fullmatch(r"[A-Za-z]+=[^\x00-\x08\x0a-\x1f]*(?<!\\)", each) for each in (*found.unit, *found.service)
        )


def workload(folder: Path, text: str | None, **more: object) -> list[str]:
    (folder / "shop/deploy").mkdir(parents=True, exist_ok=True)
    if text is not None:
        (folder / "shop/deploy/shop.service").write_text(text)
    config = {
        "sites": {"www": {"zone": "s.example"}},
        "workloads": {"shop": {"files": "shop", "unit": "deploy/shop.service", **more}},
        "fleets": {"web": {"cloud": "aws", "size": "t", "image": "debian-12", "joins": ["site/www"], "runs": ["shop"]}},
    }
    return definitions.packed(read("local", config), folder)[1]


def test_a_unit_file_is_checked_before_anything_is_created(tmp_path: Path) -> None:
    where = "rollcall:workloads.shop.unit: deploy/shop.service"
    assert workload(tmp_path / "good", GOOD) == []
    assert workload(tmp_path / "bad", unit_of("Group=disk")) == [
        f"{where} has Group= in [Service], which a workload's unit may not have. Take it out; Rollcall sets folders,"
        " credentials and confinement (docs/workloads.md, A systemd unit)."
    ]
    assert workload(tmp_path / "excluded", GOOD, exclude=["*.service"]) == [
        f"{where} is not among the packed files of shop. Name a file that is there and not excluded."
    ]


def test_a_machine_checks_it_too_because_an_artifact_is_there_only(tmp_path: Path) -> None:
    (tmp_path / "x.service").write_text(unit_of("User=root"))
    assert own_unit({"run": "./start"}, tmp_path) is None
    with pytest.raises(ReleaseError, match=r"^reason=unit-refused unit=x\.service said='has User=root\. Name another"):
        own_unit({"unit": "x.service"}, tmp_path)
    with pytest.raises(ReleaseError, match=r"^reason=unit-missing unit=y\.service$"):
        own_unit({"unit": "y.service"}, tmp_path)
    assert WorkloadSettings(name="shop", unit="x.service").run is None
