from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from pulumi.runtime import rpc

from components.joyent.errors import (
    AmbiguousError,
    CloudApiError,
    FatalError,
    LostReplyError,
    NotFoundError,
    WaitTimeoutError,
)
from components.joyent.machine import MachineProvider
from components.joyent.machine_fields import MARK_TAG
from rollcall.in_place import CARRIED, HOLD, LIVE, PATCH, REPORT
from rollcall.settings import DRAIN, STATUS
from tests.unit.joyent.fake import IMAGES, MEMBER, PACKAGES, PRIVATE, PUBLIC, FakeCloud

MARK = "rollcall/local/web-0"
SCRIPT = "#!/bin/sh\necho booted\n"
TOKEN = "token-that-nobody-may-read-in-the-state"
DECLARED: dict[str, Any] = {
    "machine_name": "web-joyent-0-ab12cd",
    "package": "g1.nano",
    "image": "debian-12",
    "networks": ["Joyent-SDC-Public"],
    "tags": {"role": "web", "weight": 10, "spare": False},
    "metadata": {"rollcall-fleet": "web-joyent"},
    "secret_metadata": {"cloudflare": TOKEN},
    "userdata": SCRIPT,
    "power": "running",
    "mark": MARK,
    "update_timeout": 60,
    "delete_timeout": 60,
}


class Engine:
    """What the engine does with one resource: check, then diff, then create, update or replace; and refresh."""

    def __init__(self, cloud: FakeCloud) -> None:
        self.cloud = cloud
        self.provider = MachineProvider()
        self.new_run()
        self.id = ""
        self.state: dict[str, Any] = {}

    def new_run(self) -> None:
        self.provider.fixed_session = self.cloud.session()

    def checked(self, declared: dict[str, Any]) -> dict[str, Any]:
        result = self.provider.check({}, declared)
        assert not [f"{each.property}: {each.reason}" for each in result.failures]
        inputs: dict[str, Any] = result.inputs
        return inputs

    def create(self, **changes: Any) -> Engine:
        made = self.provider.create(self.checked({**DECLARED, **changes}))
        self.id, self.state = made.id, made.outs
        return self

    def diff(self, **changes: Any) -> Any:
        return self.provider.diff(self.id, self.state, self.checked({**DECLARED, **changes}))

    def update(self, **changes: Any) -> None:
        checked = self.checked({**DECLARED, **changes})
        assert self.provider.diff(self.id, self.state, checked).changes
        self.state = self.provider.update(self.id, self.state, checked).outs

    def refresh(self) -> Any:
        self.new_run()
        result = self.provider.read(self.id, self.state)
        self.id, self.state = result.id, result.outs
        return result

    @property
    def machine(self) -> dict[str, Any]:
        return self.cloud.machines[self.id]


@pytest.fixture
def cloud() -> FakeCloud:
    return FakeCloud()


@pytest.fixture
def engine(cloud: FakeCloud) -> Engine:
    return Engine(cloud)


def settle(cloud: FakeCloud) -> None:
    for _ in range(5):
        cloud._work()


class TestCreating:
    def test_the_id_is_known_before_the_machine_runs(self, engine: Engine) -> None:
        engine.create()
        assert engine.machine["state"] == "provisioning"

    def test_everything_declared_is_in_the_one_request(self, engine: Engine) -> None:
        engine.create(firewall_enabled=True, deletion_protection=True)
        assert engine.machine["tags"] == {"role": "web", "weight": 10, "spare": False, MARK_TAG: MARK}
        assert engine.machine["metadata"]["user-script"] == SCRIPT
        assert engine.machine["metadata"]["cloudflare"] == TOKEN
        assert engine.machine["firewall_enabled"] is engine.machine["deletion_protection"] is True
        assert engine.cloud.count("POST /machines") == 1
        assert not [call for call in engine.cloud.calls if call.startswith("POST /machines/")]

    def test_the_state_has_neither_the_userdata_nor_a_secret_and_is_small(self, engine: Engine) -> None:
        engine.create()
        settle(engine.cloud)
        refreshed = engine.refresh()
        for part in (engine.state, refreshed.inputs):
            text = json.dumps(part)
            assert TOKEN not in text
            assert "booted" not in text
            assert len(text) < 2048
        assert engine.state["userdata"] == f"sha256:{hashlib.sha256(SCRIPT.encode()).hexdigest()}"

    def test_a_newest_image_by_name_is_the_newest(self, engine: Engine) -> None:
        assert engine.create().machine["image"] == IMAGES[0]["id"]

    def test_one_list_finds_the_earlier_attempts_of_all_machines(self, engine: Engine) -> None:
        for index in range(10):
            engine.create(machine_name=f"web-{index}", mark=f"rollcall/local/web-{index}")
        assert engine.cloud.count("GET /machines") == 1

    def test_a_machine_that_is_declared_stopped_is_stopped(self, engine: Engine) -> None:
        assert engine.create(power="stopped").machine["state"] == "stopped"

    def test_nothing_is_raised_when_a_new_machine_cannot_be_stopped(self, engine: Engine) -> None:
        engine.cloud.pace = 10_000
        engine.create(power="stopped", update_timeout=0.01)
        assert engine.machine["state"] == "provisioning"


