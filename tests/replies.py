"""A web server of a test: its handlers say what each request is answered with."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler


class Replying(BaseHTTPRequestHandler):
    def reply(self, code: int, body: bytes = b"", length: int | None = None, **headers: str) -> None:
        """Answer with a body. `length` is what the reply says of its length, if it lies."""
        self.send_response(code)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
