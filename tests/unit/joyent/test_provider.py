"""components.joyent.provider: where a dynamic resource's credentials are from, in whatever project it is."""

from __future__ import annotations

from typing import Any

import pytest
from pulumi.dynamic import Config, ConfigureRequest

from components.joyent.machine import MachineProvider

OURS, OWN = '{"account": "shop"}', '{"account": "own"}'


@pytest.mark.parametrize(
    ("config", "project", "account"),
    [
        ({"rollcall:joyent": OURS}, "rollcall", "shop"),
        # Preflight, roll calls and status read this key, so the machines must be made by it too.
        ({"rollcall:joyent": OURS}, "webshop", "shop"),
        ({"rollcall:joyent": OURS, "webshop:joyent": OWN}, "webshop", "shop"),
        ({"webshop:joyent": OWN}, "webshop", "own"),
        ({}, "webshop", None),
    ],
)
def test_the_programs_key_counts_however_the_project_is_called(
    config: dict[str, Any], project: str, account: str | None
) -> None:
    provider = MachineProvider()
    provider.configure(ConfigureRequest(config=Config(config, project)))
    assert provider.settings.get("account") == account
