"""List the shell commands of README and docs: which a test runs as they are written, and which not, with the reason."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Pages of which every block is run: by tests/integration/test_tutorial.py, and by test_own_repository.py.
TUTORIAL, OWN_REPOSITORY = ROOT / "docs/tutorial.md", ROOT / "docs/own-repository.md"
_WHOLE = (TUTORIAL, OWN_REPOSITORY)
DOCUMENTS = [ROOT / "README.md", *(each for each in sorted((ROOT / "docs").rglob("*.md")) if each not in _WHOLE)]
_BLOCK = re.compile(r"^ *```(?:sh|bash)\n(.*?)^ *```", re.M | re.S)


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """The `test` (`file::function`) that runs a command with the machines or the state that it needs. `by` is its text that does so: it
    is in the test, or in what the test calls (`reached`), and has the last word of the command."""

    test: str
    by: str


# A command that begins so is run by another test; the line itself is not typed.
RUN_ELSEWHERE = {
    "make up": Elsewhere(
        test="tests/integration/test_make.py::test_up_is_a_line_for_each_step_with_its_time", by="commands.up("
    ),
    "make preview": Elsewhere(
        test="tests/integration/test_make.py::test_a_preview_shows_what_would_change_and_where_the_rest_is",
        by="commands.preview(",
    ),
    "make status": Elsewhere(
        test="tests/integration/test_prod.py::test_status_says_in_step_with_exit_code_0", by="commands.status("
    ),
    "make down": Elsewhere(test="tests/integration/test_make.py::test_down_leaves_only_the_logs", by="commands.down("),
    "lc crash": Elsewhere(
        test="tests/integration/test_crashes.py::test_what_crashed_and_what_hangs_is_gone_within_a_minute_and_comes_back",
        by='localcloud("crash"',
    ),
    ".venv/bin/python -m localcloud crash": Elsewhere(
        test="tests/integration/test_crashes.py::test_what_crashed_and_what_hangs_is_gone_within_a_minute_and_comes_back",
        by='localcloud("crash"',
    ),
    "lc exec": Elsewhere(
        test="tests/integration/test_crashes.py::test_a_command_runs_on_a_machine_that_is_named", by='localcloud("exec"'
    ),
    "lc partition": Elsewhere(
        test="tests/integration/test_crashes.py::test_clouds_that_are_cut_off_from_each_other_remove_no_machine",
        by='localcloud("partition"',
    ),
    "lc run": Elsewhere(
        test="tests/integration/test_closed_origins.py::test_only_the_edge_reaches_a_machine",
        by='localcloud("run"',
    ),
    "lc freeze": Elsewhere(
        test="tests/integration/test_crashes.py::test_what_crashed_and_what_hangs_is_gone_within_a_minute_and_comes_back",
        by='localcloud("freeze"',
    ),
    ".venv/bin/rollcall status": Elsewhere(
        test="tests/integration/test_credentials_engine.py::test_a_fleet_is_deployed_inspected_and_destroyed_with_the_roles_credentials",
        by='tool("status"',
    ),
    ".venv/bin/rollcall hold": Elsewhere(
        test="tests/integration/test_hands_engine.py::test_a_hold_outlives_an_up_and_a_reboot", by='rollcall("hold"'
    ),
    ".venv/bin/rollcall release-hold": Elsewhere(
        test="tests/integration/test_hands_engine.py::test_a_hold_outlives_an_up_and_a_reboot",
        by='rollcall("release-hold"',
    ),
    ".venv/bin/rollcall logs": Elsewhere(
        test="tests/integration/test_hands_engine.py::test_logs_and_commands_have_the_name_of_each_machine",
        by='rollcall("logs"',
    ),
    ".venv/bin/rollcall exec": Elsewhere(
        test="tests/integration/test_hands_engine.py::test_logs_and_commands_have_the_name_of_each_machine",
        by='rollcall("exec"',
    ),
    ".venv/bin/rollcall patch": Elsewhere(
        test="tests/integration/test_hands_engine.py::test_a_patch_reboots_one_machine_after_the_other_and_no_request_fails",
        by='rollcall("patch"',
    ),
    ".venv/bin/rollcall rollback": Elsewhere(
        test="tests/unit/commands/test_roll_outs.py::test_the_fleet_goes_back_and_up_changes_nothing",
        by='rollback.main(["web"',
    ),
    ".venv/bin/rollcall promote": Elsewhere(
        test="tests/unit/commands/test_roll_outs.py::test_a_canary_goes_on", by='promote.main(["web"'
    ),
    ".venv/bin/rollcall abort": Elsewhere(
        test="tests/unit/commands/test_roll_outs.py::test_a_canary_is_undone_and_not_repeated", by='abort.main(["web"'
    ),
    ".venv/bin/rollcall check": Elsewhere(
        test="tests/unit/commands/test_check.py::test_it_takes_less_than_a_second_and_imports_neither_the_sdk_nor_a_client",
        by='main(["check"',
    ),
    ".venv/bin/rollcall release export": Elsewhere(
        test="tests/unit/commands/test_release.py::test_the_releases_that_machines_may_fetch_are_written_under_their_digests",
        by='main(["export"',
    ),
    "pulumi import": Elsewhere(
        test="tests/integration/test_adopting.py::test_records_made_by_hand_are_imported_by_the_documented_commands",
        by='run("import"',
    ),
    "urn()": Elsewhere(
        test="tests/integration/test_adopting.py::test_records_made_by_hand_are_imported_by_the_documented_commands",
        by='startswith("urn()',
    ),
    "rollcall adopt": Elsewhere(
        test="tests/integration/test_adopting_machines.py::test_machines_made_by_hand_become_the_fleets_and_no_visitor_fails",
        by='"adopt", "--stack"',
    ),
    "pulumi config set": Elsewhere(
        test="tests/integration/test_check_engine.py::test_what_config_set_writes_is_read_as_a_user_expects",
        by='pulumi("config", "set", "--path"',
    ),
    ".venv/bin/rollcall review": Elsewhere(
        test="tests/unit/commands/test_review.py::test_the_exit_code_says_how_it_went",
        by="components.commands.review.__main__ import main",
    ),
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
    "rsync ": "needs a web server of the reader's",
    "skopeo inspect": "asks a registry on the internet",
    "podman save": "saves an image of the reader's",
    ".venv/bin/python -m localcloud image": "serves an image of the reader's; tests/cloud/test_daemon_namespace.py serves another one",
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


def _known(command: str, table: Collection[str]) -> bool:
    return any(command.startswith(each) for each in table)


def to_run(block: list[str]) -> list[str]:
    """Return the commands of a block that `test_documented_commands` runs."""
    return [each for each in block if not _known(each, EXCEPTIONS) and not _known(each, RUN_ELSEWHERE)]


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _modules(path: Path) -> list[Path]:
    """Return a file of the tests, and what it imports of the tests."""
    imported = [node.module for node in ast.walk(_parsed(path)) if isinstance(node, ast.ImportFrom) and node.module]
    files = [ROOT / f"{each.replace('.', '/')}.py" for each in imported if each.startswith("tests.")]
    return [path, *(each for each in files if each.exists())]


@cache
def _definitions(path: Path) -> tuple[tuple[str, str, ast.AST], ...]:
    """Return the name and the text of each function, method, constant and import of a file."""
    lines, found = path.read_text().splitlines(), list[tuple[str, str, ast.AST]]()
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.FunctionDef):
            found.append((node.name, "\n".join(lines[node.lineno - 1 : node.end_lineno]), node))
        elif isinstance(node, ast.ImportFrom):
            found += [(each.asname or each.name, f"from {node.module} import {each.name}", node) for each in node.names]
    for node in _parsed(path).body:
        for target in node.targets if isinstance(node, ast.Assign) else ():
            if isinstance(target, ast.Name):
                found.append((target.id, "\n".join(lines[node.lineno - 1 : node.end_lineno]), node))
    return tuple(found)


def _names(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Name):
            yield each.id
        elif isinstance(each, ast.Attribute):
            yield each.attr
        elif isinstance(each, ast.arg):
            yield each.arg


def reached(test: str) -> str:
    """Return the text of a test (`file::function`) and of what it calls in its own file and in the helpers that this one imports, with its
    fixtures. Raises KeyError where there is no such test."""
    file, _, name = test.partition("::")
    known: dict[str, list[tuple[str, ast.AST]]] = {}
    for path in _modules(ROOT / file):
        for each, text, node in _definitions(path):
            known.setdefault(each, []).append((text, node))
    texts, seen, ahead = [], set[str](), [name]
    known[name]
    while ahead:
        now = ahead.pop()
        if now in seen:
            continue
        seen.add(now)
        for text, node in known.get(now, ()):
            texts.append(text)
            ahead += _names(node)
    return "\n".join(texts)
