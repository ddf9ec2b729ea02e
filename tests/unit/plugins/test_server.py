"""The Servicer over a real gRPC channel, with a small plugin that has a dictionary as its cloud."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from google.protobuf import struct_pb2
from pulumi.runtime.proto import provider_pb2

from localcloud.plugins.resource import (
    UNKNOWN,
    GoneError,
    PluginError,
    Type,
    Values,
    keeping,
    mapping,
    number,
    text,
)
from localcloud.plugins.server import Plugin
from localcloud.plugins.values import received, secret, sent
from tests.plugin_host import Host, RefusedError, Resource, hosted, secrets_in, urn

DIFF, KIND = provider_pb2.DiffResponse, provider_pb2.PropertyDiff
THING, FIRM = "fake:index/thing:Thing", "fake:index/firm:Firm"


class OddError(Exception):
    """What the client of the fake cloud raises."""


class Cloud:
    def __init__(self) -> None:
        self.things: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.settings: list[dict[str, Any]] = []


class Thing(Type):
    token = THING
    named = "name"
    inputs = {
        "name": text(replaces=True),
        "size": number(required=True),
        "color": text(choices=("red", "blue"), default="red"),
        "address": text(computed=True),
        "tags": mapping(),
        "password": text(),
        "note": text(default="none"),
    }

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        self.api.calls.append("create")
        if given["name"] == "refused":
            raise PluginError("fake: no room")
        if given["name"] == "odd":
            raise OddError("the cloud's words")
        if given["name"] == "broken":
            raise KeyError("a mistake in the stand-in")
        self.api.things[given["name"]] = {"address": "192.0.2.1", **given}
        with keeping(given["name"], {"serial": 7}):
            if given["size"] > 9:
                raise OddError("too large to start")
        return given["name"], {"serial": 7, "key": secret("word"), "address": "192.0.2.1"}

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        self.api.calls.append("read")
        found = self._get(identity.rpartition("/")[2])
        known = ("name", "size", "color", "address", "tags", "password")
        return {"serial": 7}, {key: found.get(key) for key in known}

    def identity(self, given: str) -> str:
        return given.rpartition("/")[2]

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        self.api.calls.append("update")
        self._get(identity).update(new)
        return {"serial": 8, "before": old.get("size")}

    def delete(self, identity: str, state: Values) -> None:
        self._get(identity)
        del self.api.things[identity]

    def _get(self, name: str) -> dict[str, Any]:
        if name not in self.api.things:
            raise GoneError(name)
        found: dict[str, Any] = self.api.things[name]
        return found


class Firm(Thing):
    token = FIRM
    deletes_first = True


class Fake(Plugin):
    name = "fake"
    types = (Thing, Firm)
    settings = ("url", "token")

    def __init__(self) -> None:
        self.cloud = Cloud()
        self.functions: Mapping[str, Callable[[Any, Mapping[str, Any]], Mapping[str, Any]]] = {
            "fake:index/count:count": lambda api, given: {"count": len(api.things), "asked": given.get("of")},
            "fake:index/find:find": self._find,
        }

    def client(self, settings: Mapping[str, Any]) -> Cloud:
        if settings.get("url") == "http://broken":
            raise PluginError("fake: no credentials")
        self.cloud.settings.append(dict(settings))
        return self.cloud

    def explained(self, error: Exception) -> str | None:
        return f"fake: {error}" if isinstance(error, OddError) else None

    @staticmethod
    def _find(api: Any, given: Mapping[str, Any]) -> Mapping[str, Any]:
        raise GoneError(given["name"])


@pytest.fixture
def plugin() -> Fake:
    return Fake()


@pytest.fixture
def host(plugin: Fake) -> Iterator[Host]:
    with hosted(plugin) as made:
        yield made


@pytest.fixture
def made(host: Host) -> Resource:
    return host.create(THING, {"name": "web", "size": 1})


class TestChecking:
    def test_every_fault_is_reported_with_its_property(self, host: Host) -> None:
        found = host.faults(THING, {"colour": "x", "color": "green"})
        assert set(found) == {"colour", "color", "size"}
        assert all(THING in why for why in found.values())

    def test_what_is_right_is_filled_in(self, host: Host) -> None:
        found = host.checked(THING, {"size": 1})
        assert found.pop("name").startswith("one-")
        assert found == {"size": 1, "color": "red", "note": "none"}

    def test_the_name_of_before_is_kept(self, host: Host) -> None:
        first = host.checked(THING, {"size": 1})
        assert host.checked(THING, {"size": 2}, old=first)["name"] == first["name"]

    def test_what_is_not_known_yet_stays_so(self, host: Host, plugin: Fake) -> None:
        found = host.checked(THING, {"name": UNKNOWN, "size": UNKNOWN, "tags": {"a": UNKNOWN}})
        assert (found["name"], found["size"], found["tags"]) == (UNKNOWN, UNKNOWN, {"a": UNKNOWN})
        assert plugin.cloud.calls == []


DIFFS: dict[str, tuple[dict[str, Any], dict[str, int], list[str]]] = {
    "nothing": ({}, {}, []),
    "in place": ({"size": 2}, {"size": KIND.UPDATE}, []),
    "added and taken away": ({"tags": {"a": "b"}, "password": None}, {"tags": KIND.ADD, "password": KIND.DELETE}, []),
    "replaced": ({"name": "other"}, {"name": KIND.UPDATE_REPLACE}, ["name"]),
    "replaced and in place": (
        {"name": "other", "size": 2},
        {"name": KIND.UPDATE_REPLACE, "size": KIND.UPDATE},
        ["name"],
    ),
    "not known yet": ({"size": UNKNOWN}, {"size": KIND.UPDATE}, []),
    "replaced by what is not known yet": ({"name": UNKNOWN}, {"name": KIND.UPDATE_REPLACE}, ["name"]),
}


class TestComparing:
    @pytest.mark.parametrize("name", DIFFS)
    def test_kinds_and_replacements(self, host: Host, name: str) -> None:
        change, kinds, replaces = DIFFS[name]
        inputs = {"name": "web", "size": 1, "password": "word"}
        made = host.create(THING, inputs)
        found = host.diff(made, {**inputs, **change})
        assert found.changes == (DIFF.DIFF_SOME if kinds else DIFF.DIFF_NONE)
        assert {key: each.kind for key, each in found.detailedDiff.items()} == kinds
        assert (sorted(found.diffs), list(found.replaces)) == (sorted(kinds), replaces)
        assert found.hasDetailedDiff and not found.deleteBeforeReplace
        assert all(each.inputDiff for each in found.detailedDiff.values())

    def test_the_old_one_goes_first_only_where_its_type_says_so_and_it_is_replaced(self, host: Host) -> None:
        made = host.create(FIRM, {"name": "web", "size": 1})
        assert host.diff(made, {"name": "other", "size": 1}).deleteBeforeReplace
        assert not host.diff(made, {"name": "web", "size": 2}).deleteBeforeReplace

    def test_a_state_without_inputs_is_compared_by_its_outputs(self, host: Host, made: Resource) -> None:
        news = sent(host.checked(THING, {"name": "web", "size": 2}))
        request = provider_pb2.DiffRequest(id=made.id, urn=made.urn, olds=sent(made.outputs), news=news)
        assert list(host.stub.Diff(request).diffs) == ["size"]


class TestMaking:
    def test_the_outputs_are_the_inputs_and_what_the_cloud_adds(self, made: Resource) -> None:
        assert made.id == "web"
        assert made.outputs == {**made.inputs, "id": "web", "serial": 7, "key": "word", "address": "192.0.2.1"}
        assert secrets_in(made) == {"key"}

    def test_a_secret_input_reaches_the_cloud_as_it_is(self, host: Host, plugin: Fake) -> None:
        host.create(THING, {"name": "web", "size": 1, "password": secret("word")})
        assert plugin.cloud.things["web"]["password"] == "word"

    def test_a_preview_makes_nothing(self, host: Host, plugin: Fake, made: Resource) -> None:
        plugin.cloud.calls.clear()
        shown = host.create(THING, {"name": "new", "size": UNKNOWN}, preview=True)
        assert (shown.id, shown.outputs["size"]) == ("", UNKNOWN)
        assert host.update(made, {"name": "web", "size": UNKNOWN}, preview=True).outputs["size"] == UNKNOWN
        assert (plugin.cloud.calls, set(plugin.cloud.things)) == ([], {"web"})

    @pytest.mark.parametrize(
        ("name", "why"),
        [("refused", "^fake: no room$"), ("odd", "^fake: the cloud's words$"), ("broken", "a mistake in the stand-in")],
    )
    def test_what_the_cloud_refuses_reaches_the_user(self, host: Host, name: str, why: str) -> None:
        with pytest.raises(RefusedError, match=why) as refused:
            host.create(THING, {"name": name, "size": 1})
        assert refused.value.partial is None

    def test_what_was_made_half_is_not_forgotten(self, host: Host, plugin: Fake) -> None:
        with pytest.raises(RefusedError, match=r"^fake: too large to start$") as refused:
            host.create(THING, {"name": "large", "size": 10})
        partial = refused.value.partial
        assert (partial.id, list(partial.reasons)) == ("large", ["fake: too large to start"])
        assert received(partial.properties)["serial"] == 7
        assert received(partial.inputs) == {"name": "large", "size": 10, "color": "red", "note": "none"}
        assert "large" in plugin.cloud.things


class TestReading:
    def test_what_has_not_changed_reads_as_it_was(self, host: Host, made: Resource) -> None:
        read = host.refresh(made)
        assert read is not None
        assert (read.id, read.inputs) == (made.id, made.inputs)

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"size": 5}, {"size": 5}),
            ({"size": 1.0}, {}),
            ({"tags": {"by": "hand"}}, {"tags": {"by": "hand"}}),
            ({"address": "192.0.2.9"}, {}),
            ({"unheard": "of"}, {}),
        ],
        ids=["changed", "the same number", "added", "filled in by the cloud", "no input at all"],
    )
    def test_drift_shows_in_the_inputs(
        self, host: Host, plugin: Fake, made: Resource, change: dict[str, Any], expected: dict[str, Any]
    ) -> None:
        plugin.cloud.things["web"].update(change)
        read = host.refresh(made)
        assert read is not None
        assert read.inputs == {**made.inputs, **expected}
        found = host.diff(read, {"name": "web", "size": 1})
        assert set(found.diffs) == set(expected)

    def test_what_was_taken_away_shows_too(self, host: Host, plugin: Fake) -> None:
        inputs = {"name": "web", "size": 1, "tags": {"a": "b"}, "address": "192.0.2.5"}
        made = host.create(THING, inputs)
        plugin.cloud.things["web"].update(tags=None, address="192.0.2.6")
        read = host.refresh(made)
        assert read is not None
        assert {key: read.inputs.get(key) for key in ("tags", "address")} == {"tags": None, "address": "192.0.2.6"}

    def test_what_is_gone_is_gone(self, host: Host, plugin: Fake, made: Resource) -> None:
        plugin.cloud.things.clear()
        assert host.refresh(made) is None
        assert host.imported(THING, "web") is None

    def test_an_import_has_all_inputs_and_the_defaults_of_the_others(self, host: Host, made: Resource) -> None:
        found = host.imported(THING, "zone/web")
        assert found is not None
        assert found.id == "web"
        assert found.inputs == {"name": "web", "size": 1, "color": "red", "address": "192.0.2.1", "note": "none"}
        assert host.diff(found, {"name": "web", "size": 1}).changes == DIFF.DIFF_NONE


class TestChanging:
    def test_an_update_keeps_the_outputs_and_forgets_the_inputs_of_before(self, host: Host) -> None:
        made = host.create(THING, {"name": "web", "size": 1, "password": "word"})
        changed = host.update(made, {"name": "web", "size": 2})
        assert {key: changed.outputs.get(key) for key in ("size", "serial", "before", "key", "address", "password")} == {
            "size": 2, "serial": 8, "before": 1, "key": "word", "address": "192.0.2.1", "password": None,
        }  # fmt: skip

    def test_what_is_gone_cannot_be_changed(self, host: Host, plugin: Fake, made: Resource) -> None:
        plugin.cloud.things.clear()
        with pytest.raises(RefusedError, match=r"^fake: web is not there any more$"):
            host.update(made, {"name": "web", "size": 2})

    def test_what_is_gone_is_deleted(self, host: Host, plugin: Fake, made: Resource) -> None:
        host.delete(made)
        assert plugin.cloud.things == {}
        host.delete(made)


VERBS: dict[str, Callable[[Host, Resource], Any]] = {
    "check": lambda host, other: host.faults(other.token, {}),
    "diff": lambda host, other: host.stub.Diff(provider_pb2.DiffRequest(urn=other.urn)),
    "create": lambda host, other: host.stub.Create(provider_pb2.CreateRequest(urn=other.urn)),
    "read": lambda host, other: host.refresh(other),
    "update": lambda host, other: host.stub.Update(provider_pb2.UpdateRequest(urn=other.urn)),
    "delete": lambda host, other: host.delete(other),
}


class TestThePluginItself:
    @pytest.mark.parametrize("verb", VERBS)
    def test_a_type_that_it_has_not_names_the_way_out(self, host: Host, verb: str) -> None:
        other = Resource("fake:index/other:Other", "one", "x", {}, {}, struct_pb2.Struct())
        with pytest.raises(Exception, match="has no type fake:index/other:Other; PLUGINS=real") as refused:
            VERBS[verb](host, other)
        assert not isinstance(refused.value, AssertionError)

    def test_a_function_that_it_has_not_is_named(self, host: Host) -> None:
        with pytest.raises(RefusedError, match="fake has no function fake:index/none:none"):
            host.invoke("fake:index/none:none")

    def test_a_function_answers(self, host: Host, made: Resource) -> None:
        assert host.invoke("fake:index/count:count", of="x") == {"count": 1, "asked": "x"}

    def test_a_function_that_finds_nothing_says_so(self, host: Host) -> None:
        with pytest.raises(RefusedError, match=r"^fake: x is not there any more$"):
            host.invoke("fake:index/find:find", name="x")

    def test_the_settings_reach_the_client_once(self, host: Host, plugin: Fake) -> None:
        host.configure(url="http://one", token=secret("word"))
        threads = [threading.Thread(target=host.invoke, args=("fake:index/count:count",)) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert plugin.cloud.settings == [{"url": "http://one", "token": "word"}]

    def test_settings_of_an_older_engine_are_taken_too(self, host: Host, plugin: Fake) -> None:
        host.stub.Configure(provider_pb2.ConfigureRequest(variables={"fake:config:url": "http://two"}))
        host.invoke("fake:index/count:count")
        assert plugin.cloud.settings == [{"url": "http://two"}]

    def test_a_client_that_cannot_be_made_says_why(self, host: Host) -> None:
        host.configure(url="http://broken")
        with pytest.raises(RefusedError, match=r"^fake: no credentials$"):
            host.create(THING, {"name": "web", "size": 1})

    def test_a_setting_that_it_has_not_is_named(self, host: Host) -> None:
        request = provider_pb2.CheckRequest(
            urn=urn("pulumi:providers:fake"), news=sent({"url": "a", "uri": "b", "version": "1"})
        )
        found = host.stub.CheckConfig(request)
        assert [(each.property, each.reason) for each in found.failures] == [("uri", "fake has no setting 'uri'")]

    @pytest.mark.parametrize(("url", "changes"), [("a", DIFF.DIFF_NONE), ("b", DIFF.DIFF_SOME)])
    def test_changed_settings_are_a_change(self, host: Host, url: str, changes: int) -> None:
        request = provider_pb2.DiffRequest(old_inputs=sent({"url": "a"}), news=sent({"url": url}))
        assert host.stub.DiffConfig(request).changes == changes

    def test_its_version_is_its_sdks(self, host: Host) -> None:
        from google.protobuf import empty_pb2

        assert host.stub.GetPluginInfo(empty_pb2.Empty()).version == "1.2.3"
