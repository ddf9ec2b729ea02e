"""Serve a WSGI app on sockets that exist already, possibly in several network namespaces.

A socket stays in the namespace where it was made, so the daemon binds in each and hands the sockets here.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from localcloud.network.keepalive import Exchange

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    WSGIApp = Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]

_IDLE_SECONDS = 75.0


class Handler(WSGIRequestHandler):
    """HTTP/1.1 with keep-alive. Says nothing on stderr: a request's query and headers may hold secrets."""

    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    # A reply's head and body leave in one packet, and no part waits for the client's delayed acknowledgement of another.
    wbufsize = -1
    disable_nagle_algorithm = True

    def log(self, type: str, message: str, *args: Any) -> None:
        return

    def send_response(self, code: int, message: str | None = None) -> None:
        """Send the status without a `Server` header. Only the app's own header is sent."""
        self.send_response_only(code, message)
        self.send_header("Date", self.date_time_string())

    def make_environ(self) -> WSGIEnvironment:
        environ = super().make_environ()
        environ["rollcall.socket"] = self.connection
        return environ

    def handle_expect_100(self) -> bool:
        go_on = super().handle_expect_100()
        self.wfile.flush()
        return go_on

    def run_wsgi(self) -> None:
        self.environ = self.make_environ()
        Exchange(self, self.environ).serve(self.server.app)


class _WSGIServer(ThreadedWSGIServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*arguments, **named)

    def get_request(self) -> Any:
        accepted, client = super().get_request()
        self._open.add(accepted)
        return accepted, client

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def shutdown(self) -> None:
        """Stop serving. The thread that waits for a connection wakes up immediately, without waiting for its next check."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)
        super().shutdown()

    def cut_off(self) -> None:
        """Close all open connections, also idle ones. Their threads then end."""
        for each in list(self._open):
            with contextlib.suppress(OSError):
                # Do not use TLS's own shutdown: the thread that reads from the connection would continue without encryption.
                socket.socket.shutdown(each, socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore the error: a client has closed its connection, or a fault has cut it."""


class Server:
    """A threaded server of `app` on every one of `sockets` (bound, listening). With `ssl_context` it speaks TLS."""

    def __init__(
        self, app: WSGIApp, sockets: Sequence[socket.socket], ssl_context: ssl.SSLContext | None = None
    ) -> None:
        self._sockets = tuple(sockets)
        self._ports = tuple(int(each.getsockname()[1]) for each in sockets)
        self._servers = [_serve_on(app, each, ssl_context) for each in sockets]
        self._threads: list[threading.Thread] = []

    @property
    def ports(self) -> tuple[int, ...]:
        return self._ports

    def start(self) -> None:
        for server in self._servers:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Stop listening and close the sockets; requests under way are cut off with their threads."""
        for server in self._servers:
            # shutdown() of a server that never served waits for ever.
            if self._threads:
                server.shutdown()
            server.server_close()
            server.cut_off()
        for thread in self._threads:
            thread.join(timeout=5)
        # The servers had duplicates: the port takes connections until the last descriptor is closed.
        for each in self._sockets:
            each.close()


def listen(host: str, port: int = 0) -> socket.socket:
    """A listening TCP socket in the calling thread's network namespace; port 0 takes a free one."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((host, port))
    made.listen(256)
    return made


def _serve_on(app: WSGIApp, made: socket.socket, context: ssl.SSLContext | None) -> _WSGIServer:
    host, port = made.getsockname()[:2]
    # werkzeug takes over a duplicate of the descriptor and sees that it listens already.
    server = _WSGIServer(host, port, app, Handler, fd=made.fileno())
    if context is not None:
        server.ssl_context = context
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return server
