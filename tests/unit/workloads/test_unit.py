"""rollcall.workload_units: the systemd unit of a workload."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.config.models import BeforeSettings, CheckSettings, WorkloadSettings
from components.workloads.definitions import definition, release_of
from components.workloads.packing import pack
from rollcall import workloads
from rollcall.settings import DEFINITION_FORMAT
from rollcall.workload_units import units


def lines(settings: dict[str, Any]) -> list[str]:
    return units("shop", settings, "i-1")["workload-shop.service"].splitlines()


def shop(**more: Any) -> WorkloadSettings:
    return WorkloadSettings(name="shop", run="./start", **more)


def secrets(**values: str) -> dict[str, Any]:
    from pydantic import SecretStr

    return {name: SecretStr(value) for name, value in values.items()}


def test_a_secret_is_a_credential_and_the_agent_starts_the_unit() -> None:
    settings = definition(shop(secrets=secrets(DATABASE_URL="hush-hush", API_KEY="hush-too")))
    found = lines(settings)
    assert [each for each in found if each.startswith("LoadCredential=")] == [
        "LoadCredential=API_KEY:/run/rollcall/secrets/shop/API_KEY",
        "LoadCredential=DATABASE_URL:/run/rollcall/secrets/shop/DATABASE_URL",
    ]
    assert "[Install]" not in found and "hush" not in "\n".join(found)
    assert any(each.startswith("TemporaryFileSystem=") and "/run/rollcall:ro" in each for each in found)


def test_a_workload_without_a_secret_starts_at_boot() -> None:
    found = lines(definition(shop()))
    assert found[-3:] == ["", "[Install]", "WantedBy=multi-user.target"]
    assert not any("Credential" in each for each in found)


def test_limits_are_those_of_systemd_and_without_them_there_are_none() -> None:
    found = lines(definition(shop(memory="512M", cpu="150%")))
    assert {"MemoryMax=512M", "CPUQuota=150%"} <= {*found}
    assert not any(each.startswith(("MemoryMax", "CPUQuota")) for each in lines(definition(shop())))


def test_it_is_confined_to_its_own_files() -> None:
    found = lines(definition(shop()))
    assert {"BindReadOnlyPaths=-/opt/rollcall/workloads/shop", "ProtectSystem=strict", "DynamicUser=yes"} <= {*found}
    assert "IPAddressDeny=169.254.169.254 fd00:ec2::254" in found and "@" not in "\n".join(found)
    hidden = " ".join(each for each in found if each.startswith("InaccessiblePaths="))
    assert "-/etc/nginx/rollcall-origins" in hidden and "-/var/lib/rollcall" in hidden


def test_another_value_is_the_same_release_and_another_secret_is_another(tmp_path: Any) -> None:
    one, other = (release_of(shop(secrets=secrets(A=value)), tmp_path) for value in ("hush-hush", "another"))
    assert one.digest == other.digest and b"hush" not in one.tar
    assert one.digest != release_of(shop(secrets=secrets(B="hush-hush")), tmp_path).digest
    # Those of before this key was there keep their digest.
    assert "secrets" not in definition(shop())


def test_only_what_an_older_agent_must_not_ignore_has_a_newer_format() -> None:
    assert "format" not in definition(shop(env={"A": "b"}, check=(CheckSettings(http=":80/", grace=5),)))
    for more in (
        {"before": BeforeSettings(run="./migrate")},
        {"check": (CheckSettings(command="./healthy"),)},
        {"check": (CheckSettings(tcp=":1"), CheckSettings(tcp=":2"))},
    ):
        assert definition(shop(**more))["format"] == 2
    assert definition(WorkloadSettings(name="shop", unit="x.service"))["format"] == 2
    image = f"ghcr.io/acme/shop@sha256:{'0' * 64}"
    assert definition(WorkloadSettings(name="shop", container=image))["format"] == 3
    assert definition(WorkloadSettings(name="shop", aws_credentials=True))["format"] == DEFINITION_FORMAT == 4


@pytest.mark.parametrize(("form", "refused"), [(1, False), (3, False), (4, False), (5, True)])
def test_a_machine_refuses_a_definition_of_a_newer_format(
    form: int, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = "d" * 64
    home = tmp_path / "opt/rollcall/workloads/shop"
    (home / f"releases/{digest}/files").mkdir(parents=True)
    text = json.dumps({"name": "shop", "run": "./start", "format": form, "colour": "red"})
    (home / f"releases/{digest}/workload.json").write_text(text)
    cloud = SimpleNamespace(name="aws", keys=lambda: {"rollcall-workload-shop": digest})
    monkeypatch.setattr(workloads, "detect", lambda: cloud)
    monkeypatch.setattr(workloads, "confine", lambda *_, **__: None)
    assert workloads.main(["shop", "", str(tmp_path), "i-1"]) == int(refused)
    assert (tmp_path / "etc/systemd/system/workload-shop.service").exists() != refused
    assert (home / "current").exists() != refused
    assert ("workload=shop: has format '5', and this agent reads 4" in capsys.readouterr().err) == refused


def test_a_new_release_with_a_hook_is_started_by_the_agent_and_the_former_one_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "opt/rollcall/workloads/shop"
    revision = tmp_path / "run/rollcall/secrets/shop/.revision"
    stopped: list[str] = []
    monkeypatch.setattr(workloads, "confine", lambda *_, **__: None)
    monkeypatch.setattr("rollcall.confinement.stop", stopped.append)
    for digest, hook, line in (("a", {}, "unit changed -"), ("b", {"timeout": 9, "run": "./m"}, "secret same -")):
        (home / f"releases/{digest * 64}/files").mkdir(parents=True)
        text = json.dumps({"run": "./start", **({"before": hook} if hook else {})})
        (home / f"releases/{digest * 64}/workload.json").write_text(text)
        revision.parent.mkdir(parents=True, exist_ok=True)
        revision.write_text("r1")
        cloud = SimpleNamespace(name="aws", keys=lambda digest=digest: {"rollcall-workload-shop": digest * 64})
        monkeypatch.setattr(workloads, "detect", lambda cloud=cloud: cloud)
        assert workloads.main(["shop", "", str(tmp_path), "i-1"]) == 0
        assert capsys.readouterr().out == f"{line}\n"
        assert (stopped, revision.exists()) == (([], True) if not hook else (["workload-shop"], False))
    # The next boot changes nothing.
    revision.write_text("r2")
    workloads.main(["shop", "", str(tmp_path), "i-1"])
    assert stopped == ["workload-shop"] and revision.exists()


class TestInPlace:
    """A workload of a fleet with releases in place: no setting says its release, and the agent changes it."""

    OLD, NEW = "a" * 64, "b" * 64

    @pytest.fixture
    def home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        cloud = SimpleNamespace(name="aws", keys=lambda: {"rollcall-workloads": "shop"})
        monkeypatch.setattr(workloads, "detect", lambda: cloud)
        self.confined: list[dict[str, object]] = []

        def confine(*_: object, **given: object) -> None:
            self.confined.append(given)

        monkeypatch.setattr(workloads, "confine", confine)
        return tmp_path / "opt/rollcall/workloads/shop"

    def holds(self, home: Path, digest: str, **definition: object) -> None:
        (home / "releases" / digest / "files").mkdir(parents=True)
        (home / "releases" / digest / "workload.json").write_text(json.dumps({"run": "./start", **definition}))

    def test_a_boot_before_the_first_release_does_nothing(
        self, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert workloads.main(["shop", "", str(tmp_path), "i-1"]) == 0
        assert capsys.readouterr().out == "agent same -\n" and not (tmp_path / "etc").exists()

    def test_a_boot_starts_the_release_that_the_machine_has(
        self, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for digest in (self.OLD, self.NEW):
            self.holds(home, digest, packages=["jq"])
        (home / "current").symlink_to(f"releases/{self.OLD}")
        assert workloads.main(["shop", "", str(tmp_path), "i-1"]) == 0
        assert capsys.readouterr().out == "unit changed - jq\n"
        assert (home / "releases" / self.NEW).is_dir() and (home / "current").readlink().name == self.OLD

    def test_a_release_is_made_ready_while_another_one_runs(
        self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ran: list[str] = []
        done = SimpleNamespace(returncode=0)

        def run(words: list[str], **_: object) -> SimpleNamespace:
            ran.append(" ".join(words))
            return done

        monkeypatch.setattr("subprocess.run", run)
        self.holds(home, self.OLD)
        (home / "current").symlink_to(f"releases/{self.OLD}")
        self.holds(home, self.NEW, packages=["jq"], before={"run": "./migrate", "timeout": 9})
        assert workloads.main(["shop", "/boot.sh", str(tmp_path), "i-1", self.NEW]) == 0
        hook = (tmp_path / "etc/systemd/system/before-workload-shop.service").read_text()
        files = f"/opt/rollcall/workloads/shop/releases/{self.NEW}/files"
        assert f"ExecStart={files}/migrate\n" in hook and f"WorkingDirectory={files}\n" in hook
        assert ran == [
            "systemctl daemon-reload",
            "systemd-run --quiet --wait --pipe --collect /bin/sh /boot.sh need jq",
        ]
        assert (home / "current").readlink().name == self.OLD and self.confined == [{"is_ec2": True, "stops": False}]
        assert not (tmp_path / "etc/systemd/system/workload-shop.service").exists()

    @pytest.mark.parametrize(
        ("definition", "code", "reason"),
        [
            ({"unit": "shop.service", "run": None}, 2, "reason=unit-missing unit=shop.service workload=shop"),
            ({"packages": ["jq"]}, 1, "reason=package-missing package=jq said='E: no' workload=shop"),
        ],
    )
    def test_whether_another_try_may_help(
        self,
        home: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        definition: dict[str, object],
        code: int,
        reason: str,
    ) -> None:
        message = "2026-11-30 ERROR boot: reason=package-missing package=jq said='E: no'\n"
        done = SimpleNamespace(returncode=1, stderr=message)
        monkeypatch.setattr("subprocess.run", lambda *_, **__: done)
        self.holds(home, self.NEW, **definition)
        assert workloads.main(["shop", "", str(tmp_path), "i-1", self.NEW]) == code
        assert capsys.readouterr().err == f"{reason}\n"

    def test_a_triton_machine_gets_its_release_from_its_metadata(
        self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "shop").mkdir()
        (tmp_path / "shop/start").write_text("x")
        release = pack({"run": "./start"}, tmp_path / "shop")
        read: list[str] = []

        def secret(name: str) -> str:
            read.append(name)
            return base64.b85encode(release.packed).decode()

        (tmp_path / "boot.sh").write_text("\n#FILES\n")
        cloud = SimpleNamespace(name="joyent", keys=lambda: {"rollcall-workloads": "shop"}, secret=secret)
        monkeypatch.setattr(workloads, "detect", lambda: cloud)
        assert workloads.main(["shop", str(tmp_path / "boot.sh"), str(tmp_path), "i-1", release.digest]) == 0
        assert read == [f"rollcall-carried-{release.digest}"]
        assert (home / "releases" / release.digest / "files/start").read_text() == "x"
