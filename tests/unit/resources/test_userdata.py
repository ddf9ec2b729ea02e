"""components.resources.userdata: one boot script for all machines, and a release that is the same bytes whoever packs it."""

from __future__ import annotations

import ast
import base64
import bz2
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from components.config.reader import read
from components.joyent.machine_checks import LARGEST_BODY
from components.preflight.checks import size_faults
from components.resources import userdata
from tests.unit.builders import VERSIONS, built_by, oldest

ROOT = Path(__file__).resolve().parents[3]
# What is not in the release: what gets it, what is about a whole stack, and the client.
ELSEWHERE = {
    "boot.sh",
    "get_release.py",
    "rollcall/console.py",
    "rollcall/escaping.py",
    "rollcall/resolve.py",
    "rollcall/yaml_keys.py",
}
SOURCES = sorted(
    str(path.relative_to(userdata.HOME))
    for path in userdata.HOME.rglob("*")
    if path.is_file() and "__pycache__" not in path.parts and "egg-info" not in str(path)
)
SHIPPED = [each for each in SOURCES if each not in ELSEWHERE]
HASH = "from components.resources import userdata as u; print(u.release().digest, u.sources_hash())"


def tar_members(tar: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
        return archive.getmembers()


class _WithoutTexts(ast.NodeTransformer):
    """Takes out statements that are a bare text or `...`, and the annotations of functions."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        bare = isinstance(node.value, ast.Constant) and (isinstance(node.value.value, str) or node.value.value is ...)
        return None if bare else node


def _is_left_of(old: str, new: str) -> bool:
    """Whether a line is another one without some of its characters."""
    rest = iter(old)
    return all(each in rest for each in new)


def tree_of(program: str) -> str:
    return ast.dump(_WithoutTexts().visit(ast.parse(program)))


def contents(tar: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
        return {each.name: archive.extractfile(each).read() for each in archive}  # type: ignore[union-attr]


def forget() -> None:
    for each in (userdata.release, userdata.carried_release, userdata.boot_script, userdata.build):
        each.cache_clear()


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of userdata/ that the builder reads instead."""
    home = tmp_path / "userdata"
    shutil.copytree(userdata.HOME, home, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    monkeypatch.setattr(userdata, "HOME", home)
    forget()
    yield home
    forget()


EC2_ONLY = {f"rollcall/{each}.py" for each in ("role_credentials", "volume_settings", "volumes")}


class TestRelease:
    def test_it_holds_every_source_to_the_byte_and_no_other(self) -> None:
        assert contents(userdata.release().tar) == {each: (userdata.HOME / each).read_bytes() for each in SHIPPED}

    def test_a_user_script_holds_every_source_except_those_for_ec2(self) -> None:
        found = contents(userdata.carried_release(certificates=True).tar)
        assert found.keys() == {*SHIPPED} - EC2_ONLY
        for name, data in found.items():
            assert data == (userdata.HOME / name).read_bytes() or name.endswith(".py")

    @pytest.mark.parametrize("certificates", [False, True])
    def test_a_machine_lacks_only_the_modules_that_it_does_not_need_and_runs(
        self, tmp_path: Path, certificates: bool
    ) -> None:
        needed = {"certificates": certificates, "dynamic": certificates}
        found = contents(userdata.carried_release(in_place=False, system=False, **needed).tar)
        absent = {"rollcall/releasing.py", "rollcall/release_transitions.py", "rollcall/prepare.py"}
        absent.add("rollcall/keeping.py")
        absent |= (
            set() if certificates else {"rollcall/acme_client.py", "rollcall/certificates.py", "rollcall/rfc2136.py"}
        )
        assert found.keys() == {*SHIPPED} - absent - EC2_ONLY
        for name, data in found.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(data)
        modules = [each.removesuffix(".py").replace("/", ".") for each in found if each.startswith("rollcall/")]
        program = "import importlib, sys\nfor each in sys.argv[1:]: importlib.import_module(each)"
        (tmp_path / "get_release.py").write_bytes((userdata.HOME / "get_release.py").read_bytes())
        names = [each for each in modules if each.rpartition(".")[2] not in ("__init__", "__main__")]
        subprocess.run([sys.executable, "-c", program, *names], cwd=tmp_path, check=True, timeout=60)

    @pytest.mark.parametrize("name", [each for each in SHIPPED if each.endswith(".py")])
    def test_in_a_user_script_a_program_lacks_docstrings_comments_and_annotations_alone(self, name: str) -> None:
        source = (userdata.HOME / name).read_text()
        packed = userdata.carried_files().get(name, userdata.lean(userdata.files()[name].decode()).encode()).decode()
        lines = zip(source.splitlines(), packed.splitlines(), strict=True)
        assert all(_is_left_of(old, new) or new.strip() == "..." for old, new in lines), "each line has its number"
        assert tree_of(source) == tree_of(packed)
        assert ast.get_docstring(ast.parse(packed)) is None

    def test_its_name_is_the_digest_of_the_tar_whatever_carries_it(self) -> None:
        release = userdata.release()
        assert release.digest == hashlib.sha256(release.tar).hexdigest()
        assert bz2.decompress(release.packed) == release.tar

    def test_its_members_do_not_depend_on_the_user_that_packed_them(self) -> None:
        found = tar_members(userdata.release().tar)
        assert [each.name for each in found] == sorted(each.name for each in found)
        for each in found:
            assert (each.isreg(), each.mode, each.mtime, each.pax_headers) == (True, 0o644, 0, {})
            assert (each.uid, each.gid, each.uname, each.gname) == (0, 0, "", "")

    def test_times_modes_line_ends_and_what_was_compiled_do_not_matter(self, copied: Path) -> None:
        before = userdata.release().digest
        for each in copied.rglob("*"):
            os.utime(each, (1, 1))
            each.chmod(0o700)
        agent = copied / "rollcall/agent.py"
        agent.write_bytes(agent.read_bytes().replace(b"\n", b"\r\n"))
        for name in ("rollcall/__pycache__/agent.cpython-311.pyc", "rollcall.egg-info/PKG-INFO", "units/.swp"):
            (copied / name).parent.mkdir(exist_ok=True)
            (copied / name).write_text("made by a machine")
        forget()
        assert userdata.release().digest == before

    @pytest.mark.parametrize("version", VERSIONS)
    def test_each_python_packs_the_same_bytes_of_the_same_sources(self, version: str) -> None:
        built = built_by(version)
        assert built["digest"] == userdata.release().digest
        assert (built["text"], built["sources"]) == (userdata.build(), userdata.sources_hash())

    def test_packing_it_does_not_slow_a_preview_down(self) -> None:
        def once() -> float:
            began = os.times()
            forget()
            userdata.build()
            userdata.sources_hash()
            return sum(os.times()[:2]) - sum(began[:2])

        assert min(once() for _ in range(5)) < 0.15


class TestText:
    def test_it_is_the_same_text_whoever_builds_it(self, tmp_path: Path) -> None:
        printed = set()
        for seed, cloud in (("1", "aws"), ("2", "joyent")):
            environment = {**os.environ, "PYTHONHASHSEED": seed, "ROLLCALL_CLOUD": cloud, "PYTHONPATH": str(ROOT)}
            words = [sys.executable, "-c", HASH]
            done = subprocess.run(
                words, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
            )
            printed.add(done.stdout)
        assert printed == {f"{userdata.release().digest} {userdata.sources_hash()}\n"}

    def test_every_machine_has_the_same_script_and_behind_it_what_its_cloud_has_no_store_for(self) -> None:
        script, text = userdata.boot_script(), userdata.build()
        assert text.startswith(script) and script.endswith("\n#FILES\n")
        digest, packed = text.removeprefix(script).splitlines()
        assert digest == userdata.carried_release().digest
        assert bz2.decompress(base64.b85decode(packed)) == userdata.carried_release().tar

    def test_the_script_is_what_is_in_the_repository_without_comments(self) -> None:
        """The program that gets the release is packed in one line behind its mark, without docstrings and comments."""
        script = userdata.boot_script()
        boot, program = ((userdata.HOME / each).read_text() for each in ("boot.sh", "get_release.py"))
        packed = script.rpartition("#GET_RELEASE\n")[2].partition("\n")[0]
        marks = re.compile(r"^ *# ?(?:SYSTEM|END)\n", re.M)
        boot, program = marks.sub("", boot), marks.sub("", program)
        code = [line for line in boot.splitlines() if not re.match(" *#( |$)", line)]
        assert script == "\n".join(code).replace("#GET_RELEASE\n", f"#GET_RELEASE\n{packed}\n") + "\n"
        assert len(code) > 200 and script.startswith("#!/bin/sh\n")
        assert bz2.decompress(base64.b85decode(packed)).decode() == userdata.lean(program)

    def test_ec2_takes_it(
        self, record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        packed = userdata.gzipped()
        left = userdata.LIMIT - len(packed)
        record_property("left", left)
        with capsys.disabled():
            print(f"\nboot script: {len(packed)} bytes compressed, {left} left of {userdata.LIMIT}")
        assert userdata.LIMIT == 16_384 and left >= 0
        assert gzip.decompress(packed).decode() == userdata.boot_script()
        assert base64.b64decode(userdata.gzipped_base64()) == packed

    def test_one_that_is_too_long_is_refused_with_both_numbers(self, copied: Path) -> None:
        noise = base64.b64encode(os.urandom(12_000)).decode()
        with (copied / "get_release.py").open("a") as program:
            program.write(f"NOISE = {noise!r}\n")
        with pytest.raises(ValueError, match=r"^userdata: .* \d{5} bytes compressed, and EC2 takes 16384\. Shorten"):
            userdata.gzipped()

    @pytest.mark.parametrize(
        "text",
        [
            "#!/bin/sh\n",
            "#!/bin/sh\n#FILES\n",
            "#!/bin/sh\n#GET_RELEASE\n#FILES\n:\n",
            "#!/bin/sh\n#FILES\n:\n#GET_RELEASE\n#FILES\n",
        ],
    )
    def test_a_script_without_one_place_for_its_program_is_refused(self, copied: Path, text: str) -> None:
        (copied / "boot.sh").write_text(text)
        with pytest.raises(ValueError, match=r"^userdata/boot\.sh: there is no place for get_release\.py\. End it"):
            userdata.build()


class TestHash:
    @pytest.mark.parametrize("source", ["boot.sh", "get_release.py", *SHIPPED])
    def test_it_changes_with_any_source(self, copied: Path, source: str) -> None:
        before = userdata.sources_hash()
        path = copied / source
        text = path.read_bytes()
        path.write_bytes(b"# Another line.\n" + text)
        forget()
        assert userdata.sources_hash() != before
        path.write_bytes(text)
        forget()
        assert userdata.sources_hash() == before

    def test_it_changes_with_a_name_and_with_a_file_that_comes_or_goes(self, copied: Path) -> None:
        def now() -> str:
            forget()
            return userdata.sources_hash()

        seen = [now()]
        (copied / "workloads" / "new").write_text("")
        seen.append(now())
        (copied / "workloads" / "new").rename(copied / "workloads" / "other")
        seen.append(now())
        assert len(set(seen)) == 3
        (copied / "workloads" / "other").unlink()
        assert now() == seen[0]

    def test_it_changes_with_nothing_else(self, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = userdata.sources_hash()
        for each in ("rollcall/console.py", "rollcall/escaping.py", "rollcall/resolve.py", "rollcall/yaml_keys.py"):
            with (copied / each).open("a") as not_shipped:
                not_shipped.write("\n")
        (copied.parent / "README.md").write_text("beside it")
        # Another zlib or bzip2 packs to other bytes.
        monkeypatch.setattr(gzip, "compress", lambda *_, **__: b"other bytes")
        monkeypatch.setattr(bz2, "compress", lambda *_: b"other bytes")
        forget()
        assert userdata.sources_hash() == before and userdata.gzipped() == b"other bytes"


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release as a machine has it."""
    root = tmp_path_factory.mktemp("landed")
    for name, data in userdata.files().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def rollcall(landed: Path, *words: str, by: str = sys.executable, **given: str) -> subprocess.CompletedProcess[str]:
    """`python3 -m rollcall …` as the units call it, without what is of this checkout."""
    libraries = Path(requests.__file__).parent.parent
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{landed}:{libraries}", **given}
    program = [by, "-S", "-B", "-m", "rollcall", *words]
    return subprocess.run(program, env=env, capture_output=True, text=True, timeout=60, check=False)


class TestPrograms:
    def test_the_agent_runs_as_the_units_call_it(self, landed: Path) -> None:
        done = rollcall(landed, "status")
        assert (done.returncode, done.stdout) == (1, "") and "reason=not-running" in done.stderr
        done = rollcall(landed, "nonsense")
        assert done.returncode == 2 and "usage: rollcall" in done.stderr

    def test_a_traceback_names_files_and_lines_of_the_repository(self, landed: Path) -> None:
        program = "from rollcall.settings import parse_join; parse_join('gopher')"
        env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(landed)}
        words = [sys.executable, "-S", "-B", "-c", program]
        done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=False)
        lines = (userdata.HOME / "rollcall/settings.py").read_text().splitlines()
        at = next(number for number, line in enumerate(lines, 1) if "is none of {', '.join(KINDS)}" in line)
        assert f'File "{landed}/rollcall/settings.py", line {at}, in parse_join' in done.stderr
        assert lines[at - 1].strip() in done.stderr

    def test_on_a_machine_the_command_says_where_the_client_is(self, landed: Path) -> None:
        done = rollcall(landed, "resolve", "theService.unilans.net", "--resolver", ":")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "rollcall resolve: reason=no-client fix='docs/discovery.md, or dig'\n"

    def test_the_oldest_python_that_the_package_promises_reads_all_of_it(self, landed: Path) -> None:
        assert f'requires-python = ">={VERSIONS[0]}"' in (ROOT / "pyproject.toml").read_text()
        programs = [*landed.rglob("*.py"), userdata.HOME / "get_release.py"]
        assert len(programs) > 10
        for each in programs:
            code = f"compile(open({str(each)!r}, encoding='utf-8').read(), 'program', 'exec')"
            subprocess.run([oldest(), "-c", code], check=True, timeout=60)
        assert "reason=not-running" in rollcall(landed, "status", by=oldest()).stderr


class TestTriton:
    """CloudAPI takes 100,000 bytes of a request (its app.js), and the release travels in it."""

    def test_what_is_left_is_enough_for_the_settings_and_the_secrets(self, capsys: pytest.CaptureFixture[str]) -> None:
        with capsys.disabled():
            print(f"\nuser-script: {len(json.dumps(userdata.build()))} bytes as JSON of {LARGEST_BODY}")
        # Releases in place and settings of the system together are too much for a Triton machine (docs/machines.md).
        for needs in ({"system": False}, {"in_place": False}):
            assert userdata.triton_fault(LARGEST_BODY, userdata.settings_room(), **needs) == ""
        room = userdata.workload_room(LARGEST_BODY, userdata.settings_room(), in_place=False, system=False)
        assert userdata.certificates_size(0) == 0 and userdata.certificates_size(1) - userdata.unused_room(1) <= room, (
            "one site with tls fits"
        )

    def test_more_than_it_takes_is_a_fault_with_its_numbers(self, copied: Path) -> None:
        (copied / "workloads" / "noise").write_bytes(os.urandom(30_000))
        fault = userdata.triton_fault(LARGEST_BODY, userdata.settings_room())
        size = len(json.dumps(userdata.build()))
        assert fault.startswith(f"userdata: the boot script and the release take {size} bytes of the request")
        over = size - (LARGEST_BODY - userdata.settings_room())
        assert over > 0 and fault.endswith(f"Shorten what is below userdata/ by {over} bytes, packed, or more.")

    @pytest.mark.parametrize("clouds", [("aws",), ("joyent",), ("aws", "joyent")])
    def test_each_cloud_s_limit_is_checked_before_anything_is_made(
        self, monkeypatch: pytest.MonkeyPatch, clouds: tuple[str, ...]
    ) -> None:
        fleet = {"size": "s", "image": "debian-12", "joins": ["site/www"]}
        fleets = {f"web-{cloud}": {**fleet, "cloud": cloud} for cloud in clouds}
        given = read("local", {"sites": {"www": {"zone": "s.example"}}, "fleets": fleets})
        assert size_faults(given) == []
        monkeypatch.setattr(userdata, "LIMIT", 100)
        monkeypatch.setattr(userdata, "_SETTINGS_ROOM", 90_000)
        found = size_faults(given)
        assert len(found) == len(clouds)
        assert ("EC2" in "".join(found), "CloudAPI" in "".join(found)) == ("aws" in clouds, "joyent" in clouds)