class TestInterruption:
    def test_a_machine_of_a_killed_run_is_taken_up(self, engine: Engine) -> None:
        engine.create()
        first = engine.id
        engine.new_run()
        assert engine.create().id == first
        assert len(engine.cloud.machines) == 1

    def test_a_lost_reply_makes_no_second_machine(self, engine: Engine) -> None:
        engine.cloud.fault("POST /machines", lambda: None)
        engine.create()
        assert len(engine.cloud.machines) == 1
        assert engine.cloud.count("POST /machines") == 1

    def test_a_request_that_never_arrived_is_made_again_after_looking(self, engine: Engine) -> None:
        engine.cloud.fault("POST /machines", lambda: (502, {}))
        engine.create()
        assert engine.cloud.count("POST /machines") == 2
        second = engine.cloud.calls.index("POST /machines", engine.cloud.calls.index("POST /machines") + 1)
        assert engine.cloud.calls[second - 1] == "GET /machines"

    def test_a_lost_reply_that_stays_lost_is_an_error(self, engine: Engine) -> None:
        for _ in range(3):
            engine.cloud.fault("POST /machines", lambda: (502, {}))
        with pytest.raises(LostReplyError):
            engine.create()

    def test_a_name_that_another_owner_has_is_never_taken(self, engine: Engine) -> None:
        foreign = Engine(engine.cloud).create(mark="other/prod/web-0")
        with pytest.raises(FatalError, match=f"{foreign.id}.*other/prod/web-0.*adopt="):
            engine.create()

    def test_an_attempt_with_another_image_is_refused_with_its_id(self, engine: Engine) -> None:
        left = engine.create(image="twin").id
        engine.new_run()
        with pytest.raises(FatalError, match=f"{left}.*cannot be adopted: image"):
            engine.create()

    def test_a_successor_with_the_same_name_waits_for_its_predecessor_to_go(self, engine: Engine) -> None:
        first = engine.create().id
        settle(engine.cloud)
        engine.provider.delete(first, engine.state)
        assert engine.create().id != first
        assert engine.cloud.machines[first]["state"] == "deleted"

    def test_a_machine_found_again_as_its_own_successor_is_not_deleted(self, engine: Engine) -> None:
        first = engine.create()
        settle(engine.cloud)
        engine.new_run()
        engine.create()
        engine.provider.delete(engine.id, first.state)
        assert engine.machine["state"] == "running"
        assert "DELETE /machines/" + engine.id not in engine.cloud.calls


