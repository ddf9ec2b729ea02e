"""rollcall.containers: the unit of a container, and how its image gets to the machine."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from components.config.models import BeforeSettings, CheckSettings, RegistrySettings, WorkloadSettings
from components.workloads.definitions import definition
from rollcall import containers
from rollcall.containers import prepare, secret_names
from rollcall.errors import TransientError
from rollcall.workload_units import agent_starts, units

DIGEST = f"sha256:{'0123456789abcdef' * 4}"
IMAGE = f"ghcr.io/acme/cart@{DIGEST}"
PRIVATE = RegistrySettings(user="acme", password=SecretStr("hush-hush"))


def cart(image: str = IMAGE, **more: Any) -> dict[str, Any]:
    # As a machine reads it.
    found: dict[str, Any] = json.loads(json.dumps(definition(WorkloadSettings(name="cart", container=image, **more))))
    return found


def command(settings: dict[str, Any], unit: str = "workload-cart.service") -> str:
    (line,) = (each for each in lines(settings, unit) if each.startswith("ExecStart="))
    return line


def lines(settings: dict[str, Any], unit: str = "workload-cart.service") -> list[str]:
    return units("cart", settings, "i-1")[unit].splitlines()


def test_a_container_is_in_the_control_group_of_its_unit_with_what_limits_it() -> None:
    found = lines(cart(memory="512M", cpu="150%"))
    assert {"MemoryMax=512M", "CPUQuota=150%", "IPAddressDeny=169.254.169.254 fd00:ec2::254", "Delegate=yes"} <= {
        *found
    }
    words = command(cart()).split()
    assert {"--cgroups=split", "--network=host", "--cap-drop=all", "--cap-add=NET_BIND_SERVICE", "--pull=never"} <= {
        *words
    }
    assert "--security-opt=no-new-privileges" in words and words[-1] == IMAGE
    # Lines with which podman itself could not work.
    assert not any(each.startswith(("RestrictNamespaces", "ProtectSystem", "DynamicUser", "User=")) for each in found)


def test_it_is_ready_when_it_runs_and_stops_by_podman() -> None:
    found = lines(cart(check=(CheckSettings(http=":80/", grace=9),)))
    assert [each for each in found if each.startswith("Type=")][-1] == "Type=notify" and "NotifyAccess=all" in found
    assert "ExecStop=/usr/bin/podman stop --ignore --time=30 workload-cart" in found
    assert any(each.startswith("ExecStartPost=") and "wait_healthy.py" in each for each in found)
    assert agent_starts(cart()) and "[Install]" not in found


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"user": "1000:1000"}, ["--user=1000:1000"]),
        ({"read_only": True}, ["--read-only"]),
        ({"capabilities": ("CHOWN", "SETUID")}, ["--cap-add=CHOWN", "--cap-add=SETUID"]),
        ({"args": ("--port", "8080")}, [IMAGE, "--port", "8080"]),
    ],
)
def test_what_is_configured_is_an_argument_and_what_is_not_is_none(more: dict[str, Any], words: list[str]) -> None:
    assert " ".join(words) in command(cart(**more))
    assert words[0] == IMAGE or words[0].partition("=")[0] + "=" not in command(cart()).replace("NET_BIND", "").replace(
        "--cap-add=_SERVICE", ""
    )


def test_no_character_of_a_variable_or_an_argument_has_a_meaning_for_systemd() -> None:
    found = command(cart(env={"A": 'it\'s $5 or ${B} 100% "x" \\'}, args=("a b", "; rm", "%h")))
    assert '"--env=A=it\'s $$5 or $${B} 100%% \\"x\\" \\\\"' in found
    assert found.endswith(f'{IMAGE} "a b" "; rm" "%%h"')


def test_secrets_are_files_and_no_arguments_and_the_password_is_not_for_the_container() -> None:
    settings = cart(secrets={"DATABASE_URL": SecretStr("hush-hush")}, registry=PRIVATE)
    assert secret_names(settings) == ["DATABASE_URL", "registry-password"] and secret_names(cart()) == []
    found = lines(settings)
    assert "hush" not in json.dumps([settings, found])
    assert [each for each in found if each.startswith("LoadCredential=")] == [
        "LoadCredential=DATABASE_URL:/run/rollcall/secrets/cart/DATABASE_URL"
    ]
    assert {"RuntimeDirectory=workload-cart", "RuntimeDirectoryMode=0700"} <= {*found}
    assert "ExecStartPre=/usr/bin/install -D -m 444 -t /run/workload-cart/secrets %d/DATABASE_URL" in found
    for word in (
        "--volume=/run/workload-cart/secrets:/run/credentials:ro",
        "--env=CREDENTIALS_DIRECTORY=/run/credentials",
    ):
        assert word in command(settings) and word not in command(cart(registry=PRIVATE))


def test_a_hook_runs_in_the_image_in_place_of_what_it_starts() -> None:
    settings = cart(before=BeforeSettings(run="./migrate --to ${HEAD} 100%", timeout=30), args=("serve",))
    unit = "before-workload-cart.service"
    assert command(settings, unit).endswith(f" --entrypoint= {IMAGE} ./migrate --to $${{HEAD}} 100%%")
    assert {"Type=oneshot", "TimeoutStartSec=30", "RemainAfterExit=yes"} <= {*lines(settings, unit)}
    assert "Type=notify" not in lines(settings, unit) and "--name=before-workload-cart" in command(settings, unit)


class Podman:
    """Records what it is called with. It has `images`, and `pull` adds one if `error` is empty."""

    def __init__(self, *images: str) -> None:
        self.images, self.error, self.calls, self.login = {*images}, "", list[list[str]](), ""
        self.used: set[str] = set()

    def __call__(self, words: Sequence[str], _limit: float) -> subprocess.CompletedProcess[str]:
        assert words[0] == "/usr/bin/podman"
        kind = next(each for each in words if each in ("exists", "pull", "rm"))
        self.calls.append([*words[1:]])
        image = next(each for each in words if "@" in each)
        status = 0
        if kind == "exists":
            status = int(image not in self.images)
        elif kind == "rm":
            status = int(image in self.used)
            self.images -= {image} if not status else set()
        else:
            file = next((each.partition("=")[2] for each in words if each.startswith("--authfile=")), "")
            self.login = Path(file).read_text() if file else ""
            assert not file or Path(file).stat().st_mode & 0o777 == 0o600
            status = int(bool(self.error))
            self.images |= {image} if not status else set()
        return subprocess.CompletedProcess(words, status, "", self.error)

    def kinds(self) -> list[str]:
        return [next(each for each in call if each in ("exists", "pull", "rm")) for call in self.calls]


@pytest.fixture
def prepared(tmp_path: Path) -> Callable[..., None]:
    (tmp_path / "secrets/cart").mkdir(parents=True)

    def run(podman: Podman, settings: dict[str, Any]) -> None:
        prepare(
            "cart",
            settings,
            secrets=tmp_path / "secrets",
            definitions=tmp_path / "opt",
            pulled=tmp_path / "images",
            run=podman,
        )

    return run


def release(home: Path, number: int, settings: dict[str, Any]) -> None:
    folder = home / f"opt/cart/releases/{number}"
    folder.mkdir(parents=True)
    (folder / "workload.json").write_text(json.dumps(settings))


def test_an_image_is_pulled_once(prepared: Callable[..., None], tmp_path: Path) -> None:
    podman = Podman()
    prepared(podman, cart())
    prepared(podman, cart())
    assert podman.kinds() == ["exists", "pull", "exists"] and podman.images == {IMAGE}
    assert podman.calls[1] == ["pull", "--quiet", IMAGE] and (tmp_path / "images").read_text() == IMAGE


def test_a_workload_without_a_container_needs_no_podman(prepared: Callable[..., None]) -> None:
    podman = Podman()
    prepared(podman, {"run": "./start"})
    assert podman.calls == []


def test_the_login_is_in_a_file_for_the_time_of_the_pull(prepared: Callable[..., None], tmp_path: Path) -> None:
    podman = Podman()
    (tmp_path / "secrets/cart/registry-password").write_text("hush-hush")
    prepared(podman, cart(registry=PRIVATE))
    known = base64.b64encode(b"acme:hush-hush").decode()
    assert json.loads(podman.login) == {"auths": {"ghcr.io": {"auth": known}}}
    assert "hush" not in json.dumps(podman.calls) and known not in json.dumps(podman.calls)
    assert [each.name for each in (tmp_path / "secrets/cart").iterdir()] == ["registry-password"]


def test_a_pull_that_fails_is_reported_and_its_login_removed(prepared: Callable[..., None], tmp_path: Path) -> None:
    podman = Podman()
    podman.error = "Error: initializing source: unauthorized\n"
    (tmp_path / "secrets/cart/registry-password").write_text("hush-hush")
    with pytest.raises(TransientError) as raised:
        prepared(podman, cart(registry=PRIVATE))
    assert str(raised.value) == f"reason=image-failed image={IMAGE} said='Error: initializing source: unauthorized'"
    assert [each.name for each in (tmp_path / "secrets/cart").iterdir()] == ["registry-password"]
    podman.error = ""
    prepared(podman, cart(registry=PRIVATE))
    assert podman.images == {IMAGE}


def other(number: int) -> str:
    return f"ghcr.io/acme/cart@sha256:{number:064x}"


def test_images_of_releases_that_are_gone_are_removed_and_no_others(
    prepared: Callable[..., None], tmp_path: Path
) -> None:
    operators = other(9)
    podman = Podman(operators)
    for number in (1, 2, 3):
        release(tmp_path, number, cart(other(number)))
        prepared(podman, cart(other(number)))
    assert podman.images == {operators, other(1), other(2), other(3)}
    # One that a container uses stays until the next time.
    (tmp_path / "opt/cart/releases/1/workload.json").unlink()
    podman.used = {other(1)}
    prepared(podman, cart(other(3)))
    assert podman.images == {operators, other(1), other(2), other(3)}
    podman.used = set()
    prepared(podman, cart(other(3)))
    assert podman.images == {operators, other(2), other(3)}
    assert set((tmp_path / "images").read_text().split()) == {other(2), other(3)}


def test_no_secret_of_a_workload_has_the_name_of_the_password() -> None:
    from components.config.workload_checks import _SECRET_NAME

    assert re.fullmatch(_SECRET_NAME, containers.PASSWORD) is None
