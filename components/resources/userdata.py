"""Build what a machine boots with: one boot script for all machines, and the release with the agent and the workloads.

The release is a tar of the sources below `userdata/`, named by its SHA-256. The computer that packs it does not matter:
members of the tar are sorted and have no owner, no time and one mode. An EC2 machine fetches it
(components/resources/releases.py). A Triton machine has it in its user-script, after the boot script, and there without
docstrings and comments. Compression is only for the transport.
"""

from __future__ import annotations

import base64
import bz2
import functools
import gzip
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from components.workloads.release import LARGE, Release

_ROOT = Path(__file__).resolve().parents[2]
# In a checkout, and where the package is installed (pyproject.toml).
HOME = next(each for each in (_ROOT / "userdata", _ROOT / "rollcall_userdata") if (each / "boot.sh").exists())
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-add-user-data.html
LIMIT = 16_384
BOOT, FETCH = "boot.sh", "get_release.py"
_PLACEHOLDERS = "#GET_RELEASE\n#FILES\n"
_MODE = 0o644
# Ten memberships of 256 characters, ten tokens, an IAM user's key, names and tags take 6 kB.
_SETTINGS_ROOM = 7_168
# Of it, a membership with its token takes so much.
_JOIN_BYTES = 450
# A private key on P-256 and a certificate of Cloudflare's Origin CA, without the names in it.
_ORIGIN_BYTES = 1_500
# Modules of the package that only the stack's program or a client of a service uses. A change of them replaces no
# machine, and a Triton machine needs the room for other things (docs/decisions/0009).
_NOT_SHIPPED = ("rollcall/console.py", "rollcall/escaping.py", "rollcall/resolve.py", "rollcall/yaml_keys.py")
# Modules that only a machine with releases in place imports.
_IN_PLACE = ("rollcall/releasing.py", "rollcall/release_transitions.py")
# Modules that only a machine of a site with a certificate that visitors trust imports.
_CERTIFICATES = ("rollcall/acme_client.py", "rollcall/certificates.py")
# The two private keys of such a site, and the chain of Let's Encrypt: a leaf and an intermediate that an RSA root has signed.
_CERTIFICATE_BYTES = 3_600
# Modules that only a machine with settings of its system imports.
_SYSTEM = ("rollcall/keeping.py", "rollcall/prepare.py")
# The module that only a machine with a zone of dynamic updates imports.
_DYNAMIC = ("rollcall/rfc2136.py",)
# Modules that only EC2 machines import.
_EC2_ONLY = ("rollcall/role_credentials.py", "rollcall/volume_settings.py", "rollcall/volumes.py")
_NO_SOURCES = ("__pycache__", "rollcall.egg-info")
# The sources have one form (`ruff format`), in which a line that begins with three quotes is a docstring. A test compares the syntax trees.
_DOCSTRING = re.compile(r'^( *)"""(?:[^"\\]|\\.|"(?!""))*"""\n', re.M)
_COMMENT = re.compile(r"^ *#(?!!).*$|  # (?:noqa|type): .*$", re.M)
# The header of a function, what may end an annotation in it, and its result.
_DEF = re.compile(r"^ *def \w+\(", re.M)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\](){},:=]|\blambda\b')
_OPENING, _CLOSING = {"[", "(", "{"}, {"]", ")", "}"}
_RESULT = re.compile(r"\)( -> .*):(?: \.\.\.)?$", re.M)
_AFTER = {("name", ":"): "type", ("type", "="): "value", ("name", "="): "value", ("value", "lambda"): "lambda"} | {
    ("lambda", ":"): "value",
    ("type", ","): "name",
    ("value", ","): "name",
}
_MARKS = re.compile(r"^ *# ?(?:SYSTEM|END)\n", re.M)
_SYSTEM_PART = re.compile(r"^ *# ?SYSTEM\n.*?^ *# ?END\n", re.M | re.S)
_SHELL_COMMENT = re.compile(r"^ *#(?: .*)?\n", re.M)


@functools.cache
def release() -> Release:
    """Pack the sources below `userdata/`: the same bytes on every computer."""
    return _packed(files())


@functools.cache
def carried_release(
    in_place: bool = True, certificates: bool = False, system: bool = True, dynamic: bool = True
) -> Release:
    """Pack the sources for a user-script: programs without docstrings and comments, since CloudAPI takes 100,000 bytes.

    Without `in_place` it has no modules for releases in place, without `certificates` none for certificates, without
    `system` none for settings of the system, and without `dynamic` none for zones that take dynamic updates. If a fleet
    changes to these, its machines are replaced.
    """
    return _packed(carried_files(in_place, certificates, system, dynamic))


