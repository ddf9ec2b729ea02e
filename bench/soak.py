"""Run random operations and faults on a booted fleet over two clouds, and check the promises the whole time.

    make soak                   # DURATION seconds (7200), MOST machines a cloud (3), SEED

After each operation the stack settles. Then state, clouds and DNS must name the same machines, and the zone's name
servers must answer with them. Meanwhile three threads run. One checks that foreign records keep every byte, another
visits the site each 100 ms, and a third calls the service's machines in turn. Only a power cut, a hang, a cut between
the clouds or a failed workload may cost a visit or a call. Each operation is one line of JSON in .rollcall/soak.log.

It ends at the first broken promise, and shows what led to it; otherwise it ends with a destroy that must leave nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "userdata")]

import requests  # noqa: E402
from botocore.exceptions import BotoCoreError, ClientError  # noqa: E402
from dns.exception import DNSException  # noqa: E402

from bench.rows import Row, report  # noqa: E402
from localcloud.network.namespace import NETWORKS  # noqa: E402
from localcloud.runtime.sandbox import SandboxError  # noqa: E402
from rollcall.host_label import generation_of  # noqa: E402
from rollcall.ownership import Owner  # noqa: E402
from rollcall.route53 import begins, host_name  # noqa: E402
from rollcall.settings import HOSTS_LABEL  # noqa: E402
from tests.integration.conftest import sandboxed  # noqa: E402
from tests.integration.deployed import HOST  # noqa: E402
from tests.integration.instep import SERVICE, InStep, foreign_bytes  # noqa: E402
from tests.integration.log_inspection import CLOUDFLARE, Prober, is_machine, most_in, requests_of  # noqa: E402

DURATION = float(os.environ.get("DURATION", "7200"))
MOST = int(os.environ.get("MOST", "3"))
SEED = int(os.environ.get("SEED") or secrets.randbelow(10**6))
LOG = ROOT / ".rollcall" / "soak.log"
# A crash is found by two failed probes, a challenge of 24 s and a little more.
GONE_WITHIN, BACK_WITHIN = 75.0, 120.0
# An agent reports it when it next reads DNS, which waits up to 8 s for a silent server.
REPORTED_WITHIN = 60.0
# An agent that is absent for less than 30 s loses nothing. To stop and to start it takes some of that on a busy computer.
ABSENT_S = (0, 0, 15)
# An agent reads its records every 7 s. After it changes them, it lets the name servers catch up for 15 s.
NOTICED_WITHIN = 40.0
CONFIG = """\
config:
  aws:region: us-west-2
  rollcall:drainDelay: 2
  rollcall:sites: {{ www: {{ zone: scalability.expert, host: www, ttl: {ttl} }} }}
  rollcall:serviceDiscovery: {{ zone: unilans.net, services: {{ theService: {{ port: 4218, ttl: 5, incarnations: {{ v1: {{}} }} }} }} }}
  rollcall:fleets:
    web-aws: {{ cloud: aws, count: {aws}, size: {size}, image: debian-12, timeout: 120, joins: [site/www, theService/v1] }}
    web-joyent: {{ cloud: joyent, count: {joyent}, size: g1.micro, image: debian-12, timeout: 120, joins: [site/www, theService/v1] }}
