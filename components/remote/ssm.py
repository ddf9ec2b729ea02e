"""Run commands on an EC2 instance by Systems Manager (SSM), as root.

https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_SendCommand.html
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from components.remote.base import Line, RemoteError

# https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetCommandInvocation.html
_ENDED = ("Success", "Cancelled", "TimedOut", "Failed")
_LONGEST_OUTPUT = 24_000
_POLL_S = 1.0
# SSM tries for so long to reach the agent; 30 s is the shortest time that it takes.
_REACHED_WITHIN_S = 30
# AWS-RunShellScript ends a command after an hour unless it gets another time.
_RUNS_FOR_S = 3600
NOT_MANAGED = (
    "SSM: does not know this machine. Give it the SSM agent, and its role the policy AmazonSSMManagedInstanceCore "
    "(docs/operations.md), or set `ssh` of the fleet."
)


class SsmShell:
    """An instance. `client` is boto3's client of SSM in its region."""

    def __init__(self, client: Any, instance: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client, self._instance, self._sleep = client, instance, sleep
        self._stopped = False

    def run(self, command: str, line: Line) -> int:
        """SSM shows the output only after the end, and only its first 24,000 characters."""
        found = self._result(self._send(command))
        for text, is_error in (
            (str(found.get("StandardOutputContent", "")), False),
            (str(found.get("StandardErrorContent", "")), True),
        ):
            for each in text.splitlines():
                line(each, is_error)
            if len(text) >= _LONGEST_OUTPUT:
                line(f"SSM shows only the first {_LONGEST_OUTPUT} characters", True)
        if found["Status"] in ("Cancelled", "TimedOut"):
            why = found.get("StatusDetails") or found["Status"]
            raise RemoteError(
                f"{self._instance}: SSM ended the command ({why}). Check its agent, and run the command again."
            )
        return int(found["ResponseCode"])

    def _send(self, command: str) -> str:
        from botocore.exceptions import ClientError

        try:
            sent = self._client.send_command(
                InstanceIds=[self._instance],
                DocumentName="AWS-RunShellScript",
                TimeoutSeconds=_REACHED_WITHIN_S,
                Parameters={"commands": command.splitlines(), "executionTimeout": [str(_RUNS_FOR_S)]},
            )
        except ClientError as refused:
            if refused.response.get("Error", {}).get("Code") == "InvalidInstanceId":
                raise RemoteError(NOT_MANAGED) from refused
            raise
        return str(sent["Command"]["CommandId"])

    def _result(self, command: str) -> dict[str, Any]:
        """Wait until the command has ended. SSM does not have its invocation in the first moments."""
        while not self._stopped:
            self._sleep(_POLL_S)
            try:
                found: dict[str, Any] = self._client.get_command_invocation(
                    CommandId=command, InstanceId=self._instance
                )
            except self._client.exceptions.InvocationDoesNotExist:
                continue
            if found["Status"] in _ENDED:
                return found
        raise RemoteError(
            f"{self._instance}: was not waited for, and runs command {command}. Run `aws ssm get-command-invocation` for its output."
        )

    def stop(self) -> None:
        self._stopped = True
