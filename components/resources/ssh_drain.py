"""Drain over SSH, for fleets with `ssh`: stop a machine's agent, so that the machine leaves right before it is deleted.

RollCall has asked the machine by its tags before. SSH reaches a machine that does not get its metadata. It never fails,
and tries to connect for ten seconds at most: a dead machine must not block `destroy`.
"""

from __future__ import annotations

import pulumi
import pulumi_command as command

from components.config.models import SshSettings
from components.remote.ssh import OPTIONS

# The machine leaves when the second unit is stopped (userdata/units/rollcall-leave.service). A machine of an older
# release has only the first unit, and its agent leaves when that unit is stopped.
_LEAVE = """run() { if [ "$(id -u)" = 0 ]; then systemctl "$@"; else sudo -n systemctl "$@"; fi; }
run stop rollcall && { ! systemctl cat rollcall-leave >/dev/null 2>&1 || run stop rollcall-leave; }"""
# What the machine prints may contain control codes for a terminal or commands for a CI runner. So only the plain
# characters of its last line are kept, without `#`. The shell reads ROLLCALL_SSH when this runs, as git's
# GIT_SSH_COMMAND: a key, a jump host, another client.
_SCRIPT = f"""[ -n "$ROLLCALL_TO" ] || exit 0
output=$(timeout 60 sh -c "${{ROLLCALL_SSH:-ssh}} {OPTIONS} "'"$ROLLCALL_TO" "$ROLLCALL_LEAVE"' 2>&1) ||
  echo "$ROLLCALL_TO did not leave by SSH ($?: $(printf %s "$output" | tail -n 1 | LC_ALL=C tr -dc ' "$-~' | cut -c 1-200))\
; its records are removed when it is gone"
"""


def over_ssh(
    name: str,
    ssh: SshSettings | None,
    machine: pulumi.CustomResource,
    address: pulumi.Input[str],
    *,
    parent: pulumi.Resource,
) -> command.local.Command:
    """Create the command that drains `machine`, at `address`, when that will be deleted. Each instance has a new one.

    Without `ssh` the command does nothing. A fleet that no longer has `ssh` keeps the command in this form. If the
    command were deleted, its last act would be to stop the agent of a machine that stays.

    https://www.pulumi.com/registry/packages/command/api-docs/local/command/
    """
    return command.local.Command(
        leave_name(name),
        delete=_SCRIPT,
        environment={
            "ROLLCALL_TO": pulumi.Output.concat(ssh.user, "@", address) if ssh else "",
            "ROLLCALL_LEAVE": _LEAVE,
        },
        triggers=[machine.id],
        opts=pulumi.ResourceOptions(parent=parent, depends_on=[machine]),
    )


def leave_name(machine: str) -> str:
    """Return the name of the command of the machine with this name."""
    return f"{machine}-leave"
