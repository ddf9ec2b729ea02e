"""rollcall.workloads.unit: the systemd unit of a workload."""

from __future__ import annotations

from typing import Any

from components.config.models import WorkloadSettings
from components.workloads.definitions import definition, release_of
from rollcall.workloads import unit


def lines(settings: dict[str, Any]) -> list[str]:
    return unit("shop", settings, "i-1").splitlines()


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
    assert "-/etc/nginx/rollcall-origin.pem" in hidden and "-/var/lib/rollcall" in hidden


def test_another_value_is_the_same_release_and_another_secret_is_another(tmp_path: Any) -> None:
    one, other = (release_of(shop(secrets=secrets(A=value)), tmp_path) for value in ("hush-hush", "another"))
    assert one.digest == other.digest and b"hush" not in one.tar
    assert one.digest != release_of(shop(secrets=secrets(B="hush-hush")), tmp_path).digest
    # Those of before this key was there keep their digest.
    assert "secrets" not in definition(shop())
