"""components.userdata: one text for all machines, small enough for EC2, holding programs that do the same as ours."""

from __future__ import annotations

import ast
import base64
import functools
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from components import userdata
from rollcall.ownership import Owner
from tests.unit import builders
from tests.unit.builders import VERSIONS, oldest

ROOT = Path(__file__).resolve().parents[2]
# docs/decisions/0004: the client and the status of a stack are of the package, but no machine needs them.
ELSEWHERE = {"boot.sh", "rollcall/resolve.py", "rollcall/console.py", "rollcall/__init__.py"}
SOURCES = sorted(
    str(path.relative_to(userdata.HOME))
    for path in userdata.HOME.rglob("*")
    if path.is_file() and "__pycache__" not in path.parts and "egg-info" not in str(path)
)
SHIPPED = [each for each in SOURCES if each not in ELSEWHERE]
PYTHON = [each for each in SHIPPED if each.endswith(".py")]
MARK = "#FILES\n"
HASH = "from components import userdata as u; import hashlib; print(hashlib.sha256(u.gzipped()).hexdigest(), u.sources_hash())"


def place_of(source: str) -> str:
    """Where a file below userdata/ lands."""
    folder, _, rest = source.partition("/")
    if folder == "units":
        return f"/etc/systemd/system/{rest}"
    return f"/usr/local/lib/rollcall/{rest if folder == 'workloads' else 'rollcall.py'}"


