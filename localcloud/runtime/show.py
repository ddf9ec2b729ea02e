"""Show at the end of `make up` the stack's machines, its records, and which machines answer calls and requests.

Each part prints what it finds, and returns what failed as lines for the user.
"""

from __future__ import annotations

import collections
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rollcall.errors import RollcallError
from rollcall.escaping import escaped
from rollcall.settings import STACK

if TYPE_CHECKING:
    import requests

    from rollcall.resolve import Client

GONE = ("terminated", "deleted")
# The sample client speaks the protocol of userdata/workloads/the-service, which listens here.
SAMPLE_PORT = 4218
REQUESTS, CALLS = 20, 9

Machine = Mapping[str, Any]
# Runs the sample client with these words where the machines can be reached.
Sample = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One request to the site: the machine that served it, or what it was answered with; and what failed, if it did."""

    by: str
    fault: str = ""


def fleet(machines: Iterable[Machine], stack: str) -> None:
    """The machines that have the stack's tag; then, apart, those that do not, by the tag that they have."""
    others: dict[str, list[Machine]] = {}
    print("\nFleet")
    for each in sorted(machines, key=lambda machine: (machine["cloud"], machine["name"])):
        if each["state"] in GONE:
            continue
        tag = str(each["tags"].get(STACK, ""))
        if tag == stack:
            print(_row(each))
        else:
            others.setdefault(tag, []).append(each)
    for tag, listed in sorted(others.items()):
        print(f"\nOther machines, not this stack's: {f'{STACK}={escaped(tag)}' if tag else f'without a tag {STACK}'}")
        print("\n".join(map(_row, listed)))


def _row(machine: Machine) -> str:
    where = f"  {machine['cloud']:<7} {machine['name']:<24} {machine['id']:<37} {machine['state']:<9}"
    return escaped(f"{where} {', '.join(machine['addresses'])}".rstrip())


def services(directory: Mapping[str, Any], server: str, sample: Sample) -> list[str]:
    """Show each service of the stack: its incarnations, their SRV values, and which machines answer the sample client."""
    from rollcall.resolve import Client

    client, faults = Client([server]), []
    for service, name in sorted(directory["services"].items()):
        protocol = name.split(".")[1].removeprefix("_")
        print(f"\nService discovery (dig @{server.replace(':', ' -p ')} {name} PTR)")
        try:
            listed = client.browse(service, directory["zone"], protocol)
            if not listed:
                faults.append(f"{name}: DNS has no incarnation")
            for incarnation in listed:
                where = f"{incarnation}.{name}"
                ports = _targets(client, where)
                if ports and (protocol, ports) == ("tcp", {SAMPLE_PORT}):
                    words = ["--service", service, "--domain", directory["zone"], "--incarnation", incarnation]
                    faults += _calls(where, sample([*words, "--calls", str(CALLS)]))
                elif ports:
                    print(f"  not called: the sample client's protocol is spoken at TCP port {SAMPLE_PORT} only")
        except RollcallError as fault:
            faults.append(escaped(f"{name}: {fault}"))
    return faults


def _targets(client: Client, name: str) -> set[int]:
    """Print the SRV values of an incarnation; the ports that they have."""
    found = sorted(client.ask(name, "SRV"), key=lambda each: (each.priority, each.weight, each.port, each.target))
    for each in found:
        print(escaped(f"  {name} SRV {each}"))
    if not found:
        print(f"  {name} has no machine")
    return {each.port for each in found}


def _calls(name: str, done: subprocess.CompletedProcess[str]) -> list[str]:
    answered = collections.Counter(line.split()[1] for line in done.stdout.splitlines() if line[:9] == "answered:")
    print(escaped(f"  {CALLS} calls of {name.partition('.')[0]} were answered by"))
    for instance, count in sorted(answered.items()):
        print(escaped(f"  {count:>3} × {instance}"))
    if (failed := CALLS - answered.total()) == 0:
        return []
    problem = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    print(escaped(f"  {failed:>3} × {problem}"))
    return [escaped(f"{name}: {failed} of {CALLS} calls failed ({problem})")]


def serves_site(fleets: Mapping[str, Any], name: str) -> bool:
    """Return whether any fleet of the stack's outputs has machines that join the site with this name."""
    return any(f"site/{name}" in each["joins"] and each["addresses"] for each in fleets.values())


def site(host: str, url: str, server: str) -> list[str]:
    """Show a site's records, and which machines serve requests for its host."""
    print(f"\nDNS, as the zone's name servers answer (dig @{server.replace(':', ' -p ')} {host} A)")
    unknown = _records(server, host)
    visits = [_visited(url, host) for _ in range(REQUESTS)]
    print(f"\n{REQUESTS} requests for {host} to {url} were served by")
    for by, count in sorted(collections.Counter(each.by for each in visits).items()):
        print(escaped(f"  {count:>3} × {by}"))
    failed = collections.Counter(each.fault for each in visits if each.fault)
    lines = [
        escaped(f"{host}: {count} of {REQUESTS} requests failed ({fault})") for fault, count in sorted(failed.items())
    ]
    return [*unknown, *lines]


def _records(server: str, host: str) -> list[str]:
    from dns.exception import DNSException

    try:
        for address in addresses(server, host):
            print(f"  {host} A {address}")
    except (OSError, DNSException) as silent:
        return [f"{host} A: the name server {server} does not answer ({type(silent).__name__})"]
    return []


def addresses(server: str, host: str) -> list[str]:
    """The A records of `host` at the name server `HOST:PORT`, sorted."""
    import dns.message
    import dns.query
    import dns.rdatatype

    name, _, port = server.rpartition(":")
    reply, _ = dns.query.udp_with_fallback(dns.message.make_query(host, "A"), name, port=int(port), timeout=5)
    return sorted(item.to_text() for rrset in reply.answer if rrset.rdtype == dns.rdatatype.A for item in rrset)


def visit(url: str, count: int, host: str = "") -> collections.Counter[str]:
    """Send `count` requests to the site. Return how often each machine served one (`X-Served-By`), or each error occurred."""
    return collections.Counter(_visited(url, host).by for _ in range(count))


def _visited(url: str, host: str) -> Visit:
    """Send a request for `host`; by default for the host that the visitor takes for the site's."""
    import requests

    try:
        with requests.Session() as visitor:
            # Use no proxy of the caller's environment: the address is on this machine.
            visitor.trust_env = False
            named = {"X-Rollcall-Host": host} if host else {}
            reply = visitor.get(url, headers=named, timeout=10, allow_redirects=False)
    except requests.RequestException as failed:
        return Visit(by=type(failed).__name__, fault=type(failed).__name__)
    answer = f"HTTP {reply.status_code}"
    by = reply.headers.get("X-Served-By")
    if reply.ok:
        return Visit(by=by or answer)
    problem = (reply.text.strip().splitlines() or [reply.reason])[0][:200] if _is_plain(reply) else reply.reason
    return Visit(
        by=f"{answer} of {by}" if by else answer, fault=f"{answer}: {problem}" + (f", from {by}" if by else "")
    )


def _is_plain(reply: requests.Response) -> bool:
    return reply.headers.get("Content-Type", "").startswith("text/plain")
