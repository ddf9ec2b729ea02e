"""`rollcall review`: describe a preview for the reviewer of a change.

    rollcall review --stack prod [--log FILE] [--output FILE] [--expect-no-changes]   (the same as python -m components.commands.review)

Runs `pulumi preview` (or, with --log, reads what `pulumi preview --event-log FILE` wrote) and writes a Markdown comment.
The engine's output goes to stderr, so that a job's log has all of it. Exit code 0: the preview went well; 1: it failed, and the
comment says why; 2: there is no preview to read (why, on stderr); 3: with --expect-no-changes, something differs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from components.commands.review.comment import commented
from components.commands.review.events import SECRET, LogError, read_log
from components.commands.review.findings import findings_of
from rollcall.escaping import escaped_lines

# The secrets in a job's environment. They must not be in a comment, whatever an error message repeats.
_SECRETS = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "CLOUDFLARE_API_KEY",
    "CLOUDFLARE_API_TOKEN",
    "CLOUDFLARE_API_USER_SERVICE_KEY",
    "PULUMI_ACCESS_TOKEN",
    "PULUMI_CONFIG_PASSPHRASE",
    "ROLLCALL_MACHINE_TSIG_KEY",
    "ROLLCALL_TSIG_KEY",
    "SDC_KEY_MATERIAL",
    "SDC_KEY_PASSPHRASE",
    "TRITON_KEY_MATERIAL",
    "TRITON_KEY_PASSPHRASE",
    "GH_TOKEN",
    "GITHUB_TOKEN",
)
_SHORTEST = 8


def previewed(stack: str) -> str:
    """The engine's event log of a preview of this stack. Raises LogError when there is none."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "events.json"
        words = ["pulumi", "preview", "--stack", stack, "--non-interactive", "--diff", "--event-log", str(log)]
        try:
            # The log belongs to the engine's debugging commands. The automation API switches it on in the same way.
            env = {**os.environ, "PULUMI_DEBUG_COMMANDS": "true"}
            subprocess.run(words, env=env, stdout=sys.stderr, stdin=subprocess.DEVNULL, check=False)
        except OSError as missing:
            raise LogError(f"pulumi: cannot be started ({missing.strerror}). Put the engine on the PATH.") from missing
        if not log.exists() or not log.stat().st_size:
            raise LogError(
                "pulumi: wrote no event log of a preview. Read its output above; check that it is logged in and that the stack exists."
            )
        return log.read_text()


def without_secrets(text: str, environ: Mapping[str, str]) -> str:
    for name in _SECRETS:
        value = environ.get(name, "")
        # A TSIG key is `ALGORITHM:NAME:SECRET`.
        for each in {value, *value.splitlines(), value.rpartition(":")[2]}:
            if len(each) >= _SHORTEST:
                text = text.replace(each, SECRET)
    return text


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="rollcall review", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--stack", required=True)
    made.add_argument("--log", type=Path, help="an event log, instead of a preview of now")
    made.add_argument("--output", type=Path, help="where the comment goes, instead of standard output")
    made.add_argument("--expect-no-changes", action="store_true", help="exit code 3 when anything differs")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    try:
        preview = read_log(chosen.log.read_text() if chosen.log else previewed(chosen.stack))
    except (LogError, OSError, UnicodeDecodeError) as fault:
        print(f"review: {fault}", file=sys.stderr)
        return 2
    text = escaped_lines(without_secrets(commented(preview, stack=chosen.stack), os.environ))
    if chosen.output:
        chosen.output.write_text(text)
    else:
        print(text, end="")
    found = findings_of(preview)
    if found.failed:
        return 1
    return 3 if chosen.expect_no_changes and found.changes else 0


if __name__ == "__main__":
    sys.exit(main())
