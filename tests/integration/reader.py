"""Credentials that only read: what docs/operations.md says that a preview needs, made in the local clouds."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import requests

from localcloud.runtime.prepare import ROOT
from tests.integration.deployed import Deployed

READS = ("Describe", "Get", "List")
ZONE, USER = "com.cloudflare.api.account.zone", "com.cloudflare.api.user"
OF_THE_ZONE = ("Zone Read", "DNS Read", "Zone Settings Read", "SSL and Certificates Read")


def documented_actions() -> set[str]:
    """Every action of AWS in the table of docs/operations.md; a name without a service is of the one before it."""
    found, service = set(), ""
    for line in (ROOT / "docs/operations.md").read_text().splitlines():
        for word in (
            re.findall(r"`([a-z0-9]+:[A-Z]\w+|[A-Z]\w+)`", line.rpartition(" | ")[2]) if line[:2] == "| " else ()
        ):
            before, _, action = word.rpartition(":")
            service = before or service
            found.add(f"{service}:{action}")
    return found


def reading_only(deployed: Deployed) -> dict[str, str]:
    """An environment in which a Cloudflare token and an IAM user's key may read what a preview reads, and no more."""
    iam = deployed.aws("iam")
    iam.create_user(UserName="reviewer")
    reads = sorted(each for each in documented_actions() if each.partition(":")[2].startswith(READS))
    assert {each.partition(":")[0] for each in reads} >= {"ec2", "iam", "route53", "s3", "ssm"}
    statement = {"Effect": "Allow", "Action": reads, "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName="reviewer", PolicyName="reads", PolicyDocument=document)
    key = iam.create_access_key(UserName="reviewer")["AccessKey"]
    return {
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        "CLOUDFLARE_API_TOKEN": _token(deployed),
    }


def _token(deployed: Deployed) -> str:
    url = deployed.env["CLOUDFLARE_BASE_URL"]
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {deployed.env['CLOUDFLARE_API_TOKEN']}"

    def result(path: str) -> Any:
        return session.get(url + path, timeout=10).json()["result"]

    groups = {each["name"]: each["id"] for each in result("/user/tokens/permission_groups")}

    def policy(names: Sequence[str], resource: str) -> dict[str, Any]:
        wanted = [{"id": groups[name]} for name in names]
        return {"effect": "allow", "permission_groups": wanted, "resources": {resource: "*"}}

    of_zone = policy(OF_THE_ZONE, f"{ZONE}.{deployed.zone()}")
    of_user = policy(("API Tokens Read",), f"{USER}.{result('/user')['id']}")
    made = session.post(f"{url}/user/tokens", json={"name": "reviewer", "policies": [of_zone, of_user]}, timeout=10)
    session.close()
    return str(made.json()["result"]["value"])
