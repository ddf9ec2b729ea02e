"""Stand-ins for the vendors' plugins, which no package registry has: the resource types that Rollcall uses, and no others.

They are started by the engine like any plugin, from a PULUMI_HOME of the rehearsal. The program knows nothing of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path

STAND_INS = ("aws", "cloudflare", "command")
_CODE = Path(__file__).resolve().parent.parent.parent


def install(home: Path, python: Path, which: Collection[str] = STAND_INS) -> None:
    """Put a launcher for each of `which` into `home/plugins`, under the version of its SDK; `python` has the SDKs.

    Stand-ins of an earlier call that are not in `which` are taken away, so that real ones can be found.
    """
    for name in STAND_INS:
        folder = home / "plugins" / f"resource-{name}-v{version(f'pulumi-{name}')}"
        launcher = folder / f"pulumi-resource-{name}"
        if folder.is_symlink():
            folder.unlink()
        if name not in which:
            shutil.rmtree(folder, ignore_errors=True)
            continue
        folder.mkdir(parents=True, exist_ok=True)
        launcher.write_text(
            "#!/bin/sh\n# A stand-in of the rehearsal, not the vendor's plugin.\n"
            f"PYTHONPATH='{_CODE}' exec '{python}' -u -m localcloud.plugins.serve {name} \"$@\"\n"
        )
        launcher.chmod(0o755)
