"""The folder that the daemon has made for what a worker has of temporary files."""

from __future__ import annotations

import shutil

from pipeline import _scratch

_folders: list[str] = []


def use(folder: str) -> None:
    """Have the temporary folders of the client library made in this one."""
    if folder not in _folders:
        _folders.append(folder)
        _scratch.set_parent(folder)


def remove() -> None:
    """Remove it. The daemon does, too, once the worker has ended, unless it is gone."""
    for folder in _folders:
        shutil.rmtree(folder, ignore_errors=True)