class TestAdopting:
    @pytest.mark.parametrize("by", ["id", "name"])
    def test_an_adopted_machine_shows_no_difference_afterwards(self, engine: Engine, by: str) -> None:
        other = Engine(engine.cloud).create(mark="")
        settle(engine.cloud)
        engine.create(adopt=other.id if by == "id" else DECLARED["machine_name"])
        assert engine.id == other.id
        engine.refresh()
        assert not engine.diff(adopt=other.id).replaces
        assert engine.machine["tags"][MARK_TAG] == MARK

    def test_in_place_differences_are_fixed_at_adoption(self, engine: Engine) -> None:
        other = Engine(engine.cloud).create(mark="", package="g1.small", tags={"foreign": "kept"})
        settle(engine.cloud)
        engine.create(adopt=other.id)
        assert engine.machine["package"] == "g1.nano"
        assert engine.machine["tags"] == {"foreign": "kept", **DECLARED["tags"], MARK_TAG: MARK}

    def test_adopting_what_is_not_there_says_so(self, engine: Engine) -> None:
        with pytest.raises(NotFoundError, match="no such machine"):
            engine.create(adopt="nobody")

    @pytest.mark.parametrize("by", ["id", "name"])
    def test_what_was_adopted_once_is_replaced_by_a_new_machine(self, engine: Engine, by: str) -> None:
        """The description goes on naming the old one."""
        other = Engine(engine.cloud).create(mark="", machine_name="old")
        settle(engine.cloud)
        adopt = other.id if by == "id" else "old"
        engine.create(adopt=adopt, tags={"generation": "a"})
        assert engine.id == other.id
        engine.new_run()
        engine.create(adopt=adopt, machine_name="web-0-b", tags={"generation": "b"})
        assert engine.id != other.id
        assert engine.cloud.machines[other.id]["tags"]["generation"] == "a"

    @pytest.mark.parametrize("by", ["id", "name"])
    def test_an_adoption_that_was_cut_short_before_the_new_name_goes_on(self, engine: Engine, by: str) -> None:
        other = Engine(engine.cloud).create(mark="", machine_name="old")
        settle(engine.cloud)
        engine.cloud.machines[other.id]["tags"] = {**DECLARED["tags"], MARK_TAG: MARK}
        engine.create(adopt=other.id if by == "id" else "old")
        assert (engine.id, engine.machine["name"]) == (other.id, DECLARED["machine_name"])

    def test_a_machine_with_copied_tags_is_not_taken_for_an_adoption_that_was_cut_short(self, engine: Engine) -> None:
        other = Engine(engine.cloud).create(mark="", machine_name="old")
        database = Engine(engine.cloud).create(mark="", machine_name="db")
        settle(engine.cloud)
        engine.cloud.machines[database.id]["tags"] = {**DECLARED["tags"], MARK_TAG: MARK}
        engine.create(adopt="old")
        assert engine.id not in (database.id, other.id)
        assert engine.cloud.machines[database.id]["name"] == "db"

    def test_a_different_image_cannot_be_adopted(self, engine: Engine) -> None:
        other = Engine(engine.cloud).create(mark="", image="twin")
        with pytest.raises(FatalError, match="image is"):
            engine.create(adopt=other.id)


