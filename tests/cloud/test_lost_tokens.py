"""A token of which the creation's reply was lost: a preview and `status` show it, `up` revokes it, and no other token is touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pulumi
import pytest
from google.protobuf import struct_pb2

from components.commands import status
from components.config.models import JoyentSettings, Settings, SiteSettings
from components.dns.cloudflare_api import CloudflareApi
from components.preflight import checks, lost_tokens
from components.preflight.state import PriorState
from tests.cloud.cloudflare_server import OPERATOR, ZONE, Front, Lab

pytestmark = pytest.mark.clouds
NAME = f"rollcall local machines {ZONE}"
KIND = "cloudflare:index/apiToken:ApiToken"
SITE = SiteSettings(name="www", zone=ZONE)


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    made = Front()
    yield made
    made.stop()


class World(Lab):
    """A Cloudflare, the state of a stack on it, and the messages of a run of the program."""

    def __init__(self, front: Front, patch: pytest.MonkeyPatch) -> None:
        super().__init__(front)
        self.url = front.url
        self.messages: list[str] = []
        self.outputs: list[Mapping[str, Any]] = []
        self._patch = patch
        patch.setenv("CLOUDFLARE_BASE_URL", front.url)
        patch.setenv("CLOUDFLARE_API_TOKEN", OPERATOR)
        patch.setattr(pulumi.runtime, "get_config", {}.get)
        patch.setattr(checks, "prior_state", self.prior_state)
        for how in ("warn", "info"):
            patch.setattr(pulumi, how, self.messages.append)

    def prior_state(self) -> PriorState:
        sent = struct_pb2.Struct()
        for at, outputs in enumerate(self.outputs):
            sent.update(
                {f"urn:pulumi:local::rollcall::rollcall:index:SiteToken${KIND}::machines-{at}": {"outputs": outputs}}
            )
        return PriorState(sent.fields)

    def issued(self, name: str = NAME, known: bool = False, used: bool = False) -> str:
        """Make a token; its id."""
        group = self.raw("GET", "/user/tokens/permission_groups?name=DNS%20Write").json()["result"][0]["id"]
        resources = {f"com.cloudflare.api.account.zone.{self.zone}": "*"}
        policies = [{"effect": "allow", "permission_groups": [{"id": group}], "resources": resources}]
        made = self.raw("POST", "/user/tokens", json={"name": name, "policies": policies}).json()["result"]
        if known:
            self.outputs.append({"id": made["id"]})
        if used:
            CloudflareApi(self.url, made["value"]).get(f"/zones/{self.zone}/dns_records")
        return str(made["id"])

    def there(self) -> set[str]:
        return {each["id"] for each in self.raw("GET", "/user/tokens?per_page=50").json()["result"]}

    def run(self, preview: bool) -> None:
        self._patch.setattr(pulumi.runtime, "is_dry_run", lambda: preview)
        settings = Settings(stack="local", sites=(SITE,), service_discovery=None, fleets=(), joyent=JoyentSettings())
        checks.preflight(settings)


@pytest.fixture
def world(front: Front, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(front, monkeypatch)


def test_it_is_shown_by_a_preview_and_revoked_by_up(world: World) -> None:
    mine, lost = world.issued(known=True), world.issued()
    world.run(preview=True)
    assert [each for each in world.messages if lost in each and each.endswith("`pulumi up` revokes it.")], (
        world.messages
    )
    assert {mine, lost} <= world.there()
    world.run(preview=False)
    assert lost not in world.there() and mine in world.there()
    assert any(lost in each and each.endswith("It was revoked.") for each in world.messages)


@pytest.mark.parametrize(
    "other",
    [
        {"known": True},
        {"used": True},
        {"name": f"rollcall prod machines {ZONE}"},
        {"name": "rollcall local machines by hand"},
    ],
    ids=["in the state", "used", "another stack's", "another name"],
)
def test_any_other_token_is_none_of_ours(world: World, other: dict[str, Any]) -> None:
    world.issued(known=True)
    made = world.issued(**other)
    world.run(preview=False)
    assert made in world.there() and not any(made in each for each in world.messages)


def test_a_state_that_does_not_say_all_ids_proves_nothing(world: World) -> None:
    made = world.issued()
    world.outputs.append({"status": "active"})
    world.run(preview=False)
    assert made in world.there()


def test_one_that_cannot_be_revoked_stops_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    token = lost_tokens.LostToken(id="0" * 32, name=NAME, issued_on="2026-11-29T00:00:00Z", owner="/user")
    checks.revoke([token], CloudflareApi(world.url, OPERATOR))
    assert "could not be revoked" in world.messages[-1]


def test_status_names_it_and_is_not_in_step(world: World) -> None:
    mine, lost = world.issued(), world.issued()
    urn = f"urn:pulumi:local::rollcall::rollcall:index:SiteToken${KIND}::machines"
    state = [{"urn": urn, "type": KIND, "id": mine, "outputs": {}}]
    (line,) = status.lost_tokens_of(state, {})
    assert lost in line and mine not in line
    assert line in status.shown([], [line]) and "In step" not in status.shown([], [line])
    assert status.lost_tokens_of(state, {"rollcall:machineToken": "x"}) == []
