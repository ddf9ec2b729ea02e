"""The key of signed probes: random, and stored in the state by a reference that later versions read."""

from __future__ import annotations

import base64
import pickle
import re

from pulumi.dynamic.dynamic import serialize_provider

from components.resources.probe_key import ProbeKeyProvider

STORED = "gASVOgAAAAAAAACMHmNvbXBvbmVudHMucmVzb3VyY2VzLnByb2JlX2tleZSMEFByb2JlS2V5UHJvdmlkZXKUk5QpgZQu"


def test_each_key_is_another_one_of_32_bytes() -> None:
    one, two = ProbeKeyProvider().create({"value": None}), ProbeKeyProvider().create({"value": None})
    assert one.outs and two.outs and one.outs["value"] != two.outs["value"] and one.id != two.id
    assert re.fullmatch("[0-9a-f]{64}", one.outs["value"])


def test_its_id_does_not_give_the_key_away() -> None:
    made = ProbeKeyProvider().create({"value": None})
    assert made.outs and made.id not in made.outs["value"]


def test_an_up_makes_no_new_one_by_itself() -> None:
    assert ProbeKeyProvider().diff("id", {"value": "k"}, {"value": None}).changes is False


def test_a_state_of_this_version_is_read() -> None:
    assert serialize_provider(ProbeKeyProvider()) == STORED
    assert isinstance(pickle.loads(base64.b64decode(STORED)), ProbeKeyProvider)  # noqa: S301
