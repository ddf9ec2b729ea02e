"""A deployed stack, seen through its clouds' own clients."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import boto3
import dns.message
import dns.query
import requests

from localcloud.runtime.sandbox import GONE, Sandbox, addresses
from tests.cloud.triton import triton
from tests.integration.conftest import machines

HOST = "www.scalability.expert"


class Deployed:
    """A deployed stack, seen through its clouds' own clients."""

    def __init__(self, sandbox: Sandbox, output: str) -> None:
        self.sandbox = sandbox
        self.output = output
        self.env = sandbox.environment()
        self._clients: dict[tuple[str, ...], Any] = {}
        # Made once, since tests ask again and again until something has come true.
        self.http = requests.Session()
        self.http.trust_env = False
        self.ec2: Any = self.aws("ec2")

    def aws(self, service: str, settings: Mapping[str, str] | None = None) -> Any:
        """Return boto3's client of an AWS service with the operator's credentials, or with other credentials or another region."""
        env = {**self.env, **(settings or {})}
        key = (service, env["AWS_REGION"], env["AWS_ACCESS_KEY_ID"])
        if key not in self._clients:
            self._clients[key] = self._client(service, env)
        return self._clients[key]

    def _client(self, service: str, env: Mapping[str, str]) -> Any:
        return boto3.client(
            service,
            endpoint_url=env["AWS_ENDPOINT_URL"],
            region_name=env["AWS_REGION"],
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=env.get("AWS_SESSION_TOKEN"),
        )

    def parameters(self, region: str = "") -> list[str]:
        """The names of all of the account's SSM parameters in a region, which come ten to a page."""
        ssm = self.aws("ssm", {"AWS_REGION": region} if region else None)
        pages = ssm.get_paginator("describe_parameters").paginate()
        return sorted(each["Name"] for page in pages for each in page["Parameters"])

    def answers(self) -> list[str]:
        return addresses(self.env["ROLLCALL_DNS"], HOST)

    def zone(self) -> str:
        """Cloudflare's id of the site's zone."""
        return str(self._get("/zones", name="scalability.expert")["result"][0]["id"])

    def records(self) -> list[dict[str, Any]]:
        """Every A record of the host, as Cloudflare's API lists them."""
        found = self._get(f"/zones/{self.zone()}/dns_records", per_page="500")["result"]
        return [record for record in found if record["name"] == HOST and record["type"] == "A"]

    def dig(self, name: str, rtype: str) -> list[str]:
        """What `dig +short` at the authoritative server would print, sorted."""
        host, _, port = self.env["ROLLCALL_DNS"].rpartition(":")
        query = dns.message.make_query(name, rtype)
        reply, _ = dns.query.udp_with_fallback(query, host, port=int(port), timeout=5)
        return sorted(item.to_text() for rrset in reply.answer for item in rrset)

    def inside(self, instance: str, *words: str) -> str:
        """What a command prints on a machine."""
        done = self.sandbox.ask("exec", machine=instance, argv=words)
        output = base64.b64decode(done["stderr"]).decode(errors="replace")
        assert done["code"] == 0, f"{instance}: {' '.join(words)[:200]}: exit {done['code']}\n{output}"
        return base64.b64decode(done["stdout"]).decode()

    def _get(self, path: str, **query: str) -> dict[str, Any]:
        token = {"Authorization": f"Bearer {self.env['CLOUDFLARE_API_TOKEN']}"}
        url = self.env["CLOUDFLARE_BASE_URL"] + path
        found: dict[str, Any] = self.http.get(url, params=query, headers=token, timeout=10).json()
        return found

    def machine(self, name: str) -> dict[str, Any]:
        return next(each for each in self.machines(name))

    def machines(self, name: str) -> list[dict[str, Any]]:
        """Those of this name (or fleet) that are not gone for good, nor on the way to it: one that leaves serves on for the TTL."""
        gone = (*GONE, "shutting-down")
        return [each for each in machines(self.sandbox) if each["name"].startswith(name) and each["state"] not in gone]

    def triton(self, *words: str) -> str:
        """The official client of CloudAPI."""
        return triton(self.env, *words)

    def up(self, *words: str) -> str:
        return self.sandbox.pulumi(
            "up", "--yes", "--skip-preview", "--stack", self.sandbox.stack, *words, capture=True
        ).stdout