class TestRefreshing:
    def test_an_unchanged_machine_is_unchanged(self, engine: Engine) -> None:
        engine.create(deletion_protection=False, firewall_enabled=False)
        settle(engine.cloud)
        engine.refresh()
        assert engine.diff(deletion_protection=False, firewall_enabled=False).changes is False

    def test_a_machine_that_is_still_provisioning_is_unchanged(self, engine: Engine) -> None:
        engine.cloud.pace = 1000
        engine.create().refresh()
        assert engine.diff().changes is False

    def test_three_hundred_machines_cost_one_list_and_one_read_of_the_networks(self, engine: Engine) -> None:
        states = [
            (made.id, made.state)
            for made in (Engine(engine.cloud).create(machine_name=f"m{n}", mark=str(n)) for n in range(300))
        ]
        settle(engine.cloud)
        engine.new_run()
        engine.cloud.calls.clear()
        for id_, state in states:
            assert engine.provider.read(id_, state).id == id_
        assert engine.cloud.calls == ["GET /machines", "GET /networks"]

    @pytest.mark.parametrize("how", ["deleted", "purged"])
    def test_404_and_410_both_mean_gone(self, engine: Engine, how: str) -> None:
        engine.create()
        settle(engine.cloud)
        if how == "deleted":
            engine.machine["state"] = "deleted"
        else:
            del engine.cloud.machines[engine.id]
        assert engine.refresh().id == ""

    def test_a_failed_machine_keeps_its_id_and_is_replaced_with_the_reason(self, engine: Engine) -> None:
        engine.cloud.failing = True
        made = engine.create().id
        settle(engine.cloud)
        assert engine.refresh().id == made
        assert "no server has room" in engine.state["failure"]
        assert engine.state["power"] == "failed"
        assert "power" in engine.diff().replaces

    DRIFTS = (
        ("name", "renamed", "machine_name"),
        ("package", "g1.small", "package"),
        ("image", IMAGES[4]["id"], "image"),
        ("networks", [PRIVATE], "networks"),
        ("firewall_enabled", True, "firewall_enabled"),
        ("deletion_protection", True, "deletion_protection"),
        ("state", "stopped", "power"),
    )

    @pytest.mark.parametrize(("field", "value", "shown"), DRIFTS, ids=[each[2] for each in DRIFTS])
    def test_drift_shows_on_its_property(self, engine: Engine, field: str, value: Any, shown: str) -> None:
        declared = {"firewall_enabled": False, "deletion_protection": False}
        engine.create(**declared)
        settle(engine.cloud)
        engine.machine[field] = value
        result = engine.refresh()
        before, after = engine.checked({**DECLARED, **declared}), result.inputs
        assert [name for name in after if after[name] != before.get(name)] == [shown]
        assert engine.diff(**declared).changes

    @pytest.mark.parametrize(
        ("kind", "key", "shown"),
        [
            ("tags", "role", "tags"), ("tags", MARK_TAG, "mark"), ("metadata", "rollcall-fleet", "metadata"),
            ("metadata", "cloudflare", "secret_metadata"), ("metadata", "user-script", "userdata"),
        ],
    )  # fmt: skip
    def test_what_was_removed_or_overwritten_by_hand_shows_and_is_fixed(
        self, engine: Engine, kind: str, key: str, shown: str
    ) -> None:
        engine.create()
        settle(engine.cloud)
        good = dict(engine.machine[kind])
        for change in ({each: value for each, value in good.items() if each != key}, {**good, key: "overwritten"}):
            engine.machine[kind] = change
            result = engine.refresh()
            declared = engine.checked(DECLARED)
            assert [name for name in declared if result.inputs[name] != declared[name]] == [shown]
            engine.update()
            assert engine.machine[kind] == good

    def test_a_type_counts_in_a_tag(self, engine: Engine) -> None:
        engine.create()
        settle(engine.cloud)
        engine.machine["tags"]["weight"] = "10"
        engine.refresh()
        assert engine.diff().changes

    def test_numbers_of_the_engine_are_whole_numbers_to_cloudapi(self, engine: Engine) -> None:
        engine.create(tags={"weight": 10.0})
        assert json.dumps(engine.machine["tags"]["weight"]) == "10"

    def test_a_pool_is_its_member(self, engine: Engine) -> None:
        declared = {"networks": ["Joyent-SDC-Public", "pool"]}
        engine.create(**declared)
        settle(engine.cloud)
        assert engine.machine["networks"] == [PUBLIC, MEMBER]
        engine.refresh()
        assert engine.diff(**declared).changes is False
        engine.machine["networks"] = [PUBLIC]
        engine.refresh()
        assert engine.diff(**declared).changes

    def test_a_network_by_id_is_its_name(self, engine: Engine) -> None:
        engine.create()
        settle(engine.cloud)
        for words, other in (([PUBLIC], False), ([PRIVATE], True), (["nowhere"], True), ([PUBLIC, PRIVATE], True)):
            assert engine.provider.diff(engine.id, engine.state, {**engine.state, "networks": words}).changes is other

    def test_a_package_by_id_is_its_name(self, engine: Engine) -> None:
        engine.create(package=PACKAGES[0]["id"])
        settle(engine.cloud)
        engine.refresh()
        assert engine.diff(package=PACKAGES[0]["id"]).changes is False

    def test_foreign_keys_are_shown_and_survive_updates(self, engine: Engine) -> None:
        engine.create()
        settle(engine.cloud)
        engine.machine["tags"]["operator"] = "x"
        engine.machine["metadata"]["guest"] = "secret"
        for round_ in range(10):
            engine.refresh()
            engine.update(tags={"round": round_}, metadata={"round": str(round_)})
        assert engine.machine["tags"]["operator"] == "x"
        assert engine.machine["metadata"]["guest"] == "secret"
        assert engine.state["foreign_tags"] == ["operator"]
        assert engine.state["foreign_metadata"] == ["guest"]
        assert "role" not in engine.machine["tags"]

    def test_a_machine_that_was_not_touched_is_refreshed_without_a_difference(self, engine: Engine) -> None:
        engine.create()
        settle(engine.cloud)
        before = dict(engine.state)
        engine.refresh()
        assert engine.state == before

    @pytest.mark.parametrize("key", [STATUS, DRAIN, REPORT, HOLD, PATCH])
    def test_what_rollcall_itself_keeps_on_a_machine_is_not_foreign(self, engine: Engine, key: str) -> None:
        engine.create()
        settle(engine.cloud)
        engine.machine["metadata"] |= {key: "serving", f"{key}-of-another": "x"}
        engine.refresh()
        assert engine.state["foreign_metadata"] == [f"{key}-of-another"]

    @pytest.mark.parametrize("prefix", [*LIVE, CARRIED])
    def test_a_live_setting_does_not_count_as_a_difference_and_survives_an_update(
        self, engine: Engine, prefix: str
    ) -> None:
        engine.create()
        settle(engine.cloud)
        before = dict(engine.state)
        key = f"{prefix}www" if prefix.endswith("-") else prefix
        engine.machine["metadata"][key] = "x"
        engine.refresh()
        assert engine.state == before and engine.diff().changes is False
        engine.update(metadata={"round": "1"})
        settle(engine.cloud)
        assert engine.machine["metadata"][key] == "x"


