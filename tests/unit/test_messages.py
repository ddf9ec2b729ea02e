"""Each message that a user sees has the shape `WHERE: PROBLEM. FIX.`: the source of every error class and of every fault is walked.

What an agent says is an event instead, `reason=… key=value`: its log lines, and the errors of `rollcall` on a machine.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.syntax import nodes_of

ROOT = Path(__file__).parents[2]
FOLDERS = ("components", "localcloud/runtime", "localcloud/engine", "localcloud/machines", "localcloud/network")
# After the fix may follow the lines of a log.
SHAPE = re.compile(r"(?P<where>[^\s\"'][^\n]{0,90}?): (?P<problem>.+?)[.)\n] ?(?P<fix>[A-Z].*?)[.:](\n.*)?", re.S)
# A sentence, and no key, resource or machine.
_SENTENCE = re.compile(r"(?i)(a|an|the|there|this|these|no|not|set|booting|building|it)\b")
# The last part carries a message of another error, which has a problem and a fix itself.
_CARRIED = re.compile(r"[^\n]+: .*\{(failed|fault|unknown)\}", re.S)
# A text that begins with a key of the configuration, or with a placeholder for one.
_FAULT = re.compile(r"((rollcall|aws|cloudflare):|CLOUDFLARE_|TRITON_|AWS_)\S*: |\{(KEY|where|shown|api\.key|key)\}: ")
_BUILT = ("PackingError", "_fault", "refused", "Form", "add")
# Errors that no user sees as they are.
INSIDE = {
    "EngineError": "doctor shows it as the reason inside its own message",
    "FrameError": "the protocol between a machine and its metadata server",
    "RegistryError": "a fault of a container has it as the reason in brackets",
    "ProviderError": "doctor shows it as the reason inside its own message",
    "TooLongError": "the edge answers with the status 413",
    "UnreachableError": "the edge answers with the status 502",
    "_RevokedError": "the edge answers with the status 526",
    "ZoneGoneError": "a roll call and a status say what was deleted in their own words",
}


def sources(*folders: str) -> dict[Path, list[ast.AST]]:
    """Return the nodes of each file, the module first."""
    files = [each for folder in folders for each in sorted((ROOT / folder).rglob("*.py"))]
    return {each.relative_to(ROOT): nodes_of(ast.parse(each.read_text())) for each in files}


def text_of(node: ast.AST, constants: Mapping[str, str] | None = None) -> str:
    """Return a text in the source, with `{name}` or `{}` for each part that is known at run time; empty for anything else. `constants`
    are the texts of the module, by name."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(
            _part(each.value, constants) if isinstance(each, ast.FormattedValue) else text_of(each)
            for each in node.values
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return "".join(text_of(each, constants) or "{}" for each in (node.left, node.right))
    return ""


def _part(node: ast.AST, constants: Mapping[str, str] | None) -> str:
    name = ast.unparse(node)
    return (constants or {}).get(name) or (f"{{{name}}}" if re.fullmatch(r"[\w.]+", name) else "{}")


def constants_of(module: ast.AST) -> dict[str, str]:
    """Return the texts that a module names."""
    assert isinstance(module, ast.Module)
    named = [(node.targets[0], node.value) for node in module.body if isinstance(node, ast.Assign)]
    return {ast.unparse(target): text for target, value in named if (text := text_of(value)) and " " in text}


def fits(text: str) -> bool:
    """Return whether a message has the shape. A part that is known at run time may be anything but empty."""
    shown = re.sub(r"\{[\w.]*\}", "X", text)
    return bool(SHAPE.fullmatch(shown.strip()) or _CARRIED.fullmatch(text)) and not _SENTENCE.match(shown)


def _errors(files: Mapping[Path, list[ast.AST]]) -> set[str]:
    """Return the names of the classes that are raised for users."""
    known = {"Exception", "RuntimeError"}
    classes = [node for nodes in files.values() for node in nodes if isinstance(node, ast.ClassDef)]
    for _ in range(5):
        known |= {
            each.name for each in classes if any(ast.unparse(base).rpartition(".")[2] in known for base in each.bases)
        }
    return known - {"Exception", "RuntimeError"} - INSIDE.keys()


def messages() -> Iterator[tuple[str, str]]:
    """Yield where each text of a raised error and of a fault is, and the text."""
    files = sources(*FOLDERS)
    errors = _errors(files)
    for path, nodes in files.items():
        constants = constants_of(nodes[0])
        imported = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        for node in nodes:
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                name = ast.unparse(node.exc.func).rpartition(".")[2]
                if (
                    name in errors
                    and name not in _BUILT
                    and node.exc.args
                    and (text := text_of(node.exc.args[0], constants))
                ):
                    if text.startswith("reason=") and "rollcall.errors" in imported:
                        continue
                    yield f"{path}:{node.lineno}", text
        if path.parts[0] == "components":
            texts = [node for node in nodes if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp)]
            parts = {each for node in texts if isinstance(node, ast.JoinedStr) for each in node.values}
            for node in texts:
                text = text_of(node, constants) if node not in parts else ""
                if _FAULT.match(text) and re.search(r"[a-z] \S", text):
                    yield f"{path}:{getattr(node, 'lineno', 0)}", text


def built() -> Iterator[tuple[str, str, str]]:
    """Yield where each problem and fix are that are put together elsewhere (`Faults.add`), and the two."""
    for path, nodes in sources(*FOLDERS).items():
        for node in nodes:
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func).rpartition(".")[2] in _BUILT
                and len(node.args) >= 2
            ):
                problem, fix = (text_of(each) for each in node.args[-2:])
                if problem and fix:
                    yield f"{path}:{node.lineno}", problem, fix


def test_each_message_says_where_and_what_and_how_to_fix_it() -> None:
    """One test for all of them: a test for each would have every worker read all sources to name them."""
    found = dict(messages())
    assert len(found) > 190
    assert {where: text for where, text in found.items() if not fits(text)} == {}


def test_the_parts_of_a_message_have_no_final_dot() -> None:
    found = list(built())
    assert len(found) > 40
    assert [each for each in found if each[1].endswith(".") or each[2].endswith(".")] == []


def test_what_an_agent_raises_is_an_event() -> None:
    raised = [
        (f"{path}:{node.lineno}", text)
        for path, nodes in sources("userdata/rollcall").items()
        for node in nodes
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
        if ast.unparse(node.exc.func) in ("TransientError", "FatalError", "RefusedError")
        if (text := text_of(node.exc.args[0]))
    ]
    assert len(raised) > 30
    assert [each for each in raised if "reason=" not in each[1] and not each[1].startswith("{")] == []


def test_another_shape_is_noticed() -> None:
    assert fits("rollcall:fleets.web.count: -1 is out of range (0 to 1000). Set a number in this range.")
    assert fits("{where}: {problem}. {fix}.") and fits("web: 2 of 3 are left over:\n  - a\nNothing was removed. Look.")
    for wrong in (
        "there is no image debian; name another",
        "the ssh-agent: does not answer. Start it.",
        "web: is missing; set it",
        "web: is missing. Set it",
        "is missing. Set it.",
        "{problem}",
    ):
        assert not fits(wrong), wrong
