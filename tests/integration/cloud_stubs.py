"""Stand-ins, inside a namespace, for what the local clouds serve to machines."""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import unquote
from wsgiref.handlers import SimpleHandler
from wsgiref.simple_server import WSGIRequestHandler

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from localcloud.network.namespace import Namespace

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


class Imds:
    """EC2 metadata for one machine a source address, as much of it as cloud-init and boot.sh ask for; tokens are required. All have
    the role `machines`; a test gives its `credentials`."""

    def __init__(self) -> None:
        self.credentials: dict[str, str] = {}
        self.user_data: dict[str, bytes] = {}
        self.tags: dict[str, dict[str, str]] = {}
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
            "meta-data/public-ipv4": source,
            "meta-data/placement/region": "us-west-2",
            "meta-data/services/domain": "amazonaws.com",
            "meta-data/iam/security-credentials": "machines",
            "meta-data/iam/security-credentials/machines": json.dumps(self.credentials),
        }
        tags = self.tags.get(source, {})
        tree |= {"meta-data/tags/instance": "\n".join(tags)} if tags else {}
        tree |= {f"meta-data/tags/instance/{name}": value for name, value in tags.items()}
        text = tree.get(rest.rstrip("/"))
        return (404, b"") if text is None else (200, text.encode())


class Visits:
    """A WSGI application that remembers the paths it was asked for."""

    def __init__(self, body: bytes = b"") -> None:
        self.paths: list[str] = []
        self._body = body

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        self.paths.append(environ["PATH_INFO"])
        start_response("200 OK", [("Content-Type", "text/xml"), ("Content-Length", str(len(self._body)))])
        return [self._body]


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True

    def __init__(
        self,
        namespace: Namespace,
        address: str,
        port: int,
        handler: Callable[..., Any],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__((address, port), handler, bind_and_activate=False)
        self.socket.close()
        self.socket = namespace.listen(address, port)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Names(socketserver.BaseRequestHandler):
    server: _NameServer

    def handle(self) -> None:
        question, reply_to = self.request
        query = dns.message.from_wire(question)
        name = query.question[0].name.to_text(omit_final_dot=True)
        reply = dns.message.make_response(query)
        if name not in self.server.names:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        elif query.question[0].rdtype == dns.rdatatype.A:
            reply.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", "A", self.server.names[name]))
        reply_to.sendto(reply.to_wire(), self.client_address)


class _NameServer(socketserver.UDPServer):
    def __init__(self, namespace: Namespace, address: str, names: Mapping[str, str]) -> None:
        self.names = names
        super().__init__((address, 53), _Names, bind_and_activate=False)
        self.socket.close()
        self.socket = namespace.listen(address, 53, socket.SOCK_DGRAM)
        threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


def serve_names(namespace: Namespace, address: str, names: Mapping[str, str]) -> _NameServer:
    """A DNS server that knows these names and their addresses, and says at once that there is no other."""
    return _NameServer(namespace, address, names)


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


def serve_wsgi(
    namespace: Namespace, address: str, port: int, application: Any, tls: ssl.SSLContext | None = None
) -> _Server:
    """Serve a WSGI application in the namespace."""

    class Handler(WSGIRequestHandler):
        def handle(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if self.parse_request():
                environ = {
                    "REQUEST_METHOD": self.command, "PATH_INFO": unquote(self.path), "SERVER_NAME": address, "SERVER_PORT": str(port),
                    "SERVER_PROTOCOL": "HTTP/1.0",
                }  # fmt: skip
                SimpleHandler(
                    cast(IO[bytes], self.rfile),
                    cast(IO[bytes], self.wfile),
                    self.get_stderr(),
                    environ,
                    multithread=True,
                ).run(application)

    return _Server(namespace, address, port, Handler, tls)


def self_signed(folder: Path, *names: str) -> tuple[str, ssl.SSLContext]:
    """A certificate that is its own CA, made now: its PEM, and the TLS of a server that has these names."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Local clouds of a test")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    plain = serialization.NoEncryption()
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "server.pem").write_bytes(secret + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return pem.decode(), context