@pytest.fixture(scope="module", autouse=True)
def remembered() -> Iterator[None]:
    """The same text is minified once, however often it is packed here: that takes longer than all the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(userdata, "minified", functools.cache(userdata.minified))
        yield


@functools.cache
def landing() -> dict[str, str]:
    return userdata.files()


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of userdata/ that the builder reads instead."""
    home = tmp_path / "userdata"
    shutil.copytree(userdata.HOME, home, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    monkeypatch.setattr(userdata, "HOME", home)
    userdata.build.cache_clear()
    yield home
    userdata.build.cache_clear()


class TestText:
    def test_it_is_the_same_text_whoever_builds_it(self, copied: Path, tmp_path: Path) -> None:
        built = userdata.build()
        said = set()
        for seed, cloud in (("1", "aws"), ("2", "joyent")):
            other = {"PYTHONHASHSEED": seed, "ROLLCALL_CLOUD": cloud, "XDG_CACHE_HOME": str(tmp_path / seed)}
            environment = {**os.environ, **other, "PYTHONPATH": str(ROOT)}
            words = [sys.executable, "-c", HASH]
            done = subprocess.run(
                words, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
            )
            said.add(done.stdout)
        userdata.build.cache_clear()
        assert len(said) == 1 and userdata.build() == built
        assert next(iter(said)).split()[1] == userdata.sources_hash()

    def test_it_holds_every_file_and_no_other(self) -> None:
        assert sorted(landing()) == sorted(set(map(place_of, SHIPPED)))

    def test_ec2_takes_it(
        self, record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        packed = userdata.gzipped()
        left = userdata.LIMIT - len(packed)
        record_property("left", left)
        with capsys.disabled():
            print(f"\nuserdata: {len(packed)} bytes compressed, {left} left of {userdata.LIMIT}")
        assert userdata.LIMIT == 16_384 and left >= 0
        assert gzip.decompress(packed).decode() == userdata.build()
        assert base64.b64decode(userdata.gzipped_base64()) == packed

    def test_one_that_is_too_long_is_refused_with_both_numbers(self, copied: Path) -> None:
        (copied / "workloads" / "noise.bin").write_text(base64.b64encode(os.urandom(12_000)).decode())
        with pytest.raises(ValueError, match=r"\d{5} bytes compressed, EC2 takes 16384"):
            userdata.gzipped()

    @pytest.mark.parametrize("text", ["#!/bin/sh\n", "#!/bin/sh\n#FILES\n:\n#FILES\n", "#!/bin/sh\n#FILES\n:\n"])
    def test_a_script_without_one_place_for_its_files_is_refused(self, copied: Path, text: str) -> None:
        (copied / "boot.sh").write_text(text)
        with pytest.raises(ValueError, match="no place for its files"):
            userdata.build()

    def test_no_comment_leaves_the_repository(self) -> None:
        script = userdata.build()
        assert [each for each in script.splitlines() if each.lstrip().startswith("#")] == ["#!/bin/sh"]
        for place, text in landing().items():
            if place.endswith((".service", ".timer")):
                assert "#" not in text and "\n\n" not in text, place


class TestHash:
    @pytest.mark.parametrize("source", ["boot.sh", *SHIPPED])
    def test_it_changes_with_any_source(self, copied: Path, source: str) -> None:
        before = userdata.sources_hash()
        path = copied / source
        text = path.read_bytes()
        path.write_bytes(text + b"\n")
        assert userdata.sources_hash() != before
        path.write_bytes(text)
        assert userdata.sources_hash() == before

    def test_it_changes_with_a_name_and_with_a_file_that_comes_or_goes(self, copied: Path) -> None:
        seen = [userdata.sources_hash()]
        (copied / "workloads" / "new").write_text("")
        seen.append(userdata.sources_hash())
        (copied / "workloads" / "new").rename(copied / "workloads" / "other")
        seen.append(userdata.sources_hash())
        assert len(set(seen)) == 3
        (copied / "workloads" / "other").unlink()
        assert userdata.sources_hash() == seen[0]

    def test_it_changes_with_nothing_else(self, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = userdata.sources_hash()
        for each in ("rollcall/__pycache__/agent.cpython-311.pyc", "rollcall.egg-info/PKG-INFO"):
            (copied / each).parent.mkdir()
            (copied / each).write_text("made by a machine")
        with (copied / "rollcall/resolve.py").open("a") as client:
            client.write("\n")
        (copied.parent / "README.md").write_text("beside it")
        os.utime(copied / "boot.sh", (0, 0))
        (copied / "boot.sh").chmod(0o700)
        # Another zlib packs to other bytes.
        monkeypatch.setattr(userdata, "_member", lambda *_: b"other bytes ")
        assert userdata.sources_hash() == before and userdata.gzipped() == b"other bytes " * 2


@functools.cache
def signatures(source: str) -> dict[str, object]:
    """What other modules see of one: its public names, and the arguments of its functions by name, kind and count."""
    found: dict[str, object] = {}

    def visit(body: list[ast.stmt], inside: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef) and any(getattr(base, "id", "") == "Protocol" for base in node.bases):
                continue
            if isinstance(node, ast.ClassDef):
                found[inside + node.name] = len(node.bases)
                visit(node.body, f"{inside}{node.name}.")
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
                given = node.args
                # Nobody gives `self` or `cls` by name.
                named = [each.arg for each in (*given.args[bool(inside) :], *given.kwonlyargs)]
                kinds = (len(given.posonlyargs), len(given.args), len(given.kwonlyargs), bool(given.vararg))
                found[inside + node.name] = (named, *kinds, len(given.defaults))
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found.update({inside + each.id: "" for each in targets if isinstance(each, ast.Name)})

    visit(ast.parse(source).body, "")
    return {name: shape for name, shape in found.items() if not any(part[0] == "_" for part in name.split("."))}


def texts(source: str) -> list[str]:
    """All strings of a program that it can see: no docstring, no annotation."""
    tree = ast.parse(source)
    unseen: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            unseen.add(id(node.value))
        for part in ("annotation", "returns"):
            unseen |= {id(each) for each in ast.walk(getattr(node, part, None) or ast.Pass())}
    return sorted(
        each.value
        for each in ast.walk(tree)
        if isinstance(each, ast.Constant) and isinstance(each.value, str) and id(each) not in unseen
    )


def modules() -> dict[str, str]:
    return {each: (userdata.HOME / each).read_text() for each in PYTHON if each.startswith("rollcall/")}


@functools.cache
def words() -> frozenset[str]:
    """For tests that know more names than a machine does: every global name stays."""
    return frozenset(re.findall(r"\w+", "".join((userdata.HOME / each).read_text() for each in PYTHON)))


@functools.cache
def bundle() -> str:
    return userdata.minified(userdata.bundled(), words())


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a machine has below /, with the names that it has there."""
    root = tmp_path_factory.mktemp("landed")
    for place, text in landing().items():
        path = root / place.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def rollcall(
    landed: Path, *said: str, given: str = "", by: str = sys.executable, **told: str
) -> subprocess.CompletedProcess[str]:
    """`python3 -m rollcall …` as the units call it, without what is of this checkout."""
    libraries = Path(requests.__file__).parent.parent
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{landed}/usr/local/lib/rollcall:{libraries}", **told}
    program = [by, "-S", "-m", "rollcall", *said]
    return subprocess.run(program, env=env, input=given, capture_output=True, text=True, timeout=60, check=False)


# What the stack's own program calls, and no machine.
PROGRAMS_ONLY = {"Route53Registry.drop"}


class TestPrograms:
    @pytest.mark.parametrize("source", [each for each in PYTHON if not each.endswith("__main__.py")])
    def test_each_compiles_and_shows_and_says_the_same(self, source: str) -> None:
        ours = (userdata.HOME / source).read_text()
        theirs = bundle() if source in modules() else userdata.minified(ours, words())
        compile(theirs, source, "exec", dont_inherit=True)
        expected = {name: each for name, each in signatures(ours).items() if name not in PROGRAMS_ONLY}
        assert {name: signatures(theirs).get(name) for name in expected} == expected
        described = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        assert not any(ast.get_docstring(each) for each in ast.walk(ast.parse(theirs)) if isinstance(each, described))

    def test_all_that_is_said_is_said_and_nothing_else(self) -> None:
        ours = [text for source in modules().values() for text in texts(source)]
        assert [each for each in texts(bundle()) if each not in ours] == []
        # What two modules define alike is there once.
        assert set(re.findall(r"\w+=", " ".join(texts(bundle())))) == set(re.findall(r"\w+=", " ".join(ours)))

    def test_what_a_machine_never_calls_is_left_out_and_nothing_else(self) -> None:
        there, ours = signatures(bundle()), {name for source in modules().values() for name in signatures(source)}
        # Protocols are for the type checker.
        protocols = {"Cloud", "Registry", "Store"}
        assert {name for name in ours - there.keys() if name.partition(".")[0] not in protocols} == PROGRAMS_ONLY

    def test_what_is_called_by_its_name_in_a_text_stays(self) -> None:
        body = [
            "class Held:\n    def kept(self): return self.inner()\n    def inner(self): ...\n    def gone(self): return self.far()\n"
            "    def far(self): ...\n    def asked(self): ...\n    def __len__(self): return 0",
            "def unused(): return Held()",
            "print(Held().kept(), getattr(Held(), 'asked'))",
        ]
        left = "\n".join(userdata._used(body))
        assert {name for name in ("kept", "inner", "asked", "__len__") if f"def {name}" in left} == {
            "kept", "inner", "asked", "__len__",
        }  # fmt: skip
        assert not any(f"def {name}" in left for name in ("gone", "far", "unused"))

    def test_two_things_of_one_name_are_refused_by_name(self, copied: Path) -> None:
        with (copied / "rollcall/health.py").open("a") as module:
            module.write("\n\ndef host_name() -> str:\n    return ''\n")
        with pytest.raises(ValueError, match="both have a host_name: rename one"):
            userdata.bundled()

    def test_minified_modules_pass_the_tests_of_what_is_in_the_repository(self, tmp_path: Path) -> None:
        lib = tmp_path / "lib"
        (lib / "rollcall").mkdir(parents=True)
        for source, text in modules().items():
            (lib / source).write_text(userdata.minified(text, words()))
        own = tmp_path / "test_own.py"
        own.write_text(
            f"import rollcall.agent\ndef test_it(): assert rollcall.agent.__file__.startswith({str(lib)!r})\n"
        )
        parts = ("plan", "registry", "agent_settings", "health")
        chosen = [f"tests/unit/agent/test_{part}.py" for part in parts]
        program = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", f"pythonpath=. {lib}", "-x"]
        done = subprocess.run(
            [*program, str(own), *chosen], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:]
        assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > 100

    def test_the_whole_reads_what_a_machine_is_told(self) -> None:
        held = run(bundle())
        told = held["parse_join"](
            "route53 zone=Z domain=unilans.net service=_s._tcp incarnation=v1 port=4218 weight=7 fall=5"
        )
        site = held["parse_join"]("cloudflare zone=z host=www.a.b token=t proxied=true")
        assert (told.port + told.weight + told.fall, site.proxied) == (4230, True)
        owner = held["Owner"]("local", "web", "0", "abcdef", "i-0123456789abcdef0")
        assert held["Owner"].parse(str(owner)) == owner

    def test_arguments_get_shorter_names_unless_somebody_gives_them_by_name(self) -> None:
        source = """
class Held:
    def __init__(self, content, size=2, *, kept=True):
        self._content, self.size, self.kept = content, size, kept
    def grown(self, amount):
        def inner(added):
            return [amount + added + each for each in range(added)]
        return inner(self.size)
def made(content, size):
    return Held(content, size=size, kept=False)
"""
        shorter = userdata.minified(userdata._shortened(source), ("made", "Held"))
        for gone in ("content", "amount", "added"):
            assert gone not in shorter
        assert "/" not in shorter and "size=" in shorter and "kept=" in shorter
        ours, theirs = run(source), run(shorter)
        assert ours["made"]("x", 3).grown(5) == theirs["made"]("x", 3).grown(5) == [8, 9, 10]
        assert (theirs["made"]("x", 3).size, theirs["made"]("x", 3).kept) == (3, False)

    def test_only_the_help_of_commands_is_left_out(self) -> None:
        source = (
            "import argparse\nparser = argparse.ArgumentParser(description='What.')\ntell(description='Why.', help=1)"
        )
        shorter = userdata._shortened(source)
        assert "What." not in shorter and "description='Why.', help=1" in shorter

    def test_it_runs_as_the_units_call_it(self, landed: Path) -> None:
        done = rollcall(landed, "status")
        assert (done.returncode, done.stdout) == (1, "") and "reason=not-running" in done.stderr
        done = rollcall(landed, "resolve", "theService.unilans.net")
        assert done.returncode == 1 and "reason=no-client" in done.stderr
        done = rollcall(landed, "nonsense")
        assert done.returncode == 2 and "usage: rollcall" in done.stderr

    def test_it_is_its_own_process_for_a_change_of_route53(self, landed: Path) -> None:
        join = "route53 zone=Z domain=unilans.net service=_s._tcp incarnation=v1 port=4218"
        given = [str(Owner("local", "web", "0", "abcdef", "i-0123456789abcdef0"))]
        asked = {"join": join, "given": given, "key": "AKID secret", "fresh": False, "do": "leave", "within": 0.0}
        # A port where nobody listens.
        done = rollcall(landed, "route53", given=json.dumps(asked), AWS_ENDPOINT_URL="http://127.0.0.1:1")
        assert "reason=unreachable api=route53" in json.loads(done.stdout)["error"], done.stderr


# Each with the value that it has where `a` is {"b": "it's", "w": 9} and `c` a list. The later ones are for Python 3.12 and newer.
FORMATS = {
    """f"{a['b']}" """: "it's",
    """f"{a['b']!r} {{}} {a['w']:>{a['w']}}|" """: """"it's" {}         9|""",
    """f'{a["w"]:0{a["w"]}.{c[1]}f}' """: "000009.00",
    """f"{a['b']:{'>'}{a['w']:>1}}" """: "     it's",
    """f"{' '.join(f'{each}' for each in c)}" """: "1 2",
    """f"{len({'x': 1, **a})}" """: "3",
    """f'{b"x"!s}{c=}{a["w"]=}' """: """b'x'c=[1, 2]a["w"]=9""",
    """f"{(lambda given: given + 'y')('x')}" """: "xy",
    """f"{c[0]:>{c[1]}}{c[1]:}{a['w']:}{a['w']:{c[1]}}" """: " 129 9",
    """f"" f"{a['w']}" f'' """: "9",
    """f"{c[0]}\\n'\\"{c[1]:>3}" """: "1\n'\"  2",
}
NEWER = {
    """f"{a["b"]}" """: "it's",
    """f"{'\\n'.join(map(str, c))}" """: "1\n2",
    """f"{f"{f"{a["w"]}"}"}" """: "9",
    """f"{a["w"]:{f"{">"}{c[1]:{c[0]}}"}}" """: " 9",
    """f"{
        a["w"]  # Nine.
    }" """: "9",
}


@functools.cache
def built_by(version: str) -> dict[str, Any]:
    newer = tuple(map(int, version.split("."))) >= (3, 12)
    return builders.built_by(version, (*FORMATS, *(NEWER if newer else ())))


@pytest.mark.parametrize("version", VERSIONS)
class TestBuilders:
    def test_each_builds_the_same_bytes_of_the_same_sources(self, version: str) -> None:
        built = built_by(version)
        assert built["text"] == userdata.build() and built["sources"] == userdata.sources_hash()

    def test_what_it_writes_of_any_f_string_an_older_python_reads_alike(self, version: str) -> None:
        samples = dict(zip([*FORMATS, *NEWER], built_by(version)["samples"], strict=False))
        known = "a, c = {'b': \"it's\", 'w': 9}, [1, 2]\n"
        for sample, text in samples.items():
            userdata._checked(sample, text)
            program = f"{known}{text}\nprint(value, end='')"
            done = subprocess.run([oldest(), "-c", program], capture_output=True, text=True, timeout=60, check=False)
            assert (done.stdout, done.stderr) == ({**FORMATS, **NEWER}[sample], ""), (sample, text)


class TestOldestGuest:
    def test_it_is_the_python_that_the_package_promises(self) -> None:
        assert f'requires-python = ">={userdata.OLDEST_PYTHON}"' in (ROOT / "pyproject.toml").read_text()
        assert VERSIONS[0] == userdata.OLDEST_PYTHON

    def test_the_programs_are_of_its_grammar_and_it_imports_them(self, landed: Path) -> None:
        done = rollcall(landed, "status", by=oldest())
        assert done.returncode == 1 and "reason=not-running" in done.stderr
        for place in landing():
            if place.endswith(".py"):
                code = f"compile(open({str(landed) + place!r}).read(), 'program', 'exec')"
                subprocess.run([oldest(), "-c", code], check=True, timeout=60)

    @pytest.mark.parametrize(
        "newer",
        [
            'X = f"{a["b"]}"',
            "X = f'{\"\\n\".join(a)}'",
            "def each[T](a: T): pass",
            "try: pass\nexcept* ValueError: pass",
            "try: pass\nexcept ValueError, OSError: pass",
            "type X = int",
            'X = t"{a}"',
        ],
    )
    def test_a_program_that_it_would_not_read_is_refused_by_name(
        self, monkeypatch: pytest.MonkeyPatch, newer: str
    ) -> None:
        monkeypatch.setattr(userdata, "minified", lambda *_: f"import sys\n{newer}\n")
        with pytest.raises(
            ValueError, match=r"^/usr/local/lib/rollcall/\S+\.py: line \d+ is not Python 3\.10, .*Write this"
        ):
            userdata.files()

    def test_an_argument_that_would_hide_what_is_called_is_refused_by_name(self) -> None:
        source = "def each(a, *, format):\n    return f\"{a['b']}\"\neach({}, format=1)"
        with pytest.raises(ValueError, match=r"an argument is named format, .* Rename it"):
            userdata.minified(source, ("each",))


lines = st.lists(
    st.sampled_from(["", "# no comment", "  ", "    # indented", "a#b", "x = 1", "#", '"', "\\n"]), max_size=6
)
awkward = st.one_of(
    lines.map("\n".join),
    st.text(alphabet="#\n\\'\" {}a\t", max_size=30),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
)


def run(source: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec(compile(source, "program", "exec"), found)  # noqa: S102
    return found


@settings(max_examples=60, deadline=None)
@given(awkward, st.sampled_from(['"""', "'''"]))
def test_strings_with_hashes_and_blank_lines_stay(text: str, quotes: str) -> None:
    escaped = text.replace("\\", "\\\\").replace(quotes[0], f"\\{quotes[0]}").replace("\r", "\\r")
    source = f"""'''A docstring.'''
# A comment.
PLAIN = {text!r}  # Another one.

LONG = {quotes}{escaped}{quotes}

def told(name: str = {text!r}) -> str:
    {quotes}{escaped}{quotes}
    # Why.
    return f"{{name}}#{{PLAIN!r}}" + {quotes}{escaped}{quotes}

def documented() -> None:
    {quotes}{escaped}{quotes}
"""
    before, after = run(source), run(userdata.minified(source, ("PLAIN", "LONG", "told", "documented")))
    assert after["PLAIN"] == after["LONG"] == text
    assert after["told"]() == before["told"]() and after["documented"]() is None
    assert after["told"].__doc__ is None


@given(st.lists(st.sampled_from(["[Unit]", "# why", "  # why", "", "   ", "A=b # not a comment", "#!x"]), max_size=8))
def test_of_a_script_or_unit_only_full_line_comments_and_blank_lines_go(given_lines: list[str]) -> None:
    kept = userdata._without_comments("".join(f"{each}\n" for each in given_lines)).splitlines()
    assert kept == [each for each in given_lines if each in ("[Unit]", "A=b # not a comment", "#!x")]


class TestKept:
    @pytest.fixture(autouse=True)
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        userdata.build.cache_clear()
        yield tmp_path / "cache" / "rollcall"
        userdata.build.cache_clear()

    def test_it_is_packed_once_for_the_same_sources(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = userdata.build()
        assert [each.read_text() for each in cache.iterdir()] == [first]
        userdata.build.cache_clear()
        monkeypatch.setattr(userdata, "_built", lambda: pytest.fail("packed again"))
        assert userdata.build() == first

    def test_other_sources_are_packed_anew(self, cache: Path, copied: Path) -> None:
        first = userdata.build()
        boot = copied / "boot.sh"
        boot.write_text(boot.read_text().replace(f"\n{MARK}", f"\ntrue\n{MARK}"))
        userdata.build.cache_clear()
        assert userdata.build() != first and len([*cache.iterdir()]) == 2

    def test_a_cache_folder_that_cannot_be_written_is_done_without(self, cache: Path) -> None:
        cache.parent.write_text("a file where the folder should be")
        assert userdata.build().startswith("#!")