class TestChanging:
    def test_only_what_differs_is_sent(self, engine: Engine) -> None:
        engine.create()
        settle(engine.cloud)
        engine.refresh()
        engine.update(tags={**DECLARED["tags"], "weight": 11}, metadata={"rollcall-fleet": "api"})
        sent = {
            call.rpartition("/")[2]: body
            for call, body in zip(engine.cloud.calls, engine.cloud.bodies, strict=True)
            if body
        }
        assert (sent["tags"], sent["metadata"]) == ({"weight": 11}, {"rollcall-fleet": "api"})

    IN_PLACE: tuple[tuple[str, Any, str, Any], ...] = (
        ("machine_name", "new-name", "name", "new-name"),
        ("package", "g1.small", "package", "g1.small"),
        ("networks", ["Joyent-SDC-Public", PRIVATE], "networks", [PUBLIC, PRIVATE]),
        ("networks", [PRIVATE, PUBLIC], "networks", [PRIVATE, PUBLIC]),
        ("networks", ["pool"], "networks", [MEMBER]),
        ("firewall_enabled", True, "firewall_enabled", True),
        ("deletion_protection", True, "deletion_protection", True),
        ("power", "stopped", "state", "stopped"),
    )

    @pytest.mark.parametrize(("name", "value", "field", "expected"), IN_PLACE)
    def test_in_place(self, engine: Engine, name: str, value: Any, field: str, expected: Any) -> None:
        engine.create()
        settle(engine.cloud)
        engine.refresh()
        assert engine.diff(**{name: value}).replaces == []
        engine.update(**{name: value})
        assert engine.machine[field] == expected
        engine.refresh()
        assert engine.diff(**{name: value}).changes is False

    @pytest.mark.parametrize(
        ("name", "value"), [("image", "twin"), ("affinity", ["role!=db"]), ("brand", "kvm"), ("delegate_dataset", True)]
    )
    def test_replaced(self, engine: Engine, name: str, value: Any) -> None:
        # CloudAPI takes a brand for the image of a virtual machine only.
        own = {"image": "vm"} if name == "brand" else {}
        engine.create(**own)
        result = engine.diff(**{**own, name: value})
        assert result.replaces == [name]
        assert result.delete_before_replace is True
        assert engine.diff(**{**own, name: value, "machine_name": "successor"}).delete_before_replace is False

    def test_a_new_version_of_an_image_replaces_nothing(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        engine.create()
        newer = {**IMAGES[0], "id": PRIVATE, "version": "20270101", "published_at": "2027-01-01T00:00:00Z"}
        monkeypatch.setattr("tests.unit.joyent.fake.IMAGES", [newer, *IMAGES])
        engine.new_run()
        assert engine.diff().changes is False
        assert engine.diff(image="debian-12@20261101").replaces == []

    @pytest.mark.parametrize("brand", ["kvm", "bhyve"])
    def test_a_virtual_machine_is_replaced_for_another_package(self, engine: Engine, brand: str) -> None:
        engine.create()
        engine.machine["brand"] = brand
        engine.refresh()
        assert engine.diff(package="g1.small").replaces == ["package"]

    def test_a_description_that_is_not_known_yet_passes(self, engine: Engine) -> None:
        engine.create()
        unknown = {name: rpc.UNKNOWN for name in ("machine_name", "tags", "metadata", "secret_metadata", "userdata")}
        assert engine.diff(**unknown).changes

    def test_a_change_that_never_comes_says_what_is_missing(self, engine: Engine) -> None:
        engine.create()
        settle(engine.cloud)
        engine.cloud.pace = 10_000
        with pytest.raises(WaitTimeoutError, match="tags, firewall_enabled: not within"):
            engine.update(tags={}, firewall_enabled=True, update_timeout=0.01)

    def test_the_reason_for_a_replacement_is_printed(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        lines: list[str] = []
        monkeypatch.setattr("components.joyent.engine.say", lines.append)
        engine.create().diff(image="twin")
        assert "image changes from 'debian-12' to 'twin'" in lines[0]


class TestDeleting:
    def test_a_running_machine_is_stopped_first(self, engine: Engine) -> None:
        engine.create()
        settle(engine.cloud)
        engine.provider.delete(engine.id, engine.state)
        assert engine.machine["cut"] is False

    def test_a_machine_that_does_not_stop_is_cut_off(self, engine: Engine) -> None:
        engine.create()
        settle(engine.cloud)
        engine.cloud.pace = 1000
        engine.provider.delete(engine.id, {**engine.state, "delete_timeout": 0.01})
        assert engine.machine["cut"] is True

    def test_it_returns_when_the_deletion_is_accepted(self, engine: Engine) -> None:
        engine.create()
        settle(engine.cloud)
        engine.machine["state"] = "stopped"
        engine.new_run()
        engine.cloud.pace = 1000
        engine.provider.delete(engine.id, engine.state)
        assert engine.cloud.calls[-1] == f"DELETE /machines/{engine.id}"

    @pytest.mark.parametrize("how", ["deleted", "purged"])
    def test_a_machine_that_is_gone_is_deleted(self, engine: Engine, how: str) -> None:
        engine.create()
        settle(engine.cloud)
        if how == "deleted":
            engine.machine["state"] = "deleted"
        else:
            del engine.cloud.machines[engine.id]
        engine.new_run()
        engine.provider.delete(engine.id, engine.state)
        assert f"DELETE /machines/{engine.id}" not in engine.cloud.calls

    def test_a_protected_machine_is_kept_and_the_fix_is_named(self, engine: Engine) -> None:
        engine.create(deletion_protection=True)
        settle(engine.cloud)
        with pytest.raises(FatalError, match="Set deletion_protection to False"):
            engine.provider.delete(engine.id, engine.state)
        assert engine.machine["state"] == "running"

    def test_a_protected_machine_that_may_be_deleted_is_stopped_and_unprotected_first(self, engine: Engine) -> None:
        engine.create(deletion_protection=True, delete_protected=True)
        settle(engine.cloud)
        engine.cloud.calls.clear()
        engine.provider.delete(engine.id, engine.state)
        changes = [
            body.get("action") or call.partition(" ")[0]
            for call, body in zip(engine.cloud.calls, engine.cloud.bodies[-len(engine.cloud.calls) :], strict=True)
            if not call.startswith("GET")
        ]
        assert changes == ["stop", "disable_deletion_protection", "DELETE"]

    def test_a_machine_that_may_be_deleted_and_has_no_protection_is_only_deleted(self, engine: Engine) -> None:
        engine.create(deletion_protection=False, delete_protected=True)
        settle(engine.cloud)
        engine.provider.delete(engine.id, engine.state)
        assert "disable_deletion_protection" not in [body.get("action") for body in engine.cloud.bodies]


def test_every_error_is_below_the_one_root() -> None:
    for kind in (AmbiguousError, FatalError, LostReplyError, NotFoundError, WaitTimeoutError):
        assert issubclass(kind, CloudApiError)