"""


class BrokenError(Exception):
    """A promise was not kept."""


class Frugal(InStep):
    """Asks Cloudflare for the zone's id once.

    The requests of the checks count with those of the engine and the agents: 1,200 requests in five minutes for all
    tokens of a user (https://developers.cloudflare.com/fundamentals/api/reference/limits/).
    """

    _zone = ""

    def zone(self) -> str:
        self._zone = self._zone or super().zone()
        return self._zone

    def most_requests(self) -> str:
        """Return the most requests to Cloudflare in five minutes, for each kind of client."""
        clients = {
            "all": lambda _: True,
            "the machines": is_machine,
            "the engine and the checks": lambda caller: not is_machine(caller),
        }
        most = {
            client: most_in(requests_of(self.sandbox, CLOUDFLARE, caller), 300) for client, caller in clients.items()
        }
        return ", ".join(f"{client} {count}" for client, count in most.items())


class Soak:
    def __init__(self, stack: InStep, config: Path, dice: random.Random) -> None:
        self.stack, self.config, self.dice = stack, config, dice
        self.settings = {"aws": 2, "joyent": 2, "ttl": 60, "size": "t3.micro"}
        self.rough: list[tuple[float, float]] = []
        self.edits = 0
        self.took: dict[str, list[float]] = {}
        # A thread that edits foreign records, or has the APIs fail, takes this lock, so that the watcher does not read in between.
        self.editing = threading.Lock()
        self.foreign, self.comparisons, self.changed = "", 0, ""

    # The operations. Each returns what it did, in words; the stack settles after it.

    def scale(self) -> str:
        self.settings.update(aws=self.dice.randint(1, MOST), joyent=self.dice.randint(1, MOST))
        return f"{self.settings['aws']} and {self.settings['joyent']} machines"

    def replace(self) -> str:
        self.settings["size"] = "t3.small" if self.settings["size"] == "t3.micro" else "t3.micro"
        return f"every EC2 machine replaced by a {self.settings['size']}"

    def change_in_place(self) -> str:
        self.settings["ttl"] = self.dice.choice([each for each in (60, 120, 300) if each != self.settings["ttl"]])
        return f"TTL {self.settings['ttl']}"

    def stop(self) -> str:
        with self._may_fail(unless=2):
            one = self._one()
            if one.startswith("i-"):
                self.stack.ec2.stop_instances(InstanceIds=[one])
            else:
                self.stack.triton("instance", "stop", "-w", one)
            self._wait("its DNS records are gone", lambda: not self._is_in_dns(one), 60)
        return f"{one} was stopped by its cloud"

    def crash(self) -> str:
        one = self._one()
        alone = len(self.stack.in_state()) == 1
        with self._may_fail():
            self.stack.sandbox.localcloud("crash", one, capture=True)
            if not alone:
                self._wait("a crashed machine's DNS records are gone", lambda: not self._is_in_dns(one), GONE_WITHIN)
        return f"{one} lost its power"

    def hang(self) -> str:
        one = self._one()
        alone = len(self.stack.in_state()) == 1
        with self._may_fail():
            self.stack.sandbox.localcloud("freeze", one, capture=True)
            try:
                if not alone:
                    self._wait(
                        "a hanging machine's DNS records are gone", lambda: not self._is_in_dns(one), GONE_WITHIN
                    )
            finally:
                self.stack.sandbox.localcloud("thaw", one, capture=True)
            self._wait("it is back", lambda: self._is_in_dns(one), BACK_WITHIN)
        return f"{one} hung for a while"

    def partition(self) -> str:
        before = self.stack.owners()
        with self._may_fail():
            self.stack.sandbox.localcloud("partition", capture=True)
            try:
                self._stay(before, 40, "the clouds were cut off from each other, and a machine was removed")
            finally:
                self.stack.sandbox.localcloud("heal", capture=True)
        return "the clouds were cut off from each other"

    def api_down(self) -> str:
        which = self.dice.choice(("cloudflare", "route53"))
        before = self._in_dns()
        seconds = self.dice.choice((10, 30))
        with self.editing:
            self.stack.sandbox.localcloud("fault", which, "status=503", capture=True)
            try:
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    if self._in_dns() != before:
                        raise BrokenError(f"{which} failed, and DNS records disappeared")
                    time.sleep(1)
            finally:
                self.stack.sandbox.localcloud("fault", "--clear", which, capture=True)
        return f"{which} failed for {seconds} s"

    def bad_name_server(self) -> str:
        """One of the zones' name servers fails, while a machine crashes or nothing happens."""
        where = self.dice.choice([each for network in NETWORKS.values() for each in network.name_servers])
        how = self.dice.choice(("refused", "lame", "drop", "status=500"))
        before = self.stack.owners()
        self.stack.sandbox.localcloud("fault", f"dns:{where} {how}", capture=True)
        try:
            self._wait(
                f"every agent names a name server that is {how}",
                lambda: all(map(self._names(where), self._machines())),
                REPORTED_WITHIN,
            )
            self._stay(before, 30, f"the name server {where} was {how}, and DNS records disappeared")
            crashed = f", and {self.crash()}" if self.dice.randrange(2) else ""
        finally:
            self.stack.sandbox.localcloud("fault", "--clear", "dns", capture=True)
        return f"the name server {where} was {how}{crashed}"

    def agent_killed(self) -> str:
        one = self._one()
        before = self.stack.owners()
        self.stack.inside(one, "systemctl", "kill", "--signal=KILL", "rollcall")
        self._stay(before, 5, "an agent was killed, and its DNS records disappeared")
        return f"the agent of {one} was killed"

    def agent_restarted(self) -> str:
        one, absent = self._one(), self.dice.choice(ABSENT_S)
        before, broken = self._in_dns(), "an agent was restarted and stopped for a moment, and DNS records disappeared"
        for words in (("restart",), ("kill", "--signal=TERM"), ("stop",)):
            self.stack.inside(one, "systemctl", *words, "rollcall")
        self._stay_answered(before, absent, broken)
        self.stack.inside(one, "systemctl", "start", "rollcall")
        self._stay_answered(before, 10, broken)
        return f"the agent of {one} was restarted, and stopped for {absent} s"

    def host_record_deleted(self) -> str:
        sets = self.stack.record_sets()
        hosts = [each for each in sets if each["Type"] in ("A", "TXT") and self._is_host(each)]
        record = self.dice.choice(sorted(hosts, key=lambda each: (each["Name"], each["Type"])))
        route53 = self.stack.aws("route53")
        zone = route53.list_hosted_zones()["HostedZones"][0]["Id"]
        batch = {"Changes": [{"Action": "DELETE", "ResourceRecordSet": record}]}
        route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch=batch)
        # A call that comes to this machine in between fails.
        with self._may_fail():
            self._wait("a deleted host record is back", lambda: self._is_back(record), NOTICED_WITHIN)
        return f"{record['Type']} of {record['Name']} was deleted"

    def _is_back(self, record: dict[str, Any]) -> bool:
        """Return whether a deleted record is there again. A host that lost its address has a new name (docs/decisions/0012)."""
        sets = self.stack.record_sets()
        if record["Type"] == "TXT":
            return record in sets
        host = record["Name"].rstrip(".")
        generation = host_name(generation_of(host), host.partition(f".{HOSTS_LABEL}.")[2])
        return any(
            each["ResourceRecords"] == record["ResourceRecords"] and begins(each["Name"].rstrip("."), generation)
            for each in sets
            if each["Type"] == "A"
        )

    def mark_copied(self) -> str:
        """Copy a mark to all records, as a tool does that keeps one comment for a record set."""
        records = [each for each in self.stack.zone_records() if each["name"] == HOST]
        before = {each["content"]: each["comment"] for each in records}
        mark, stood = self.dice.choice(sorted(before.values())), self._in_dns()
        for each in records:
            self._comment(each["id"], mark)
        one = Owner.parse(mark)
        if one is None:
            raise BrokenError(f"a record of {HOST} has the mark {mark!r}")
        if self.dice.randrange(2):
            address = next(content for content, comment in before.items() if comment == mark)
            return self._one_leaves(one.instance, {*before} - {address})
        self.stack.inside(one.instance, "systemctl", "restart", "rollcall")

        def own() -> bool:
            if self._in_dns()[0] != stood[0]:
                raise BrokenError("a mark was copied, and DNS records disappeared")
            return {
                each["content"]: each["comment"] for each in self.stack.zone_records() if each["name"] == HOST
            } == before

        self._wait("each machine has its own mark again", own, 2 * NOTICED_WITHIN)
        return f"the mark of {one.instance} was copied to all, and its agent restarted"

    def _one_leaves(self, one: str, others: set[str]) -> str:
        """Let the machine leave that all marks name."""

        def gone() -> bool:
            now = {*self.stack.answers()}
            if not now >= others:
                raise BrokenError(f"{one} left, although its mark was copied, and took {sorted(others - now)} along")
            return now == others

        self.stack.inside(one, "rollcall", "leave")
        try:
            self._wait("the machine with a copied mark has left", gone, NOTICED_WITHIN)
            self._stay_answered_by(others, NOTICED_WITHIN)
        finally:
            self.stack.inside(one, "rollcall", "join")
        return f"the mark of {one} was copied to all, and it left"

    def all_unhealthy(self) -> str:
        """Let a dependency of all workloads fail for six seconds, or for longer than a health check tolerates."""
        seconds, before = self.dice.choice((6.0, 30.0)), self._in_dns()
        broken = "all workloads failed, and DNS records disappeared"
        with self._may_fail():
            began = time.monotonic()
            self._everywhere("stop")
            try:
                self._stay_answered(None, seconds - (time.monotonic() - began), broken)
            finally:
                self._everywhere("start")
            took = time.monotonic() - began
            # Only a short failure must not remove a record, and on a computer that is too busy it took longer.
            self._stay_answered(before if took < 8 else None, 12, broken)
        return f"all workloads failed for {took:.1f} s"

    def user_edits(self) -> str:
        self.edits += 1
        value = f'"v=edit{self.edits}"'
        made = {"Name": "user.unilans.net", "Type": "TXT", "TTL": 60, "ResourceRecords": [{"Value": value}]}
        route53 = self.stack.aws("route53")
        zone = route53.list_hosted_zones()["HostedZones"][0]["Id"]
        with self.editing:
            change = {"Changes": [{"Action": "UPSERT", "ResourceRecordSet": made}]}
            route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch=change)
            self.foreign = foreign_bytes(self.stack)
        return f"a user wrote {value}"

    def _everywhere(self, what: str) -> None:
        with ThreadPoolExecutor(2 * MOST) as pool:
            units = (what, "nginx", "the-service")
            list(pool.map(lambda one: self.stack.inside(one, "systemctl", *units), sorted(self.stack.in_state())))

    def _comment(self, record: str, text: str) -> None:
        """Change a comment as the operator does."""
        token = {"Authorization": f"Bearer {self.stack.env['CLOUDFLARE_API_TOKEN']}"}
        url = f"{self.stack.env['CLOUDFLARE_BASE_URL']}/zones/{self.stack.zone()}/dns_records/{record}"
        requests.patch(url, json={"comment": text}, headers=token, timeout=10).raise_for_status()

    @staticmethod
    def _is_host(record: dict[str, Any]) -> bool:
        return ".rc." in record["Name"] and ".c.rc." not in record["Name"]

    def _stay_answered(self, before: tuple[list[str], list[str]] | None, seconds: float, broken: str) -> None:
        """Check that the answers stay the same. Where they are not known, check that there is an answer."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            now = self._in_dns()
            if not all(now) or (before is not None and now != before):
                raise BrokenError(f"{broken}: {before} is now {now}")
            time.sleep(0.2)

    def _stay_answered_by(self, addresses: set[str], seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not (now := {*self.stack.answers()}) >= addresses:
                raise BrokenError(f"nothing happened to {sorted(addresses - now)}, and they went")
            time.sleep(0.2)

    def _machines(self) -> list[str]:
        return sorted(self.stack.in_state())

    def _names(self, server: str) -> Callable[[str], bool]:
        """Return a check whether a machine's agent reports in its status that this name server has no vote."""
        status = ("cat", "/run/rollcall/status.json")
        return lambda one: server in json.loads(self.stack.inside(one, *status))["watch"]

    # Helpers of the operations

    def settle(self) -> None:
        """Run `up`, then check promises 1 and 3: all sides name the same machines, and a preview changes nothing."""
        self.config.write_text(CONFIG.format(**self.settings))
        with self.editing:
            # The records that Pulumi writes are foreign to the machines, and may change now.
            self.stack.sandbox.lay_out()
            self.stack.up()
            self.foreign = self._static()
        wanted = self.settings["aws"] + self.settings["joyent"]  # type: ignore[operator]
        self._wait("all are in step", self._in_step, BACK_WITHIN)
        if len(self.stack.in_state()) != wanted:
            raise BrokenError(f"{len(self.stack.in_state())} machines in the state, {wanted} were asked for")
        if self.dice.randrange(3) == 0:
            self.stack.sandbox.pulumi("preview", "--expect-no-changes", "--stack", "local", capture=True)

    def _static(self) -> str:
        """Return a user's bytes, which must not change. `up` may have changed what Pulumi owns."""
        now = foreign_bytes(self.stack)
        if self.edits and f"v=edit{self.edits}" not in now:
            raise BrokenError("`up` changed a user's record")
        return now

    def _in_step(self) -> bool:
        try:
            self.stack.assert_in_step()
        except AssertionError as not_yet:
            self.last = str(not_yet)
            return False
        return True

    def watch(self, stop: threading.Event) -> None:
        """Watch the foreign bytes.

        A soak without this check proves nothing, so the end of the check ends the soak too.
        """
        try:
            while not stop.wait(5.0):
                with self.editing:
                    now = foreign_bytes(self.stack)
                    self.comparisons += 1
                    if now != self.foreign and not self.changed:
                        self.changed = f"foreign bytes changed from {self.foreign} to {now}"
        finally:
            if not stop.is_set():
                self.changed = self.changed or "the witness of foreign bytes could not read them, see above"

    @contextlib.contextmanager
    def _may_fail(self, unless: int = 0) -> Iterator[None]:
        """Allow visits to fail meanwhile, and for BACK_WITHIN seconds after. With `unless` or more machines, none may fail."""
        began = time.time()
        try:
            yield
        finally:
            if not unless or len(self.stack.in_state()) < unless:
                self.rough.append((began, time.time() + BACK_WITHIN))

    def _one(self) -> str:
        return self.dice.choice(sorted(self.stack.in_state()))

    def _is_in_dns(self, instance: str) -> bool:
        return any(instance in each for each in self.stack.owners().values())

    def _in_dns(self) -> tuple[list[str], list[str]]:
        """Return the present answers, by DNS: an API that fails cannot be asked."""
        return self.stack.answers(), self.stack.dig(SERVICE, "SRV")

    def _stay(self, before: dict[str, set[str]], seconds: float, broken: str) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.stack.owners() != before:
                raise BrokenError(broken)
            time.sleep(1)

    def _wait(self, what: str, true: Callable[[], bool], seconds: float) -> None:
        began = time.monotonic()
        while not true():
            if time.monotonic() - began > seconds:
                raise BrokenError(f"not within {seconds:.0f} s: {what} {getattr(self, 'last', '')}")
            time.sleep(1)
        self.took.setdefault(what, []).append(time.monotonic() - began)


