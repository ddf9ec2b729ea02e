"""What the tests of booting machines share: a namespace, a hypervisor, and stand-ins for what the clouds serve them."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler

from localcloud.namespace import Namespace

Answer = tuple[int, bytes]


class Metadata:
    """One Joyent machine's metadata, in memory."""

    def __init__(self, **values: str) -> None:
        self.values = {name.replace("_", "-"): value for name, value in values.items()}

    def get(self, key: str) -> str | None:
        return self.values.get(key)

    def put(self, key: str, value: str) -> None:
        if key.startswith("sdc:"):
            raise ValueError(f"{key} is read-only")
        self.values[key] = value

    def delete(self, key: str) -> None:
        self.values.pop(key, None)

    def keys(self) -> list[str]:
        return [key for key in self.values if not key.startswith("sdc:")]


@dataclass
class Heard:
    """An observer that remembers, and that a test can wait on."""

    events: list[tuple[str, str]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def running(self, machine_id: str) -> None:
        self._add("running", machine_id)

    def stopped(self, machine_id: str) -> None:
        self._add("stopped", machine_id)

    def failed(self, machine_id: str, reason: str) -> None:
        self.reasons.append(reason)
        self._add("failed", machine_id)

    def wait(self, *events: str, timeout: float = 30.0) -> None:
        """Until exactly these have been heard, in this order; AssertionError with what was heard instead."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.events) >= len(events), timeout)
            assert [what for what, _ in self.events] == list(events), (self.events, self.reasons)

    def _add(self, what: str, machine_id: str) -> None:
        with self._changed:
            self.events.append((what, machine_id))
            self._changed.notify_all()


class Imds:
    """EC2 metadata for one machine a source address, as much of it as cloud-init asks for; tokens are required."""

    def __init__(self) -> None:
        self.user_data: dict[str, bytes] = {}
        self.seen_from: list[str] = []

    def answer(self, source: str, method: str, path: str, headers: Any) -> Answer:
        self.seen_from.append(source)
        _, _, rest = path.strip("/").partition("/")
        if method == "PUT" and rest == "api/token":
            return 200, b"a-token"
        if headers.get("X-aws-ec2-metadata-token") != "a-token":
            return 401, b""
        if rest == "user-data":
            data = self.user_data.get(source)
            return (404, b"") if data is None else (200, data)
        tree = {
            "dynamic/instance-identity": "document\n",
            "dynamic/instance-identity/document": "{}",
            "meta-data": "ami-id\nhostname\ninstance-id\nlocal-hostname\nlocal-ipv4\n",
            "meta-data/ami-id": "ami-0",
            "meta-data/hostname": "web-0.ec2.internal",
            "meta-data/local-hostname": "web-0.ec2.internal",
            "meta-data/local-ipv4": source,
            "meta-data/instance-id": "i-" + source.replace(".", "").rjust(17, "0"),
        }
        text = tree.get(rest.rstrip("/"))
        return (404, b"") if text is None else (200, text.encode())


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True

    def __init__(self, namespace: Namespace, address: str, port: int, handler: Callable[..., Any]) -> None:
        super().__init__((address, port), handler, bind_and_activate=False)
        self.socket.close()
        self.socket = namespace.listen(address, port)
        threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _NoNames(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        question, reply_to = self.request
        # The same message as an answer (QR) that says NXDOMAIN (RFC 1035, section 4.1.1).
        reply_to.sendto(question[:2] + b"\x81\x83" + question[4:], self.client_address)


class _NameServer(socketserver.UDPServer):
    def __init__(self, namespace: Namespace, address: str) -> None:
        super().__init__((address, 53), _NoNames, bind_and_activate=False)
        self.socket.close()
        self.socket = namespace.listen(address, 53, socket.SOCK_DGRAM)
        threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


def serve_no_names(namespace: Namespace, address: str) -> _NameServer:
    """A DNS server that knows no name, so that nothing waits for an answer."""
    return _NameServer(namespace, address)


def serve_imds(namespace: Namespace, imds: Imds) -> _Server:
    """Answer at 169.254.169.254, in the namespace only."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = imds.answer(self.client_address[0], self.command, self.path, self.headers)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_GET

        def log_message(self, *_: object) -> None:
            pass

    return _Server(namespace, "169.254.169.254", 80, Handler)


def serve_wsgi(namespace: Namespace, address: str, port: int, application: Any) -> _Server:
    """Serve a WSGI application in the namespace."""

    class Handler(WSGIRequestHandler):
        def handle(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if self.parse_request():
                environ = {
                    "REQUEST_METHOD": self.command, "PATH_INFO": self.path, "SERVER_NAME": address, "SERVER_PORT": str(port),
                    "SERVER_PROTOCOL": "HTTP/1.0",
                }  # fmt: skip
                ServerHandler(self.rfile, self.wfile, self.get_stderr(), environ, multithread=True).run(application)

    return _Server(namespace, address, port, Handler)


def until(condition: Callable[[], bool], timeout: float = 20.0) -> bool:
    """Whether the condition came true within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
