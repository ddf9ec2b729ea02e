"""theService: a TCP service without HTTP. A client sends a line, and the answer names the instance that sent it."""

from __future__ import annotations

import os
import socket
import socketserver

PORT = 4218
LONGEST = 512
INSTANCE = os.environ.get("INSTANCE") or socket.gethostname()


class Handler(socketserver.StreamRequestHandler):
    timeout = 30

    def handle(self) -> None:
        while line := self.rfile.readline(LONGEST):
            text = line.strip().decode(errors="replace")
            self.wfile.write(f"{INSTANCE} theService heard: {text}\n".encode())


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    address_family = socket.AF_INET6


if __name__ == "__main__":
    Server(("::", PORT), Handler).serve_forever()
