"""Other people's clients find a service's machines by the names of RFC 2782, through a join, a leave and a crash."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from localcloud.aws.route53 import UNLIMITED
from localcloud.dns.server import Authority, Listener, bound_pair
from localcloud.network.faults import Faults
from localcloud.runtime.prepare import cache
from rollcall.ownership import Owner
from rollcall.route53 import Route53Registry, Route53Store
from rollcall.settings import Route53Join
from tests.cloud.aws_cloud import running
from tests.programs import crates
from tests.unit.agent.contention import UNKNOWN

pytestmark = pytest.mark.clouds
ZONE = "unilans.net"
SERVERS = {"ns-1.awsdns-01.com": "198.51.100.1"}
# Each prints `TARGET:PORT`, one a line, for a name and the port of a name server on loopback.
DIG = 'dig @127.0.0.1 -p "$2" +short "$1" SRV | awk \'{ sub(/\\.$/, "", $4); print $4 ":" $3 }\''
NODE = """
const { Resolver } = require("dns"), asked = new Resolver();
asked.setServers(["127.0.0.1:" + process.argv[3]]);
asked.resolveSrv(process.argv[2], (_, found) => (found || []).forEach((each) => console.log(each.name + ":" + each.port)));
"""
GO = """package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
)

func main() {
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:"+os.Args[2])
	}
	// As a program names it: LookupSRV("theService", "tcp", "v1.unilans.net").
	parts := strings.SplitN(os.Args[1], ".", 3)
	asked := &net.Resolver{PreferGo: true, Dial: dial}
	_, found, _ := asked.LookupSRV(context.Background(), parts[0][1:], parts[1][1:], parts[2])
	for _, each := range found {
		fmt.Printf("%s:%d\\n", strings.TrimSuffix(each.Target, "."), each.Port)
	}
}
"""
JAVA = """import java.util.*;
import javax.naming.*;
import javax.naming.directory.*;

public class Ask {
    public static void main(String[] words) throws Exception {
        Hashtable<String, String> options = new Hashtable<>();
        options.put(Context.INITIAL_CONTEXT_FACTORY, "com.sun.jndi.dns.DnsContextFactory");
        options.put(Context.PROVIDER_URL, "dns://127.0.0.1:" + words[1]);
        try {
            Attribute found = new InitialDirContext(options).getAttributes(words[0], new String[] {"SRV"}).get("SRV");
            for (int at = 0; found != null && at < found.size(); at++) {
                String[] parts = found.get(at).toString().split(" ");
                System.out.println(parts[3].replaceAll("[.]$", "") + ":" + parts[2]);
            }
        } catch (NameNotFoundException none) {
        }
    }
}
"""


# Hickory, by the name that it had until 2023 and has in Debian 12.
CARGO = """[package]
name = "ask"
version = "0.1.0"
edition = "2021"

