"""What the tests of secrets see of the arguments of processes."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from tests.integration.log_inspection import Arguments
from tests.patience import came_true


@pytest.mark.parametrize("events", [True, False])
def test_a_process_is_seen_with_its_arguments_also_when_it_becomes_another_program(events: bool) -> None:
    mark = f"mark-{os.getpid()}-{time.monotonic_ns()}"
    with subprocess.Popen(["sleep", "30", "20"]) as earlier:
        arguments = Arguments(events=events)
        if events and not arguments.by_events:
            pytest.skip("the kernel has no events of processes for us")
        with arguments.recorded():
            script = f"sleep 0.3; exec sh -c 'sleep 0.3; :' {mark}"
            subprocess.run(["sh", "-c", script], check=True)
            assert came_true(lambda: any(b"sleep\x0030\x00" in each for each in arguments.seen), 10)
        earlier.kill()
    assert f"sh\0-c\0{script}\0".encode() in arguments.seen
    assert f"sh\0-c\0sleep 0.3; :\0{mark}\0".encode() in arguments.seen


def test_programs_of_a_millisecond_are_seen_by_their_events() -> None:
    arguments = Arguments()
    if not arguments.by_events:
        pytest.skip("the kernel has no events of processes for us")
    with arguments.recorded():
        for number in range(50):
            subprocess.run(["true", f"brief-{os.getpid()}-{number}"], check=True)
    seen = [each for each in arguments.seen if f"brief-{os.getpid()}-".encode() in each]
    assert len(seen) >= 10, seen