def _packed(sources: Mapping[str, bytes]) -> Release:
    found = io.BytesIO()
    # The oldest format has no place for what differs from builder to builder (https://www.gnu.org/software/tar/manual/html_section/Formats.html).
    with tarfile.open(fileobj=found, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in sources.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), _MODE
            archive.addfile(member, io.BytesIO(data))
    tar = found.getvalue()
    return Release(digest=hashlib.sha256(tar).hexdigest(), tar=tar)


def files() -> dict[str, bytes]:
    """Return the release's files by their paths in it, sorted.

    Texts have the line ends of Unix, however they were checked out.
    """
    paths = {str(path.relative_to(HOME).as_posix()): path for path in HOME.rglob("*") if _is_source(path)}
    return {name: paths[name].read_bytes().replace(b"\r\n", b"\n") for name in sorted(paths)}


def lean(program: str) -> str:
    """Return a program without docstrings, comments, and the types of functions' parameters and results.

    They are a third of what a Triton machine has room for. All other code is the same, at the same line number, which is
    what a traceback names.
    """
    plain = _DOCSTRING.sub(lambda found: (found[1] and f"{found[1]}...") + "\n" * found[0].count("\n"), program)
    # The rest that is between two triple quotes is text of the program.
    parts = plain.split('"""')
    return _untyped('"""'.join(_COMMENT.sub("", each) if at % 2 == 0 else each for at, each in enumerate(parts)))


def _untyped(program: str) -> str:
    """Return a program without the annotations of its functions. Nothing reads them at run time."""
    kept, end = list[str](), 0
    for header in _DEF.finditer(program):
        for begin, after in _annotations(program, header.end()):
            kept += [program[end:begin], "\n" * program.count("\n", begin, after)]
            end = after
    return "".join([*kept, program[end:]])


def _annotations(program: str, start: int) -> Iterator[tuple[int, int]]:
    """Yield where each annotation of a function begins and ends. Its parameters begin at `start`."""
    depth, state, begin = 1, "name", 0
    for token in _TOKEN.finditer(program, start):
        word, at = token[0], token.start()
        if depth == 1 and state == "type" and word in ",=)":
            yield begin, len(program[:at].rstrip())
        depth += (word in _OPENING) - (word in _CLOSING)
        if depth == 0:
            break
        if depth == 1:
            state = _AFTER.get((state, word), state)
            begin = at if word == ":" else begin
    result = _RESULT.match(program, at)
    if result:
        yield result.span(1)


def carried_files(
    in_place: bool = True, certificates: bool = True, system: bool = True, dynamic: bool = True
) -> dict[str, bytes]:
    """Return the same with programs as a user-script has them (`lean`)."""
    left_out = [*_EC2_ONLY, *(() if in_place else _IN_PLACE), *(() if certificates else _CERTIFICATES)]
    left_out += [*(() if system else _SYSTEM), *(() if dynamic else _DYNAMIC)]
    kept = {name: data for name, data in files().items() if name not in left_out}
    return {name: lean(data.decode()).encode() if name.endswith(".py") else data for name, data in kept.items()}


def _is_source(path: Path) -> bool:
    inside = path.relative_to(HOME)
    return (
        path.is_file()
        and len(inside.parts) > 1
        and not any(part in _NO_SOURCES or part.startswith(".") for part in inside.parts)
        and inside.as_posix() not in _NOT_SHIPPED
    )


@functools.cache
def boot_script(system: bool = True) -> str:
    """Return the script that every machine gets, without lines that are comments.

    Without `system` it has no steps for settings of the system, as a Triton machine without such settings.

    It contains nothing of the release. get_release.py is packed, without docstrings and comments: Triton has little room.
    """
    script = _SHELL_COMMENT.sub("", _steps(_text(BOOT), system))
    if (
        script.count("#GET_RELEASE\n") != 1
        or script.count("#FILES\n") != 1
        or not script.endswith(f"\n{_PLACEHOLDERS}")
    ):
        raise ValueError(
            "userdata/boot.sh: there is no place for get_release.py. End it with the lines #GET_RELEASE and #FILES."
        )
    first, last = _PLACEHOLDERS.splitlines(keepends=True)
    packed = base64.b85encode(bz2.compress(lean(_steps(_text(FETCH), system)).encode(), 9)).decode()
    return f"{script.removesuffix(_PLACEHOLDERS)}{first}{packed}\n{last}"


