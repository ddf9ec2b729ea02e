"""Clients that call a service all the time through a caching resolver, from inside the machines' network: ours, HAProxy, a Go program, and
one that tries nothing twice.

A call sends a line to theService and returns the id of the machine that answered, or what went wrong.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.message
import dns.query
import dns.rdatatype

from localcloud.network.namespace import Namespace
from rollcall.errors import RollcallError
from rollcall.resolve import Client
from tests.integration.log_inspection import Prober
from tests.programs import program

ZONE, SERVICE, PORT = "unilans.net", "_theService._tcp", 4218
EVERY_S, CALL_LIMIT_S = 0.2, 2.0
HAPROXY = """global
defaults
  mode tcp
  option redispatch
  timeout connect 1s
  timeout client 5s
  timeout server 5s
resolvers cache
  nameserver one 127.0.0.1:{cache}
  accepted_payload_size 4096
  timeout resolve 1s
  timeout retry 1s
  hold valid 1s
  hold nx 0s
listen service
  bind 127.0.0.1:{port}
  server-template machine 10 {name} resolvers cache resolve-prefer ipv4 init-addr none check inter 1s
"""
GO = """package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

const limit = 2 * time.Second

func call(asked *net.Resolver, name string) string {
	until, cancel := context.WithTimeout(context.Background(), 2*limit)
	defer cancel()
	_, found, err := asked.LookupSRV(until, "", "", name)
	if err != nil || len(found) == 0 {
		return "no SRV value"
	}
	addresses, err := asked.LookupHost(until, found[0].Target)
	if err != nil {
		return "no address"
	}
	connection, err := net.DialTimeout("tcp", net.JoinHostPort(addresses[0], strconv.Itoa(int(found[0].Port))), limit)
	if err != nil {
		return "no connection"
	}
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(limit))
	fmt.Fprintln(connection, "hello")
	line, err := bufio.NewReader(connection).ReadString('\\n')
	if err != nil {
		return "hung up"
	}
	return strings.Fields(line)[0]
}

func main() {
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:"+os.Args[2])
	}
	asked := &net.Resolver{PreferGo: true, Dial: dial}
	for {
		fmt.Println(call(asked, os.Args[1]))
		time.Sleep(200 * time.Millisecond)
	}
}
"""


@dataclass
class Callers:
    """Calls to one incarnation through the caches at `ports` (by their names, on 127.0.0.1 of the namespace)."""

    namespace: Namespace
    home: Path
    ports: dict[str, int]
    _go: Path | None = None
    _numbers: int = 0

    @contextlib.contextmanager
    def calling(self, incarnation: str) -> Iterator[dict[str, Prober]]:
        """Each client with each cache, by `CACHE, CLIENT`."""
        with contextlib.ExitStack() as stack:
            found = {}
            for cache, port in self.ports.items():
                for client in (self.plain, self.rollcall, self.haproxy, self.go):
                    name = f"{cache}, {client.__name__}"
                    found[name] = stack.enter_context(client(incarnation, port))
            yield found

    @contextlib.contextmanager
    def plain(self, incarnation: str, cache: int) -> Iterator[Prober]:
        """One value, each in turn, and one address: what a cache costs is seen whole."""
        turn = 0

        def ask() -> str:
            nonlocal turn
            targets = sorted(_cached(cache, f"{incarnation}.{SERVICE}.{ZONE}", "SRV"))
            turn += 1
            if not targets:
                return "no SRV value"
            addresses = _cached(cache, targets[turn % len(targets)].split()[3], "A")
            return _greet((addresses[0], PORT)) if addresses else "no address"

        with Prober(lambda: self._inside(ask), EVERY_S).running() as prober:
            yield prober

    @contextlib.contextmanager
    def rollcall(self, incarnation: str, cache: int) -> Iterator[Prober]:
        client = Client([f"127.0.0.1:{cache}"])
        with Prober(lambda: self.called_by(client, incarnation), EVERY_S).running() as prober:
            yield prober

    def called_by(self, client: Client, incarnation: str) -> str:
        """One call of our client."""

        def ask() -> str:
            found = client.discover("theService", ZONE, incarnation)
            with contextlib.closing(found.connect(timeout=CALL_LIMIT_S)) as call:
                call.settimeout(CALL_LIMIT_S)
                call.sendall(b"hello\n")
                return call.makefile("rb").readline().split(b" ")[0].decode() or "hung up"

        return self._inside(ask)

    @contextlib.contextmanager
    def haproxy(self, incarnation: str, cache: int) -> Iterator[Prober]:
        self._numbers += 1
        found, port = program("haproxy"), 14000 + self._numbers
        config = self.home / f"haproxy-{port}.cfg"
        config.write_text(HAPROXY.format(cache=cache, port=port, name=f"{SERVICE}.{incarnation}.{ZONE}"))
        prober = Prober(lambda: self._inside(lambda: _greet(("127.0.0.1", port))), EVERY_S)
        words, log = [found.path, "-db", "-f", str(config)], self.home / f"haproxy-{port}.log"
        with self._process(words, found.env, log), prober.running():
            yield prober

    @contextlib.contextmanager
    def go(self, incarnation: str, cache: int) -> Iterator[Prober]:
        words = [str(self._built()), f"{SERVICE}.{incarnation}.{ZONE}", str(cache)]
        with subprocess.Popen(self._words(words), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as made:
            prober = Prober(lambda: "")

            def read() -> None:
                assert made.stdout is not None
                for line in made.stdout:
                    prober.answers.append((time.time(), line.strip()))

            thread = threading.Thread(target=read, daemon=True)
            thread.start()
            try:
                yield prober
            finally:
                made.terminate()
                thread.join(10)

    def _built(self) -> Path:
        if self._go is None:
            (self.home / "call.go").write_text(GO)
            subprocess.run(["go", "build", "-o", "call", "call.go"], cwd=self.home, check=True, timeout=300)
            self._go = self.home / "call"
        return self._go

    def _words(self, words: list[str]) -> list[str]:
        return inside(self.namespace, words)

    @contextlib.contextmanager
    def _process(self, words: list[str], env: dict[str, str], log: Path) -> Iterator[None]:
        with log.open("wb") as out:
            process = subprocess.Popen(self._words(words), env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            yield
        finally:
            process.terminate()
            process.wait(20)

    def _inside(self, ask: Callable[[], str]) -> str:
        try:
            return self.namespace.run(ask)
        except RollcallError as failed:
            return str(failed).partition(" ")[0]
        except OSError as failed:
            return type(failed).__name__


def inside(namespace: Namespace, words: list[str]) -> list[str]:
    """A command line that runs `words` in the namespace; the process is that of `words`."""
    return ["nsenter", f"--net={namespace.path}", *words]


def _cached(cache: int, name: str, rtype: str) -> list[str]:
    query, wanted = dns.message.make_query(name, rtype), dns.rdatatype.from_text(rtype)
    reply = dns.query.udp(query, "127.0.0.1", port=cache, timeout=5)
    return [item.to_text() for rrset in reply.answer if rrset.rdtype == wanted for item in rrset]


def _greet(address: tuple[str, int]) -> str:
    with contextlib.closing(socket.create_connection(address, CALL_LIMIT_S)) as call:
        call.settimeout(CALL_LIMIT_S)
        call.sendall(b"hello\n")
        return call.makefile("rb").readline().split(b" ")[0].decode() or "hung up"
