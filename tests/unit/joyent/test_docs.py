from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pulumi
import pytest

TEXT = (Path(__file__).parents[3] / "docs" / "joyent.md").read_text()


class Recorder(pulumi.runtime.Mocks):  # type: ignore[misc]
    def __init__(self) -> None:
        self.made: list[tuple[str, str, dict[str, Any]]] = []

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.made.append((args.typ, args.name, args.inputs))
        return f"{args.name}-id", dict(args.inputs)

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:
        return {}


def test_the_program_in_the_manual_describes_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    recorder = Recorder()
    # A test that ran before may have ended the thread's loop, as asyncio.run() does.
    asyncio.set_event_loop(asyncio.new_event_loop())
    pulumi.runtime.set_mocks(recorder, project="trial", stack="dev", preview=False)
    pulumi.runtime.set_all_config({"trial:publicKey": "ssh-ed25519 AAAA", "trial:apiToken": "secret"})

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def run() -> None:
        exec(compile("\n".join(programs), "docs/joyent.md", "exec"), {})  # noqa: S102

    run()
    names = [(typ.rpartition("/")[2], name) for typ, name, _ in recorder.made if "joyent" in typ]
    assert sorted(names) == [
        ("joyent:FirewallRule", "http"), ("joyent:Key", "laptop"), ("joyent:Machine", "east"), ("joyent:Machine", "web-0"),
        ("joyent:Machine", "web-1"), ("joyent:Machine", "web-2"), ("joyent:Ready", "east"), ("joyent:Ready", "web"),
    ]  # fmt: skip
    machine = next(inputs for _, name, inputs in recorder.made if name == "web-1")
    assert machine["mark"] == "trial/dev/web-1"
    assert machine["tags"] == {"role": "web", "index": 1}