def _steps(text: str, system: bool) -> str:
    """Return a text with the parts between `# SYSTEM` and `# END`, or without them."""
    return _MARKS.sub("", text) if system else _SYSTEM_PART.sub("", text)


def _text(name: str) -> str:
    return (HOME / name).read_bytes().decode().replace("\r\n", "\n")


@functools.cache
def build(
    workloads: tuple[Release, ...] = (),
    in_place: bool = True,
    certificates: bool = False,
    system: bool = True,
    dynamic: bool = True,
) -> str:
    """Return the boot script followed by the release, for machines that have no store.

    The release takes two lines: its digest and its bytes. The releases of workloads follow it. Base85 has no character
    that JSON escapes, and is a sixteenth shorter than Base64 (https://docs.python.org/3/library/base64.html).
    """
    agent = carried_release(in_place, certificates, system, dynamic)
    return "".join([boot_script(system), *map(_carried, (agent, *workloads))])


def _carried(one: Release) -> str:
    return f"{one.digest}\n{base64.b85encode(one.packed).decode()}\n"


def sources_hash() -> str:
    """Return a hash that changes only when the release or the boot script changes.

    A change of it replaces a machine.
    """
    return hashlib.sha256(f"{release().digest}\n{_text(BOOT)}{_text(FETCH)}".encode()).hexdigest()[:16]


def gzipped() -> bytes:
    """Return the boot script as EC2 gets it: cloud-init decompresses it. Raises ValueError over EC2's limit."""
    packed = gzip.compress(boot_script().encode(), 9, mtime=0)
    if len(packed) > LIMIT:
        raise ValueError(
            f"userdata: the boot script has {len(packed)} bytes compressed, and EC2 takes {LIMIT}. Shorten "
            f"userdata/{BOOT} or userdata/{FETCH}."
        )
    return packed


def settings_room(closed: Iterable[str] = ()) -> int:
    """Return how many bytes of that request the settings and secrets of a machine may take.

    `closed` has, for each closed site that it joins, the names in its certificate.
    """
    return _SETTINGS_ROOM + sum(_ORIGIN_BYTES + 2 * len(names) for names in closed)


def unused_room(joins: int) -> int:
    """Return how many bytes of the settings' room a machine with so many memberships, at most ten, leaves."""
    return max(0, 10 - joins) * _JOIN_BYTES


def certificates_size(sites: int) -> int:
    """Return how many bytes of that request the keys and certificates of so many sites take, with the modules that renew them."""
    modules = len(json.dumps(build(certificates=True))) - len(json.dumps(build()))
    return modules + sites * _CERTIFICATE_BYTES if sites else 0


def workload_room(limit: int, settings: int, in_place: bool = True, system: bool = True, dynamic: bool = True) -> int:
    """Return how many bytes of the request that creates a Triton machine remain for the releases of its workloads.

    Its settings take `settings` bytes.
    """
    return max(0, limit - settings - len(json.dumps(build(in_place=in_place, system=system, dynamic=dynamic))))


def carried_size(workload: Release) -> int:
    """Return how many bytes of that request a workload's release takes: too many, if it is large."""
    if workload.is_large:
        return LARGE
    return len(json.dumps(_carried(workload))) - 2


def triton_fault(limit: int, settings: int, in_place: bool = True, system: bool = True, dynamic: bool = True) -> str:
    """Return the reason why Triton would refuse `build()` in a request of `limit` bytes, or an empty text if it would not.

    `in_place`, `system` and `dynamic` say what a fleet of the stack needs. The request also has the machine's settings
    and secrets, which take `settings` bytes.
    """
    size, room = len(json.dumps(build(in_place=in_place, system=system, dynamic=dynamic))), limit - settings
    if size <= room:
        return ""
    return (
        f"userdata: the boot script and the release take {size} bytes of the request that makes a Triton machine (as JSON), and CloudAPI "
        f"takes {limit} in all, of which {settings} are for the machine's settings and secrets. Shorten what is below userdata/ by "
        f"{size - room} bytes, packed, or more."
    )


def gzipped_base64() -> str:
    return base64.b64encode(gzipped()).decode()
