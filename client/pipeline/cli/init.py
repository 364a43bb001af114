"""Writes the starter project of ``pipeline init``; its files lie in ``starter/``."""

from __future__ import annotations

import re
import shlex
from importlib import resources
from pathlib import Path

from pipeline import errors

_SUFFIX = ".template"
_NAME = "NAME"


def write_starter(folder: Path) -> list[str]:
    """Write the files, named for the folder, and return their names.

    Raises:
        errors.AlreadyExists: one of them is there already; nothing has been written.
        errors.InvalidInput: the folder is a file.

    """
    if folder.exists() and not folder.is_dir():
        raise errors.InvalidInput(f"{str(folder)!r} is not a folder", field="folder")
    files = {
        each.name.removesuffix(_SUFFIX): each.read_text("utf-8").replace(
            _NAME, deployment_name(folder)
        )
        for each in resources.files("pipeline.cli.starter").iterdir()
        if each.name.endswith(_SUFFIX)
    }
    for name in sorted(files):
        # A broken link would be written through.
        if (folder / name).exists() or (folder / name).is_symlink():
            raise errors.AlreadyExists(f"{str(folder / name)!r} is there already")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        with (folder / name).open("x", encoding="utf-8") as file:
            file.write(text)
    return sorted(files)


def next_commands(folder: Path) -> list[str]:
    """Return what to type to test, deploy and run the project."""
    name = deployment_name(folder)
    enter = [] if folder.resolve() == Path.cwd() else [f"cd {shlex.quote(str(folder))}"]
    return [
        *enter,
        "python -m unittest",
        "pipeline deploy .",
        f"pipeline run {name} text='hello  world'",
    ]


def deployment_name(folder: Path) -> str:
    """Make a name for a deployment of the name of a folder."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).lstrip("._-")
    return name[:128] or "starter"