# The weight of each operation.
OPERATIONS = {
    "scale": 3, "replace": 1, "change_in_place": 1, "stop": 1, "crash": 1, "hang": 1, "partition": 1, "api_down": 1,
    "bad_name_server": 1,
    "agent_killed": 1, "agent_restarted": 1, "host_record_deleted": 1, "mark_copied": 1, "all_unhealthy": 1, "user_edits": 2,
}  # fmt: skip


def soaked(stack: InStep, config: Path, dice: random.Random) -> tuple[Soak, Counter[str], dict[str, Prober], str]:
    """Run until DURATION is over or a promise is broken. Return which."""
    soak, done, broken = Soak(stack, config, dice), Counter[str](), ""
    probers = {"visits": Prober(stack.ask_site, 0.1), "calls": Prober(stack.ask_service, 0.1)}
    stop = threading.Event()
    soak.settle()
    witness = threading.Thread(target=soak.watch, args=(stop,), daemon=True)
    end = time.monotonic() + DURATION
    # Each operation once, then at random by its weight.
    names = dice.sample(list(OPERATIONS), len(OPERATIONS))
    with LOG.open("w") as log, probers["visits"].running(), probers["calls"].running():
        witness.start()
        while time.monotonic() < end and not broken:
            began = time.monotonic()
            (name,) = [names.pop()] if names else dice.choices(list(OPERATIONS), list(OPERATIONS.values()))
            line = {"at": time.strftime("%H:%M:%S"), "seed": SEED, "number": done.total() + 1, "operation": name}
            try:
                line["did"] = getattr(soak, name)()
                soak.settle()
                broken = soak.changed or unexpected(soak, probers)
            except (BrokenError, SandboxError, AssertionError) as fault:
                broken = str(fault)
            except (OSError, ValueError, subprocess.SubprocessError, DNSException, ClientError, BotoCoreError) as fault:
                broken = f"the check could not read the state: {type(fault).__name__} {fault}"
            done[name] += 1
            line |= {"seconds": round(time.monotonic() - began, 1), "machines": len(stack.in_state()), "broken": broken}
            print(json.dumps(line), file=log, flush=True)
        stop.set()
        witness.join(30)
    if not broken:
        stack.sandbox.pulumi("destroy", "--yes", "--skip-preview", "--stack", "local", capture=True)
        left = {side: owners for side, owners in stack.owners().items() if owners}
        if left or stack.tagged():
            broken = f"after destroy: DNS records {left}, machines {stack.tagged()}"
    return soak, done, probers, broken


