"""The program has Cloudflare's SDK in part, and whoever wants all of it still gets all of it, with the same classes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAME = "assert pulumi_cloudflare.DnsRecord is cloudflare.DnsRecord; assert pulumi_cloudflare.LoadBalancer"


@pytest.mark.parametrize(
    "code",
    [
        f"from components import cloudflare; import pulumi_cloudflare; {SAME}",
        f"import pulumi_cloudflare; from components import cloudflare; {SAME}",
    ],
    ids=["all of it later", "all of it before"],
)
def test_all_of_it_is_there_for_others(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_the_program_imports_a_few_of_its_modules() -> None:
    code = "import sys; from components import site, registrar; print(*[m for m in sys.modules if 'cloudflare' in m])"
    path = f"{ROOT}:{ROOT / 'userdata'}"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True, check=True, timeout=60
    )
    found = [each for each in done.stdout.split() if each.startswith("pulumi_cloudflare")]
    assert "pulumi_cloudflare" not in found
    assert 7 <= len(found) <= 15, found
