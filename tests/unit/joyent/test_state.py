"""Old states must load for ever: `state-1.json` is what version 1 wrote, `state-2.json` has its later inputs and marks too.

Add a file for a new form, never change one.
"""

from __future__ import annotations

import base64
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from pulumi.dynamic.dynamic import serialize_provider

from tests.unit.joyent.fake import IMAGES, FakeCloud

STATES = [
    pytest.param(kind, kept, id=f"{path.stem}-{kind}")
    for path in sorted(Path(__file__).parent.glob("state-*.json"))
    for kind, kept in json.loads(path.read_text()).items()
]


@pytest.mark.parametrize(("kind", "kept"), STATES)
def test_a_provider_in_an_old_state_is_found_and_written_again_the_same(kind: str, kept: dict[str, Any]) -> None:
    provider = pickle.loads(base64.b64decode(kept["provider"]))  # noqa: S301
    assert type(provider).__name__ == f"{kind}Provider"
    assert serialize_provider(provider) == kept["provider"]
    assert provider.serialize_as_secret_always is False
    assert len(base64.b64decode(kept["provider"])) < 100


@pytest.mark.parametrize(("kind", "kept"), STATES)
def test_an_old_state_shows_no_difference_to_the_same_description(kind: str, kept: dict[str, Any]) -> None:
    provider = pickle.loads(base64.b64decode(kept["provider"]))  # noqa: S301
    cloud = FakeCloud()
    provider.fixed_session = cloud.session()
    assert provider.diff(kept["id"], kept["outputs"], kept["inputs"]).changes is False
    if kind != "Ready":
        assert provider.read(kept["id"], kept["outputs"]).id == ""


def test_an_old_machine_is_read_changed_and_deleted() -> None:
    kept = next(each.values[1] for each in STATES if each.values[0] == "Machine")
    provider, cloud = pickle.loads(base64.b64decode(kept["provider"])), FakeCloud()  # type: ignore[index]  # noqa: S301
    provider.fixed_session = cloud.session()
    inputs = kept["inputs"]  # type: ignore[index]
    id_ = provider.session.api.create_machine(
        {
            "name": inputs["machine_name"], "package": inputs["package"], "image": IMAGES[0]["id"],
            **{f"tag.{key}": value for key, value in inputs["tags"].items()}, "tag.pulumi-resource": inputs["mark"],
        }
    ).id  # fmt: skip
    read = provider.read(id_, kept["outputs"])  # type: ignore[index]
    assert {name for name in inputs if read.inputs[name] != inputs[name]} == {"metadata", "secret_metadata", "userdata"}
    changed = {**read.outs, "tags": {"role": "db"}}
    assert provider.update(id_, read.outs, changed).outs["tags"] == {"role": "db"}
    provider.delete(id_, read.outs)
    assert f"DELETE /machines/{id_}" in cloud.calls