def is_instance(text: str) -> bool:
    return text.startswith("i-") or len(text) == 36


def unexpected(soak: Soak, probers: dict[str, Prober]) -> str:
    """Return failed visits and calls at times when nothing may fail."""
    for kind, prober in probers.items():
        failed = [
            (at, text)
            for at, text in prober.failures(is_instance)
            if not any(began <= at <= end for began, end in soak.rough)
        ]
        if failed:
            when = time.strftime("%H:%M:%S", time.localtime(failed[0][0]))
            return f"{len(failed)} {kind} failed though nothing had crashed, first at {when}: {failed[0][1]}"
    return ""


def main() -> int:
    for each in (signal.SIGTERM, signal.SIGINT):
        # This is also set where a shell started it in the background: whatever ends it, its clouds end too.
        signal.signal(each, signal.default_int_handler)
    LOG.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rollcall-soak-") as scratch:
        config = Path(scratch) / "Pulumi.local.yaml"
        config.write_text(CONFIG.format(aws=2, joyent=2, ttl=60, size="t3.micro"))
        began = time.monotonic()
        with sandboxed("soak", config) as sandbox:
            stack = Frugal(sandbox)
            soak, done, probers, broken = soaked(stack, config, random.Random(SEED))  # noqa: S311
            print(f"most requests to Cloudflare in 300 s: {stack.most_requests()}", file=sys.stderr)
        took = time.monotonic() - began
    request_counts = ", ".join(
        f"{len(each.answers)} {kind}, {len(each.failures(is_instance))} failed" for kind, each in probers.items()
    )
    waited = "; ".join(f"{what}: {max(took):.0f} s at most ({len(took)})" for what, took in sorted(soak.took.items()))
    print(f"waited for {waited}", file=sys.stderr)
    counted = ", ".join(f"{count} {what}" for what, count in done.most_common())
    gone = max(soak.took.get("a crashed machine's DNS records are gone", [0.0]))
    return report(
        "soak",
        [
            Row(
                question=f"broken promises in {took / 60:.0f} minutes, up to {2 * MOST} booted machines, seed {SEED}",
                ours=broken or "none",
                n=f"{done.total()} operations",
                goal="none",
                met=not broken,
                why=f"{counted}. {soak.comparisons} checks that the foreign records did not change by a byte. {request_counts}, all of"
                f" them after a crash, a hang, a partition or a failed workload."
                f" The records of each crashed machine were removed after {gone:.0f} s or less."
                if not broken
                else f"{broken}; after {counted}",
            )
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
