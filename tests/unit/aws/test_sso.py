"""A profile that signs in by IAM Identity Center (SSO), with the token that `aws sso login` leaves in the home folder."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from localcloud.runtime.prepare import ROOT

START = "https://company.awsapps.com/start"
PROFILE = f"""[profile company]
sso_start_url = {START}
sso_region = us-west-2
sso_account_id = 123456789012
sso_role_name = deploy
region = us-west-2
"""
# In a process of its own, because botocore looks for the home folder when it is imported.
PROGRAM = """
import os
from components.aws.account_settings import named
from components.aws.api_errors import failures, message_of
from components.aws.session import session_of

config = {"aws:profile": "company", "aws:region": "us-west-2"}.get
try:
    print(session_of(config).client("sts")._request_signer._credentials.get_frozen_credentials().access_key)
except failures() as failed:
    print(message_of(failed, key_source=named(config), profile=config("aws:profile") or ""))
"""


@pytest.fixture
def portal() -> Iterator[tuple[str, list[str]]]:
    """The portal that gives credentials of a role for a token (https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference), and
    what it was asked."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(f"{self.path} {self.headers['x-amz-sso_bearer_token']}")
            expires = int((datetime.now(UTC) + timedelta(hours=1)).timestamp() * 1000)
            keys = {
                "accessKeyId": "ASIACOMPANY000000001",
                "secretAccessKey": "s",
                "sessionToken": "t",
                "expiration": expires,
            }
            body = json.dumps({"roleCredentials": keys}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def credentials(home: Path, portal: str, token_for: timedelta | None) -> str:
    """Return the access key that the program uses, or its message. The token is valid for this time; None: nobody has signed in."""
    cache = home / ".aws/sso/cache"
    cache.mkdir(parents=True)
    (home / ".aws/config").write_text(PROFILE)
    if token_for is not None:
        expires = (datetime.now(UTC) + token_for).strftime("%Y-%m-%dT%H:%M:%SZ")
        token = {"startUrl": START, "region": "us-west-2", "accessToken": "signed-in", "expiresAt": expires}
        (cache / f"{hashlib.sha1(START.encode()).hexdigest()}.json").write_text(json.dumps(token))  # noqa: S324
    env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    env |= {"HOME": str(home), "AWS_ENDPOINT_URL": portal, "PYTHONPATH": f"{ROOT}:{ROOT / 'userdata'}"}
    # A key in the environment does not come before the profile.
    env |= {"AWS_ACCESS_KEY_ID": "AKIAOTHER", "AWS_SECRET_ACCESS_KEY": "other"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_program_uses_the_role_of_the_profile(tmp_path: Path, portal: tuple[str, list[str]]) -> None:
    url, requests = portal
    assert credentials(tmp_path, url, timedelta(hours=1)) == "ASIACOMPANY000000001"
    assert requests == ["/federation/credentials?role_name=deploy&account_id=123456789012 signed-in"]


@pytest.mark.parametrize(
    "token_for", [None, timedelta(hours=-1)], ids=["nobody has signed in", "the token has expired"]
)
def test_a_missing_sign_in_says_which_command_to_run(
    tmp_path: Path, portal: tuple[str, list[str]], token_for: timedelta | None
) -> None:
    url, requests = portal
    found = credentials(tmp_path, url, token_for)
    assert found.startswith("aws:profile: the sign-in of the profile is over (") and requests == [], found
    assert found.endswith("Run `aws sso login --profile company`.")
