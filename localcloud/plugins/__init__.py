"""Stand-ins for the vendors' plugins, which no package registry has. They have only the resource types that Rollcall uses.

The engine starts them like any plugin, from the sandbox's PULUMI_HOME. The program does not know of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from importlib.metadata import version
from pathlib import Path

from localcloud.plugins import launch

STAND_INS = ("aws", "cloudflare", "command")


class PluginsError(Exception):
    """The requested plugins are not available; the message names the fix."""


def chosen(words: str) -> frozenset[str]:
    """Return which plugins are real ones, for `stand-in`, `real`, or names as in `cloudflare,command`. Raises PluginsError."""
    real = frozenset() if words == "stand-in" else frozenset(STAND_INS if words == "real" else words.split(","))
    if unknown := real - set(STAND_INS):
        names = ", ".join(sorted(unknown))
        raise PluginsError(f"PLUGINS names {names}; known are real, stand-in, or a list of {', '.join(STAND_INS)}")
    return real


def folder_of(name: str) -> str:
    """Return the engine's name for the folder of a plugin in the version of its SDK."""
    return f"resource-{name}-v{version(f'pulumi-{name}')}"


def bring(home: Path, users: Path, which: Collection[str], acquire: Callable[[str, str], str | None]) -> None:
    """Link the files of the vendors' own plugins, from the user's PULUMI_HOME `users`, into folders of `home`.

    The folders themselves are not links: the engine reads directories only, and it does not follow a link
    (https://github.com/pulumi/pulumi/blob/master/sdk/go/common/workspace/plugins.go, GetPluginsFromDir).

    One that is not there is acquired first: `acquire(name, version)` puts it into `users` and says why not, if not. Raises
    PluginsError naming all that cannot be had.
    """
    missing = []
    for name in sorted(which):
        theirs, folder = users / "plugins" / folder_of(name), home / "plugins" / folder_of(name)
        error = None if _is_there(theirs, name) else acquire(name, version(f"pulumi-{name}"))
        if not _is_there(theirs, name):
            missing.append((name, error or "nothing came"))
            continue
        _remove(folder)
        folder.mkdir(parents=True)
        for each in theirs.iterdir():
            (folder / each.name).symlink_to(each)
    if missing:
        commands = "; ".join(
            f"pulumi plugin install resource {name} {version(f'pulumi-{name}')}" for name, _ in missing
        )
        raise PluginsError(
            f"the real plugins {', '.join(name for name, _ in missing)} are not in {users / 'plugins'} in the versions of their "
            f"SDKs, and could not be downloaded ({missing[0][1]}); run `{commands}` where they can be, or take the stand-ins: "
            f"leave PLUGINS out, or name in it only what there is"
        )


def _remove(folder: Path) -> None:
    """Remove a plugin of the sandbox. If it consists of links, remove only the links."""
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _is_there(folder: Path, name: str) -> bool:
    # An interrupted download leaves a folder, and this beside it.
    whole = not folder.with_name(f"{folder.name}.partial").exists()
    return whole and (folder / f"pulumi-resource-{name}").exists()


def install(home: Path, python: Path, which: Collection[str] = STAND_INS) -> None:
    """Put a launcher for each of `which` into `home/plugins`, under the version of its SDK; `python` has the SDKs. The folder that
    `home` is in is the local clouds'.

    Stand-ins of an earlier call that are not in `which` are taken away, so that real ones can be found.
    """
    for name in STAND_INS:
        folder = home / "plugins" / folder_of(name)
        launcher = folder / f"pulumi-resource-{name}"
        # Remove it first: writing through a link would change the user's own plugin.
        _remove(folder)
        if name not in which:
            continue
        folder.mkdir(parents=True)
        launcher.write_text(
            "#!/bin/sh\n# A stand-in of the sandbox, not the vendor's plugin.\n"
            f"exec '{python}' -I -S '{launch.__file__}' '{home.parent}' {name} \"$@\"\n"
        )
        launcher.chmod(0o755)