[dependencies]
trust-dns-resolver = { version = "0.22", default-features = false, features = ["tokio-runtime"] }
"""
CARGO_CONFIG = """[source.crates-io]
replace-with = "debian"
[source.debian]
directory = "{crates}"
[net]
offline = true
"""
RUST = """use std::net::SocketAddr;
use trust_dns_resolver::config::{NameServerConfig, Protocol, ResolverConfig, ResolverOpts};
use trust_dns_resolver::Resolver;

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let server: SocketAddr = format!("127.0.0.1:{}", words[2]).parse().unwrap();
    let mut config = ResolverConfig::new();
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        config.add_name_server(NameServerConfig::new(server, protocol));
    }
    let asked = Resolver::new(config, ResolverOpts::default()).unwrap();
    if let Ok(found) = asked.srv_lookup(format!("{}.", words[1])) {
        for each in found.iter() {
            println!("{}:{}", each.target().to_utf8().trim_end_matches('.'), each.port());
        }
    }
}
"""


def node(home: Path) -> list[str]:
    (home / "ask.js").write_text(NODE)
    return ["node", str(home / "ask.js")]


def go(home: Path) -> list[str]:
    (home / "ask.go").write_text(GO)
    subprocess.run(["go", "build", "-o", "ask", "ask.go"], cwd=home, check=True, timeout=120)
    return [str(home / "ask")]


def java(home: Path) -> list[str]:
    (home / "Ask.java").write_text(JAVA)
    subprocess.run(["javac", "Ask.java"], cwd=home, check=True, timeout=120)
    # A program of a moment: the first compiler and the simplest collector of garbage are enough.
    return ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", str(home), "Ask"]


def hickory(home: Path) -> list[str]:
    """Its build takes minutes, so it is kept in the cache of this computer."""
    for name, text in {
        "Cargo.toml": CARGO,
        ".cargo/config.toml": CARGO_CONFIG.format(crates=crates("librust-trust-dns-resolver-dev")),
        "src/main.rs": RUST,
    }.items():
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(text)
    target = cache() / "programs" / "hickory-target"
    words = ["cargo", "build", "--quiet", "--release", "--target-dir", str(target)]
    subprocess.run(words, cwd=home, check=True, timeout=1200)
    return [str(shutil.copy(target / "release/ask", home / "ask"))]


CLIENTS: dict[str, Callable[[Path], list[str]]] = {
    "dig": lambda _: ["sh", "-c", DIG, "sh"],
    "node": node,
    "go": go,
    "java": java,
    "hickory": hickory,
}
# By the client: the program of this machine that runs or builds it, if that has another name.
NEEDS = {"hickory": "cargo", "java": "javac"}


@dataclass
class Service:
    """A service in a zone that a name server on loopback answers for."""

    membership: Route53Join
    store: Route53Store
    port: int

    def registry(self) -> Route53Registry:
        return Route53Registry(self.membership, self.store, UNKNOWN, pause=lambda _: None)

    def join(self, number: int) -> None:
        self.registry().join(owner(number), f"198.51.100.{number}")

    def seen(self, command: list[str], name: str) -> list[str]:
        words = [*command, name, str(self.port)]
        return sorted(subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout.split())


def owner(number: int) -> Owner:
    return Owner("local", "api", str(number), f"{number:06x}", f"i-{number:017x}")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running(route53_limits=UNLIMITED) as cloud:
        zone = cloud.aws.add_zone(ZONE)
        membership = Route53Join(
            zone=zone, domain=ZONE, service="_theService._tcp", incarnation="v1", port=4218, srv="service"
        )
        udp, tcp = bound_pair("127.0.0.1")
        listener = Listener(Authority([cloud.aws], SERVERS, Faults()), [udp], [tcp])
        listener.start()
        try:
            yield Service(membership, Route53Store(zone, cloud.route53()), udp.getsockname()[1])
        finally:
            listener.stop()


@pytest.fixture(scope="module")
def command_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """The command of a client, which is built once for all names."""
    return functools.cache(lambda client: CLIENTS[client](tmp_path_factory.mktemp(client)))


@pytest.mark.parametrize("name", [f"_theService._tcp.v1.{ZONE}", f"_theService._tcp.{ZONE}"])
@pytest.mark.parametrize(
    "client", [*(each for each in CLIENTS if each != "hickory"), pytest.param("hickory", marks=pytest.mark.prove)]
)
def test_a_client_sees_the_members_as_they_come_and_go(
    service: Service, command_of: Callable[[str], list[str]], client: str, name: str
) -> None:
    if shutil.which(NEEDS.get(client, client)) is None:
        pytest.skip(f"no {NEEDS.get(client, client)} on this machine")
    command = command_of(client)

    def members(*numbers: int) -> list[str]:
        return sorted(f"{each:06x}.rc.{ZONE}:4218" for each in numbers)

    assert service.seen(command, name) == []
    for number in (1, 2, 3):
        service.join(number)
    assert service.seen(command, name) == members(1, 2, 3)
    service.registry().leave(owner(2))
    assert service.seen(command, name) == members(1, 3)
    # What a watcher does for a machine that crashed.
    service.registry().leave(owner(3))
    assert service.seen(command, name) == members(1)
    service.registry().leave(owner(1))
    assert service.seen(command, name) == []
