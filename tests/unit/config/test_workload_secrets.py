"""components.config.workload_secrets in the program, where the engine has decrypted the whole key and says only that it has a secret."""

from __future__ import annotations

import json
from typing import Any

import pytest

from components.config.models import Settings
from components.config.reader import read
from components.config.stack_file import StackFile
from components.config.workload_secrets import KEY, faults

PATH = (KEY, "shop", "secrets", "DATABASE_URL")
WHERE = f"{KEY}.shop.secrets.DATABASE_URL"
PLAIN = [
    f"{WHERE}: is in plain text. Run `pulumi config set --secret --path '{WHERE}'` with another value than this one."
]


def settings(**more: Any) -> Settings:
    fleet = {"cloud": "aws", "size": "t3.micro", "image": "debian-12", "joins": ["site/www"], "runs": ["shop"]}
    shop = {"run": "python3 -m shop", **more}
    return read(
        "local", {"sites": {"www": {"zone": "s.example"}}, "workloads": {"shop": shop}, "fleets": {"web": fleet}}
    )


def file(*secrets: tuple[str | int, ...], **shop: Any) -> StackFile:
    """A stack's file with these secrets; `shop` has null in their places, as components.config.stack_file reads it."""
    return StackFile(project="rollcall", texts={KEY: json.dumps({"shop": shop})} if shop else {}, secrets=secrets)


DECRYPTED = settings(secrets={"DATABASE_URL": "hush-hush"})
SEALED, WRITTEN = {"secrets": {"DATABASE_URL": None}}, {"secrets": {"DATABASE_URL": "hush-hush"}}


@pytest.mark.parametrize(
    ("given", "is_secret", "fault"),
    [
        (file(PATH, **SEALED), True, []),
        # Another file than the engine's, and none: an environment or --config-file has it.
        (file(), True, []),
        (None, True, []),
        (file(**WRITTEN), False, PLAIN),
        (None, False, PLAIN),
        # Beside another one that is encrypted.
        (file((KEY, "shop", "secrets", "A"), secrets={"A": None, "DATABASE_URL": "hush-hush"}), True, PLAIN),
        (
            file((KEY,)),
            True,
            [
                f"{KEY}: is a secret, and a workload's definition is in the state and in a bucket. Keep it below `secrets`."
            ],
        ),
        (
            file(PATH, (KEY, "shop", "env", "A"), **SEALED),
            True,
            [
                f"{KEY}.shop.env.A: is a secret, and a workload's definition is in the state and in a bucket. Keep it below `secrets`."
            ],
        ),
    ],
)
def test_only_secrets_are_encrypted_and_all_of_them(given: StackFile | None, is_secret: bool, fault: list[str]) -> None:
    found = faults(DECRYPTED, given, is_secret=is_secret)
    assert found == fault and "hush" not in str(found)


def test_a_secret_from_an_environment_in_a_workload_without_secrets_is_refused() -> None:
    (found,) = faults(settings(env={"A": "b"}), None, is_secret=True)
    assert found.startswith(f"{KEY}: has a secret, and a workload's definition is in the state and in a bucket.")
    assert faults(settings(env={"A": "b"}), None, is_secret=False) == []


PASSWORD = (KEY, "shop", "registry", "password")


def private(password: str) -> Settings:
    image = f"ghcr.io/acme/shop@sha256:{'0' * 64}"
    return settings(run=None, container=image, registry={"user": "acme", "password": password})


def test_a_password_for_a_registry_is_a_secret_in_its_place() -> None:
    sealed = file(PASSWORD, registry={"user": "acme", "password": None})
    assert faults(private("hush-hush"), sealed, is_secret=True) == []
    assert faults(private("hush-hush"), file(), is_secret=True) == []
    where = f"{KEY}.shop.registry.password"
    for plain in (file(registry={"user": "acme", "password": "hush-hush"}), None):
        (fault,) = faults(private("hush-hush"), plain, is_secret=False)
        assert fault.startswith(f"{where}: is in plain text. Run `pulumi config set --secret --path '{where}'`")
    (misplaced,) = faults(private("hush-hush"), file((KEY, "shop", "registry", "user")), is_secret=True)
    assert misplaced.startswith(f"{KEY}.shop.registry.user: is a secret, and a workload's definition is in the state")
