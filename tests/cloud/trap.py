"""A listener at the addresses that a stack's configuration and the caller's environment give for everything but the local clouds."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Trap:
    """Listens at the addresses given for everything but the local clouds, and keeps what arrives."""

    caught: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            with caller:
                caller.settimeout(2)
                try:
                    self.caught.append(caller.recv(200))
                except OSError:
                    self.caught.append(b"")

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def config(self) -> dict[str, Any]:
        """What a real stack's configuration may say of where its clouds are."""
        return {
            "cloudflare:baseUrl": f"{self.url}/client/v4",
            "cloudflare:apiToken": {"secure": "v1:abc:def"},
            "aws:endpoints": [
                {"ec2": self.url, "route53": self.url, "iam": self.url, "ssm": self.url, "sts": self.url}
            ],
            "aws:profile": "production",
            "aws:assumeRoles": [{"roleArn": "arn:aws:iam::123456789012:role/deploy"}],
            "aws:httpProxy": self.url,
            "rollcall:joyent": {"url": self.url, "account": "production", "keyId": "SHA256:abc"},
        }

    def environment(self) -> dict[str, str]:
        proxies = {name: self.url for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy")}
        clouds = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_EC2", "CLOUDFLARE_BASE_URL", "TRITON_URL", "SDC_URL")
        return {
            **proxies,
            **{name: self.url for name in clouds},
            "AWS_PROFILE": "production",
            "AWS_REGION": "eu-west-1",
        }
