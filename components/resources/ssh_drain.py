"""Drain over SSH, for fleets with `ssh`: a machine's agent is stopped, and the machine leaves, right before it is deleted.

RollCall has asked it by its tags before; this reaches a machine whose metadata do not. It never fails, and dials for ten
seconds at most: a dead machine must not keep `destroy` from going on.
"""

from __future__ import annotations

import pulumi
import pulumi_command as command

from components.config.models import SshSettings

# Known hosts are not kept: nothing secret is said, and a machine that is new has a key that nobody has seen.
_OPTIONS = (
    "-axT -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=5 -o ServerAliveCountMax=2"
    " -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
)
# Stopping the second unit is leaving (userdata/units/rollcall-leave.service). A machine of an older release has only the first, whose
# agent leaves when it is stopped.
_LEAVE = """run() { if [ "$(id -u)" = 0 ]; then systemctl "$@"; else sudo -n systemctl "$@"; fi; }
run stop rollcall && { ! systemctl cat rollcall-leave >/dev/null 2>&1 || run stop rollcall-leave; }"""
# What the machine prints may have orders to a terminal or a CI's runner: of its last line the plain characters are kept, without `#`.
# The shell reads ROLLCALL_SSH when this runs, as git's GIT_SSH_COMMAND: a key, a jump host, another client.
_SCRIPT = f"""[ -n "$ROLLCALL_TO" ] || exit 0
said=$(timeout 60 sh -c "${{ROLLCALL_SSH:-ssh}} {_OPTIONS} "'"$ROLLCALL_TO" "$ROLLCALL_LEAVE"' 2>&1) ||
  echo "$ROLLCALL_TO did not leave by SSH ($?: $(printf %s "$said" | tail -n 1 | LC_ALL=C tr -dc ' "$-~' | cut -c 1-200))\
; its entries are removed when it is gone"
"""


def over_ssh(
    name: str,
    ssh: SshSettings | None,
    machine: pulumi.CustomResource,
    address: pulumi.Input[str],
    *,
    parent: pulumi.Resource,
) -> command.local.Command:
    """The command that drains `machine`, which is at `address`, once that is to be deleted; a new one for each instance.

    Without `ssh` it does nothing. A fleet that had it and has it no more keeps it so: if the command went, its last act would be
    to stop the agent of a machine that stays.

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
    """What the command of the machine with this name is called."""
    return f"{machine}-leave"
