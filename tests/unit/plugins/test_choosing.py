"""Which plugins are the vendors' own: from the user's PULUMI_HOME, downloaded, or a message that says what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from localcloud.plugins import STAND_INS, PluginsError, bring, chosen, folder_of, install
from localcloud.runtime.sandbox import engine_folder


class Store:
    """Where plugins are downloaded from; `has` are those that it has."""

    def __init__(self, users: Path, *has: str) -> None:
        self.users, self.has = users, has
        self.requests: list[tuple[str, str]] = []

    def __call__(self, name: str, number: str) -> str | None:
        self.requests.append((name, number))
        if name not in self.has:
            return "no such host"
        put(self.users, folder_of(name), name)
        return None


def put(users: Path, folder: str, name: str) -> Path:
    program = users / "plugins" / folder / f"pulumi-resource-{name}"
    program.parent.mkdir(parents=True)
    program.write_text(f"the vendor's {name}")
    return program


def kinds(home: Path) -> dict[str, str]:
    """What the engine finds in `home`: for each plugin whether it is a stand-in or the vendor's. It skips what is no directory, and
    a link to one is none for it (Go's os.ReadDir follows no links)."""
    found = {}
    for each in sorted(os.scandir(home / "plugins"), key=lambda each: each.name):
        if each.is_dir(follow_symlinks=False):
            text = next(Path(each).iterdir()).read_text()
            found[each.name] = "stand-in" if "stand-in" in text else text
    return found


def both(home: Path, users: Path, words: str, *store: str) -> Store:
    shop = Store(users, *store)
    real = chosen(words)
    install(home, Path(sys.executable), which=set(STAND_INS) - real)
    bring(home, users, real, shop)
    return shop


def test_named_plugins_are_real_and_the_others_are_stand_ins(tmp_path: Path) -> None:
    home, users = tmp_path / "home", tmp_path / "users"
    put(users, folder_of("cloudflare"), "cloudflare")
    put(users, "resource-command-v0.0.1", "command")
    shop = both(home, users, "cloudflare,command", "command")
    # What is there is taken; another version is not what the program's SDK asks for.
    assert shop.requests == [("command", version("pulumi-command"))]
    assert kinds(home) == {
        folder_of("aws"): "stand-in",
        folder_of("cloudflare"): "the vendor's cloudflare",
        folder_of("command"): "the vendor's command",
    }


def test_one_can_go_back_to_the_stand_ins_and_the_users_own_stay(tmp_path: Path) -> None:
    home, users = tmp_path / "home", tmp_path / "users"
    both(home, users, "real", *STAND_INS)
    assert "stand-in" not in kinds(home).values()
    both(home, users, "real")
    both(home, users, "stand-in")
    assert set(kinds(home).values()) == {"stand-in"}
    for name in STAND_INS:
        assert (users / "plugins" / folder_of(name) / f"pulumi-resource-{name}").read_text() == f"the vendor's {name}"


def test_a_link_of_an_earlier_version_is_replaced_and_not_followed(tmp_path: Path) -> None:
    home, users = tmp_path / "home", tmp_path / "users"
    program = put(users, folder_of("command"), "command")
    (home / "plugins").mkdir(parents=True)
    (home / "plugins" / folder_of("command")).symlink_to(program.parent)
    both(home, users, "stand-in")
    assert program.read_text() == "the vendor's command" and kinds(home)[folder_of("command")] == "stand-in"


def test_all_that_cannot_be_had_are_named_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(PluginsError) as lacking:
        both(tmp_path / "home", tmp_path / "users", "real", "command")
    message = str(lacking.value)
    assert message.startswith("the real plugins aws, cloudflare are not in") and "(no such host)" in message
    for name in ("aws", "cloudflare"):
        assert f"pulumi plugin install resource {name} {version(f'pulumi-{name}')}" in message
    assert "leave PLUGINS out" in message


def test_half_a_download_is_none(tmp_path: Path) -> None:
    users = tmp_path / "users"
    put(users, folder_of("command"), "command")
    (users / "plugins" / f"{folder_of('command')}.partial").touch()
    with pytest.raises(PluginsError):
        both(tmp_path / "home", users, "command")


@pytest.mark.engine
def test_the_engine_itself_finds_plugins_of_the_users(tmp_path: Path) -> None:
    home, users = tmp_path / "home", tmp_path / "users"
    both(home, users, "cloudflare,command", *STAND_INS)
    env = {**os.environ, "PULUMI_HOME": str(home), "PATH": f"{engine_folder()}{os.pathsep}{os.environ['PATH']}"}
    words = ["pulumi", "plugin", "ls", "--json"]
    found = json.loads(subprocess.run(words, env=env, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert sorted((each["name"], each["version"]) for each in found) == [
        (name, version(f"pulumi-{name}")) for name in sorted(STAND_INS)
    ]


@pytest.mark.engine
def test_make_up_with_real_plugins_that_cannot_be_had_ends_with_one_message(tmp_path: Path) -> None:
    """The real engine's own download, from an address without a listener."""
    root = Path(__file__).resolve().parents[3]
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    env = {**os.environ, "PULUMI_HOME": str(tmp_path), **nowhere}
    instance = f"choosing-{os.getpid()}"
    done = subprocess.run(
        [sys.executable, "-m", "localcloud.runtime.sandbox", "up", "--instance", instance, "--plugins", "real"],
        cwd=root, env=env, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    state = root / ".rollcall" / instance
    try:
        assert done.returncode == 1
        assert "rollcall: the real plugins aws, cloudflare, command are not in" in done.stderr
        assert "pulumi plugin install resource aws" in done.stderr and "Traceback" not in done.stderr
        # Before anything was started.
        assert not (state / "logs").exists()
    finally:
        subprocess.run(["rm", "-rf", str(state)], check=True)
