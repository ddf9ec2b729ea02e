"""Tags and metadata, from outside and from inside a machine."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cloud.cloudapi_server import RSA_KEY, Front, Lab, public_text, wait

pytestmark = pytest.mark.clouds


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    made = Front()
    yield made
    made.stop()


@pytest.fixture
def lab(front: Front) -> Lab:
    return Lab(front)


def path(found: dict[str, Any], *words: str) -> str:
    return "/".join(("/machines", found["id"], *words))


def test_tags_keep_their_types(lab: Lab) -> None:
    tags = {"text": "1", "number": 1, "part": 1.5, "on": True}
    found = lab.running(**{f"tag.{key}": value for key, value in tags.items()})
    assert json.dumps(lab.get(path(found, "tags"))) == json.dumps(tags)
    assert lab.get(path(found, "tags", "text")) == "1"
    assert lab.get(path(found, "tags", "number")) == ""
    lab.refused("GET", path(found, "tags", "none"), None, 404, "ResourceNotFound")


def test_a_nested_map_at_create_is_ignored(lab: Lab) -> None:
    found = lab.running(tags={"a": "b"}, metadata={"a": "b"}, **{"tag.c": "d"})
    assert (found["tags"], "a" in found["metadata"]) == ({"c": "d"}, False)


def test_a_reply_guesses_what_the_job_will_store(front: Front) -> None:
    lab = Lab(front, {"job_delay": 0.2})
    found = lab.running(**{"tag.a": "1", "tag.b": "2"})
    response = lab.raw("POST", path(found, "tags"), {"b": "3", "c": "4"})
    assert response.json() == {"a": "1", "b": "3", "c": "4"}
    assert uuid.UUID(response.headers["x-job-uuid"])
    assert lab.get(path(found, "tags")) == {"a": "1", "b": "2"}
    wait(lambda: lab.get(path(found, "tags")) == {"a": "1", "b": "3", "c": "4"})
    response = lab.raw("PUT", path(found, "tags"), {"z": True})
    assert response.json() == {"z": True}
    wait(lambda: lab.get(path(found, "tags")) == {"z": True})
    actions = [each["action"] for each in lab.get(path(found, "audit"))]
    assert actions == ["replace_tags", "set_tags", "provision"]


def test_tags_are_deleted_one_by_one_or_all(lab: Lab) -> None:
    found = lab.running(**{"tag.a/b": "1", "tag.b": "2", "tag.c": "3"})
    assert lab.raw("DELETE", path(found, "tags", "a%2Fb")).status_code == 204
    wait(lambda: set(lab.get(path(found, "tags"))) == {"b", "c"})
    lab.refused("DELETE", path(found, "tags", "a"), None, 404, "ResourceNotFound")
    assert lab.raw("DELETE", path(found, "tags")).status_code == 204
    wait(lambda: lab.get(path(found, "tags")) == {})


def test_the_apis_own_parameters_are_not_keys_but_any_other_is(lab: Lab) -> None:
    found = lab.running()
    own = {"account": "x", "machine": "x", "uuid": "x", "owner_uuid": "x", "context": "x", "image": "x", "kept": "y"}
    assert lab.post(path(found, "tags"), own) == {"kept": "y"}
    swept = lab.raw("POST", path(found, "tags"), {"a": "b"}, query={"as-role": "admin"})
    assert swept.json()["as-role"] == "admin"
    given = {"account": "x", "image": "x", "credentials": "x", "some_pw": "x", "context": "stays"}
    added = lab.post(path(found, "metadata"), given)
    assert {key for key in added if key != "root_authorized_keys"} == {"context"}


TAGS: tuple[tuple[str, Any, bool], ...] = (
    ("triton.cns.services", "web", True), ("triton.cns.services", "web:80,_api-2:443:priority=10:weight=1", True),
    ("triton.cns.services", "web.sub", True), ("triton.cns.services", 7, False), ("triton.cns.services", "a b", False),
    ("triton.cns.services", "web:70000", False), ("triton.cns.services", "", False), ("triton.cns.disable", True, True),
    ("triton.cns.disable", "true", False), ("triton.cns.reverse_ptr", "a.example", True),
    ("triton.cns.reverse_ptr", 1, False), ("triton.other", "x", False),
    ("docker:label:com.docker.x", "x", False), ("plain", {"a": 1}, False), ("plain", None, False), ("plain", [1], False),
)  # fmt: skip


@pytest.mark.parametrize(("key", "value", "taken"), TAGS)
def test_special_tags_are_checked(lab: Lab, key: str, value: Any, taken: bool) -> None:
    found = lab.running()
    if taken:
        lab.post(path(found, "tags"), {key: value})
        wait(lambda: lab.get(path(found, "tags")) == {key: value})
        return
    message = lab.refused("POST", path(found, "tags"), {key: value}, 409, "ValidationFailed")
    assert message["errors"][0]["field"].startswith("tags")
    assert lab.get(path(found, "tags")) == {}


def test_metadata_is_merged_and_deleted(lab: Lab) -> None:
    found = lab.running(**{"metadata.a": "1", "metadata.user-script": "#!/bin/sh\n"})
    lab.post(path(found, "metadata"), {"b": "2", "n": 1})
    wait(lambda: lab.get(path(found, "metadata")).get("b") == "2")
    assert lab.get(path(found, "metadata", "b")) == "2"
    lab.refused("GET", path(found, "metadata", "n"), None, 404, "ResourceNotFound")
    assert lab.raw("DELETE", path(found, "metadata", "a")).status_code == 204
    wait(lambda: "a" not in lab.get(path(found, "metadata")))
    for key in ("credentials", "administrator_pw", "root_authorized_keys"):
        lab.refused("DELETE", path(found, "metadata", key), None, 409, "InvalidArgument")
    lab.raw("DELETE", path(found, "metadata"))
    wait(lambda: set(lab.get(path(found, "metadata"))) == {"root_authorized_keys"})
    lab.refused("PUT", path(found, "metadata"), {"a": "b"}, 405, "MethodNotAllowed")
    lab.refused("POST", path(found, "metadata"), {"a": {"b": 1}}, 409, "ValidationFailed")


def test_credentials_are_shown_only_when_asked_for(lab: Lab) -> None:
    found = lab.running(**{"metadata.credentials": {"root": "r", "admin_pw": "a"}})
    assert "credentials" not in lab.get(path(found))["metadata"]
    assert lab.get(path(found), credentials="true")["metadata"]["credentials"] == {"root": "r", "admin": "a"}
    assert lab.get(path(found, "metadata"), credentials="true")["credentials"] == {"root": "r", "admin": "a"}
    assert lab.get(path(found, "metadata", "credentials")) == {"root": "r", "admin": "a"}
    assert lab.cloud.metadata_get(found["id"], "root_pw") == "r"


def test_a_deleted_machine_keeps_no_new_tags(lab: Lab) -> None:
    found = lab.running(**{"tag.a": "b"})
    lab.raw("DELETE", path(found))
    lab.until(found["id"], "deleted")
    lab.raw("POST", path(found, "tags"), {"c": "d"})
    wait(lambda: lab.get(path(found, "audit"))[0]["action"] == "set_tags")
    assert lab.get(path(found))["tags"] == {"a": "b"}


def test_the_guest_reads_its_machine(lab: Lab) -> None:
    found = lab.running(
        name="web-1", **{"tag.role": "web", "tag.n": 1, "metadata.user-script": "#!/bin/sh\n", "metadata.n": 1}
    )

    def get(key: str) -> str | None:
        return lab.cloud.metadata_get(found["id"], key)

    assert get("user-script") == "#!/bin/sh\n"
    assert get("n") == "1"
    assert get("root_authorized_keys") == f"{public_text(RSA_KEY)}\n"
    assert get("none") is None
    assert get("sdc:uuid") == found["id"]
    assert get("sdc:alias") == "web-1"
    assert get("sdc:datacenter_name") == "local-1"
    assert get("sdc:server_uuid") == found["compute_node"]
    assert get("sdc:tags.role") == "web"
    assert get("sdc:tags.n") == "1"
    assert get("sdc:tags.none") is None
    assert get("sdc:none") is None
    nics = json.loads(get("sdc:nics") or "")
    assert [nic["ip"] for nic in nics] == found["ips"]
    assert nics[0]["ips"] == ["203.0.113.10/24"]
    assert json.loads(get("sdc:resolvers") or "") == ["8.8.8.8", "8.8.4.4"]
    assert lab.cloud.metadata_list(found["id"]) == ["n", "root_authorized_keys", "user-script"]


def test_what_the_guest_writes_shows_in_the_api_and_back(lab: Lab) -> None:
    found = lab.running()
    lab.cloud.metadata_put(found["id"], "drained", "yes")
    assert lab.get(path(found))["metadata"]["drained"] == "yes"
    lab.post(path(found, "metadata"), {"drain": "now"})
    wait(lambda: lab.cloud.metadata_get(found["id"], "drain") == "now")
    lab.cloud.metadata_delete(found["id"], "drained")
    lab.cloud.metadata_delete(found["id"], "drained")
    assert "drained" not in lab.get(path(found))["metadata"]
    lab.cloud.metadata_put(found["id"], "x_pw", "secret")
    assert "secret" not in str(lab.get(path(found)))
    with pytest.raises(ValueError, match="read-only"):
        lab.cloud.metadata_put(found["id"], "sdc:alias", "x")
    with pytest.raises(ValueError, match="read-only"):
        lab.cloud.metadata_delete(found["id"], "sdc:uuid")
