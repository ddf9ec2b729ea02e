"""The command line of the engine above a provider host."""

from __future__ import annotations

import os

import pytest

from components.registration.command_line import Process, engine_arguments, is_partial_destroy

PROCESSES = {
    7: (6, ["/opt/venv/bin/python", "-m", "pulumi.dynamic", "127.0.0.1:4000"]),
    6: (5, ["/bin/sh", "/opt/pulumi-resource-pulumi-python"]),
    5: (4, ["/usr/local/bin/pulumi", "destroy", "--target", "urn"]),
    4: (1, ["-bash"]),
}


def process_of(process: int) -> Process:
    if process not in PROCESSES:
        raise ProcessLookupError(process)
    return PROCESSES[process]


def test_the_engine_is_found_above_its_scripts() -> None:
    assert engine_arguments(7, process_of) == ["destroy", "--target", "urn"]


@pytest.mark.parametrize("start", [4, 3])
def test_without_an_engine_nothing_is_known(start: int) -> None:
    assert engine_arguments(start, process_of) == []


def test_the_processes_of_this_computer_can_be_read() -> None:
    assert engine_arguments(os.getpid()) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("destroy --yes", False),
        ("destroy --yes --target urn", True),
        ("destroy --yes --target=urn", True),
        ("destroy -t urn --target-dependents", True),
        ("destroy --exclude urn", True),
        ("destroy --exclude-protected", False),
        ("up --target urn", False),
        ("", False),
    ],
)
def test_a_destroy_of_a_part_is_recognized(words: str, expected: bool) -> None:
    assert is_partial_destroy(words.split()) is expected
