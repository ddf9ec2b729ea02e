"""A real ACME server for the local clouds: Pebble, which Let's Encrypt maintains for tests (https://github.com/letsencrypt/pebble).

It is built once from its Go module into the user's cache. It validates challenges by the local name server. Everything that it issues ends
with its process.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localcloud.network.forward import answer, pass_on, request_headers, send

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

VERSION = "2.10.3"
MODULE = f"github.com/letsencrypt/pebble/v2/cmd/pebble@v{VERSION}"
# Under this name machines reach Let's Encrypt, and so here Pebble: https://letsencrypt.org/docs/acme-protocol-updates/
HOST = "acme-v02.api.letsencrypt.org"
DAY_S = 86400
# Let's Encrypt's directory is at another path than Pebble's.
_DIRECTORIES = {"/directory": "/dir"}
_BUILD_S, _START_S = 600.0, 20.0


class PebbleError(Exception):
    """Pebble cannot be built, or does not start. The message says why."""


def program(cache: Path) -> Path:
    """Return Pebble's program. Build it if it is not below `cache`. Raises PebbleError."""
    folder = cache / f"pebble-v{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "pebble").exists():
            if shutil.which("go") is None:
                raise PebbleError("pebble: is built with Go, which is not on the PATH. Install Go (https://go.dev/dl).")
            env = {**os.environ, "GOBIN": str(folder), "CGO_ENABLED": "0", "GOFLAGS": "-trimpath", "GOWORK": "off"}
            words = ["go", "install", MODULE]
            done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=_BUILD_S, check=False)
            if done.returncode:
                raise PebbleError(
                    f"pebble: go install failed ({done.stderr.strip()[-500:]}). Check the Go module proxy."
                )
    return folder / "pebble"


class Pebble:
    """A running Pebble. `app` is a WSGI app in front of it, for any host.

    `dns` is the `HOST:PORT` of the name server by which it validates. Certificates are valid for `validity` seconds. It keeps its files
    below `folder`. `pem` are the private key and the certificate for its own TLS, which only `app` uses.
    """

    def __init__(self, binary: Path, folder: Path, dns: str, pem: tuple[str, str], validity: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._port, self._management = _free_port(), _free_port()
        key, certificate = folder / "key.pem", folder / "certificate.pem"
        key.touch(0o600)
        key.write_text(pem[0])
        certificate.write_text(pem[1])
        config = folder / "pebble.json"
        settings = {
            "listenAddress": f"127.0.0.1:{self._port}",
            "managementListenAddress": f"127.0.0.1:{self._management}",
            "certificate": str(certificate),
            "privateKey": str(key),
            "httpPort": 80,
            "tlsPort": 443,
            "retryAfter": {"authz": 1, "order": 1},
            "keyAlgorithm": "ecdsa",
            "domainBlocklist": ["refused.scalability.expert"],
            "profiles": {"default": {"description": "the only one", "validityPeriod": validity}},
        }
        config.write_text(json.dumps({"pebble": settings}))
        self._tls = ssl.create_default_context(cadata=pem[1])
        self._tls.check_hostname = False
        # The certificate itself is trusted, and not its issuer.
        self._tls.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        # A validation starts within 5 s otherwise, at random.
        env = {"PATH": os.environ.get("PATH", ""), "PEBBLE_VA_NOSLEEP": "1"}
        with (folder / "pebble.log").open("ab") as log:
            words = [str(binary), "-config", str(config), "-dnsserver", dns, "-strict"]
            self._process = subprocess.Popen(words, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self._wait(folder / "pebble.log")
        except BaseException:
            self.stop()
            raise

    def _wait(self, log: Path) -> None:
        end = time.monotonic() + _START_S
        while True:
            try:
                for port in (self._port, self._management):
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError as failed:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise PebbleError(
                        f"pebble: does not start ({log.read_text().strip()[-300:]}). Read {log}."
                    ) from failed
                time.sleep(0.1)
            else:
                return

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self._send(environ, start_response, self._port)

    def management(self, path: str) -> str:
        """Return what the management interface answers: `/roots/0`, `/cert-status-by-serial/HEX`."""
        import urllib.request

        with urllib.request.urlopen(
            f"https://127.0.0.1:{self._management}{path}", context=self._tls, timeout=10
        ) as reply:
            return str(reply.read().decode())

    def _send(self, environ: WSGIEnvironment, start_response: StartResponse, port: int) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        forwarded: dict[str, Any] = (
            {**environ, "REQUEST_URI": _DIRECTORIES[path]} if path in _DIRECTORIES else {**environ}
        )
        headers = {**request_headers(environ), "X-Forwarded-Proto": "https"}

        def connect(address: str, at: int) -> socket.socket:
            return socket.create_connection((address, at), timeout=10)

        reply = send(forwarded, headers, ["127.0.0.1"], connect, port=port, tls=self._tls, server_name="localhost")
        return pass_on(start_response, reply, reply.headers)


def throttled(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer as Let's Encrypt does when a rate limit is reached (RFC 8555 section 6.6, https://letsencrypt.org/docs/rate-limits/)."""
    problem = {
        "type": "urn:ietf:params:acme:error:rateLimited",
        "detail": "too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s, retry after"
        " 2030-01-01 00:00:00 UTC: see https://letsencrypt.org/docs/rate-limits/#new-certificates-per-exact-set-of-identifiers",
        "status": 429,
    }
    headers = [("Content-Type", "application/problem+json"), ("Retry-After", "3600")]
    return answer(start_response, 429, "Too Many Requests", headers, json.dumps(problem).encode())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
