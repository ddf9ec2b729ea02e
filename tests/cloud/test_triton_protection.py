"""Deletion protection on the local CloudAPI: what the view of Triton ends on purpose, and what it does not touch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from components.compute.triton import TritonView
from components.joyent.errors import RefusedError
from tests.cloud.cloudapi_server import Front, Lab
from tests.cloud.test_quotas import api_of

pytestmark = pytest.mark.clouds


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    made = Front()
    yield made
    made.stop()


@pytest.fixture
def lab(front: Front) -> Lab:
    return Lab(front)


def view(lab: Lab) -> TritonView:
    made = object.__new__(TritonView)
    made._api = api_of(lab)
    return made


def test_cloudapi_refuses_to_delete_a_protected_machine(lab: Lab) -> None:
    """deleteMachine of sdc-cloudapi's lib/machines.js: CannotDestroyMachineError."""
    made = lab.running(deletion_protection=True)["id"]
    with pytest.raises(RefusedError, match="CannotDestroyMachine"):
        api_of(lab).delete_machine(made)
    assert lab.get(f"/machines/{made}")["state"] == "running"


def test_machines_that_are_ended_on_purpose_are_unprotected_first(lab: Lab) -> None:
    protected, other = lab.running(deletion_protection=True)["id"], lab.running()["id"]
    view(lab).end([protected, "0d5ecf6c-5b1c-4c4f-8a76-6f5f3a1f8b10", other])
    assert lab.until(protected, "deleted") and lab.until(other, "deleted")


def test_a_protected_machine_is_not_stopped_ahead_because_its_deletion_may_be_refused(lab: Lab) -> None:
    tag = {"tag.rollcall-stack": "local"}
    protected, other = lab.running(deletion_protection=True, **tag)["id"], lab.running(**tag)["id"]
    view(lab).stop("local", [protected, other])
    assert lab.until(other, "stopped")
    assert lab.get(f"/machines/{protected}")["state"] == "running"
