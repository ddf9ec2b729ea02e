"""The commands `rollcall join | leave | run | status`. Exit codes: 0 done, 1 not done (with one line on stderr), 2 wrong usage."""

from __future__ import annotations

import argparse
import logging
import logging.handlers
import sys
from collections.abc import Sequence
from pathlib import Path

from rollcall.agent import Agent, agent_is_running, finish_leaving, run
from rollcall.clouds import detect
from rollcall.errors import RollcallError
from rollcall.host_label import KeptLabels
from rollcall.settings import Join, MachineSettings, parse_join
from rollcall.status_file import STATUS_FILE, has_left

LOG = Path("/var/log/rollcall.log")
# In the folder of the boot script's files: after a restart a machine must know that it was registered.
LABELS_FILE = Path("/var/lib/rollcall/host-labels.json")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="rollcall", description="Registers this machine in DNS.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="join when healthy; leave when unhealthy, when drained, and when the system stops")
    words = "the membership; default: those in the machine's settings: `route53 zone=… domain=… service=… incarnation=… port=…`"
    commands.add_parser("join", help="once, and let the agent join").add_argument("membership", nargs="*", help=words)
    leave = commands.add_parser("leave", help="once, and keep the agent out of DNS until `rollcall join` or a reboot")
    leave.add_argument("membership", nargs="*", help=words)
    leave.add_argument("--at-shutdown", action="store_true", help="only if the agent has not left; it may join again")
    commands.add_parser("whoami", help="cloud, instance and workloads")
    commands.add_parser("prepare", help="set the system to what the machine's settings say, before a workload starts")
    commands.add_parser("status", help="what the agent last did, as JSON")
    commands.add_parser("resolve", help="a service's live machines", add_help=False)
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["resolve"]:
        return _resolve(given[1:])
    chosen = parser.parse_args(given)
    if chosen.command == "status":
        return _status()
    _log_to(LOG)
    try:
        joins = (parse_join(" ".join(chosen.membership)),) if getattr(chosen, "membership", ()) else None
        if getattr(chosen, "at_shutdown", False) and has_left(STATUS_FILE):
            return 0
        return _do(chosen.command, joins, lasting=not getattr(chosen, "at_shutdown", False))
    except (RollcallError, ValueError) as fault:
        print(f"rollcall {chosen.command}: {fault} log={LOG}", file=sys.stderr)
        return 1


def _do(command: str, joins: tuple[Join, ...] | None, *, lasting: bool) -> int:
    """Run a command. Return its exit code. `lasting`: the agent that runs at the same time does not undo it."""
    if command == "whoami":
        cloud = detect()
        instance = cloud.instance()
        print(" ".join((cloud.name, instance, *MachineSettings.from_keys(cloud.keys(), instance).workloads)))
        return 0
    if command == "prepare":
        try:
            from rollcall.prepare import prepare
        except ModuleNotFoundError:
            # A Triton machine without settings of its system does not carry it.
            return 0
        try:
            prepare(detect().keys())
        except (RollcallError, ValueError) as failed:
            print(failed)
            return 1
        return 0
    status_file = STATUS_FILE if command == "run" else STATUS_FILE.with_name(f"{command}.json")
    agent = Agent(detect(), joins=joins, status_file=status_file, labels=KeptLabels(LABELS_FILE))
    if command == "run":
        # It needs get_release.py, which only the agent's unit has on its path. A Triton machine without releases in place does not have it.
        try:
            from rollcall.releasing import Releases
        except ModuleNotFoundError:
            return run(agent)
        return run(agent, Releases(agent))
    agent.settle()
    if joins is None and lasting:
        # This comes before the records are removed: the agent would write them again.
        agent.stay_away(command == "leave")
    if command == "leave":
        return 0 if agent.leave() and _remove_hosts(agent, lasting=lasting, agent_knows=joins is None) else 1
    agent.tick()
    why = "reason=on-hold fix='rollcall release-hold'" if agent.on_hold else "reason=workload-unhealthy"
    faults = [each.error or why for each in agent.memberships if not each.joined]
    for fault in faults:
        print(f"rollcall join: {fault} log={LOG}", file=sys.stderr)
    return 1 if faults else 0


def _remove_hosts(agent: Agent, *, lasting: bool, agent_knows: bool) -> bool:
    """Remove the hosts of a machine that has left, after their TTL. Return whether that is done, or the running agent will do it."""
    if lasting and (not agent.left_hosts or (agent_knows and agent_is_running())):
        return True
    return finish_leaving(agent, at_shutdown=not lasting)


def _resolve(words: list[str]) -> int:
    """Find a service's machines. The client is in the package, not in the release: docs/decisions/0009."""
    try:
        from rollcall import resolve
    except ImportError:
        print("rollcall resolve: reason=no-client fix='docs/discovery.md, or dig'", file=sys.stderr)
        return 1
    return resolve.main(words)


def _status() -> int:
    try:
        print(STATUS_FILE.read_text())
    except OSError:
        print("rollcall status: reason=not-running fix='systemctl status rollcall'", file=sys.stderr)
        return 1
    return 0


def _log_to(file: Path) -> None:
    """Log to standard output, which goes to the journal, and to `file`, for readers without the journal."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    try:
        handlers.append(logging.handlers.WatchedFileHandler(file))
    except OSError:
        print(f"rollcall: reason=log-not-writable file={file}", file=sys.stderr)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", handlers=handlers)
