"""List the shell commands of README and docs: which a test runs as they are written, and which not, with the reason."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^ *```(?:sh|bash)\n(.*?)^ *```", re.M | re.S)

# What a command that begins so does is tested there, with the machines or the state that it needs; the line itself is not typed.
RUN_ELSEWHERE = {
    "make up": "tests/integration/test_make.py::made",
    "make preview": "tests/integration/test_make.py::test_a_preview_shows_what_would_change_and_where_the_rest_is",
    "make status": "tests/integration/test_prod.py",
    "make down": "tests/integration/conftest.py::rehearsed",
    "lc crash": "tests/integration/test_crashes.py",
    ".venv/bin/python -m localcloud crash": "tests/integration/test_crashes.py",
    "lc exec": "tests/integration/test_hypervisor.py",
    "lc partition": "tests/integration/test_crashes.py",
    "lc run": "tests/integration/test_closed_origins.py",
    "lc freeze": "tests/integration/test_crashes.py",
    ".venv/bin/rollcall status": "tests/integration/test_credentials_engine.py",
    ".venv/bin/rollcall check": "tests/unit/commands/test_check.py",
    "pulumi import": "tests/integration/test_adopting.py",
    "urn()": "tests/integration/test_adopting.py",
    "rollcall adopt": "tests/integration/test_adopting.py",
    "pulumi config set": "tests/integration/test_adopting_machines.py",
    ".venv/bin/python -m components.commands.review": "tests/integration/test_review_engine.py",
}
# A command that begins so is run by no test.
EXCEPTIONS = {
    "make up PLUGINS=": "downloads the vendors' plugins, which needs the internet",
    "make test": "runs the test that would run it",
    "aws ec2 stop-instances": "has an instance id that the reader fills in, and needs the AWS CLI",
    "python3 -m venv": "downloads packages; `make prepare` does the same with other requirements",
    "export CLOUDFLARE_API_TOKEN": "has the reader's own credentials",
    "cp Pulumi.prod.yaml": "writes a stack file into the checkout",
    "mkdir -p workloads/www/public": "writes a workload into the checkout",
    "echo '<h1>Hello</h1>' >workloads/www": "writes a workload into the checkout",
    "pulumi stack init": "deploys to real clouds",
    "pulumi up --yes --stack prod": "deploys to real clouds",
    "external-dns": "needs a program that is built from its own source",
    'eval "$(make -s env STACK=prod)"': "needs the stack prod beside the stack of the test",
}


def commands(block: str) -> list[str]:
    """Return the commands of a block, without comments and with continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", block)
    lines = (re.sub(r"(^|\s+)#(?=\s).*", "", each).strip() for each in joined.splitlines())
    return [each for each in lines if each]


def blocks(document: Path) -> list[list[str]]:
    """Return the commands of each shell block of a document."""
    return [commands(each) for each in _BLOCK.findall(document.read_text())]


def _known(command: str, table: dict[str, str]) -> bool:
    return any(command.startswith(each) for each in table)


def to_run(block: list[str]) -> list[str]:
    """Return the commands of a block that `test_documented_commands` runs."""
    return [each for each in block if not _known(each, EXCEPTIONS) and not _known(each, RUN_ELSEWHERE)]
