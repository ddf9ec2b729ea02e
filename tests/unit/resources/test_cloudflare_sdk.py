"""The program has Cloudflare's SDK in part, and whoever wants all of it still gets all of it, with the same classes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from components.resources import cloudflare_sdk

ROOT = Path(__file__).resolve().parents[3]
# Looking for garbage among its classes takes a third of the time.
LOAD = "import gc; gc.disable()"
ALL = "found = [getattr(cloudflare, each) for each in cloudflare.NAMES]"
SAME = "assert pulumi_cloudflare.DnsRecord is cloudflare.DnsRecord; assert pulumi_cloudflare.LoadBalancer"


@pytest.mark.parametrize(
    "code",
    [
        f"{LOAD}; from components.resources import cloudflare_sdk as cloudflare; {ALL}; import pulumi_cloudflare; {SAME}",
        f"{LOAD}; import pulumi_cloudflare; from components.resources import cloudflare_sdk as cloudflare; {SAME}",
    ],
    ids=["all of it later", "all of it before"],
)
def test_all_of_it_is_there_for_others(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


@pytest.mark.parametrize(
    "uses", ["", f"from components.resources import cloudflare_sdk as cloudflare; {ALL};"], ids=["no site", "a site"]
)
def test_the_program_imports_a_few_of_its_modules_and_none_without_a_site(uses: str) -> None:
    code = f"{LOAD}; import sys; from components.resources import site, dns_credentials; {uses} print(*sys.modules)"
    path = f"{ROOT}:{ROOT / 'userdata'}"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True, check=True, timeout=60
    )
    found = [each for each in done.stdout.split() if each.startswith("pulumi_cloudflare")]
    assert "pulumi_cloudflare" not in found
    assert (7 <= len(found) <= 15) if uses else not found, found


def test_a_missing_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="LoadBalancer"):
        cloudflare_sdk.LoadBalancer  # type: ignore[attr-defined]  # noqa: B018
