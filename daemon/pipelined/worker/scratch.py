"""The folder that the daemon has made for what a worker has of temporary files.

What user code makes of such files during a run goes with the run; what the startup makes, with the
worker.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import tempfile
import time
from multiprocessing import util
from pathlib import Path

from pipeline import _scratch

_folders: list[str] = []
# Of the run in progress, with what the system said of each when it was seen to be empty.
_of_run: dict[str, tuple[int, int] | None] = {}
# The clock that Linux stamps files with, CLOCK_REALTIME_COARSE.
_CLOCK_OF_FILES = 5


def use(folder: str, *, for_user_code: bool) -> None:
    """Have temporary folders of the client library made in this one, and of user code, too.

    Args:
        folder: Empty, and of this worker alone.
        for_user_code: Unless it has been told of another place.
    """
    if folder in _folders:
        return
    _folders.append(folder)
    _scratch.set_parent(folder)
    if for_user_code:
        # What these two keep there is of use beyond a run, or a worker.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", _inductor())
        _place(folder)
        util.get_temp_dir()


def begin_runs() -> None:
    """Have what user code makes from now on removed after each run."""
    if tempfile.tempdir not in _folders:
        return
    run = str(Path(tempfile.tempdir) / "run")
    try:
        Path(run).mkdir(exist_ok=True)
    except OSError:
        # The startup has taken the right to it from this process: it has no such files at all.
        return
    _of_run[run] = None
    # Once, and not for each run: threads of native code may be reading the environment.
    _place(run)


def end_run() -> None:
    """Remove what the run has left."""
    for folder, seen_empty in _of_run.items():
        # One system call in place of five, after every run.
        if seen_empty is None or _state(folder) != seen_empty:
            _of_run[folder] = _emptied(folder)


def _emptied(folder: str) -> tuple[int, int] | None:
    """Empty the folder of a run; return its state if that tells from now on that it is empty."""
    began = time.clock_gettime_ns(_CLOCK_OF_FILES)
    state = _state(folder)
    try:
        with os.scandir(folder) as entries:
            left = list(entries)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            Path(folder).mkdir()
        return None
    for entry in left:
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                Path(entry.path).unlink()
    # The system stamps changes with its coarse clock: what changes it in the same tick again would
    # leave the stamp as it is.
    return None if left or state is None or state[1] >= began else state


def _state(folder: str) -> tuple[int, int] | None:
    """What is another one once the folder, or what is in it, has been changed or replaced."""
    try:
        status = os.lstat(folder)
    except OSError:
        return None
    return status.st_ino, status.st_ctime_ns


def remove() -> None:
    """Remove it all. The daemon does, too, once the worker has ended, unless it is gone."""
    for folder in _folders:
        shutil.rmtree(folder, ignore_errors=True)


def _place(folder: str) -> None:
    tempfile.tempdir = folder
    # For processes that user code starts.
    os.environ["TMPDIR"] = folder


def _inductor() -> str:
    """Where torch has compiled code by default."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return str(Path(tempfile.gettempdir()) / f"torchinductor_{user}")
