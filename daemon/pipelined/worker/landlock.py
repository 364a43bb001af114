"""Landlock (landlock(7)): a process gives up access to paths, for itself and all that it starts.

Landlock only allows: what no rule allows is denied. To deny a few paths, everything beside them is
allowed: the entries of each folder on the way to them, as they are now. Hence its one drawback
here: what is made later directly in one of those folders is denied, too.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

# The numbers of these calls are the same on all architectures that Python's ctypes runs on.
_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446
_CREATE_VERSION = 1 << 0
_RULE_PATH_BENEATH = 1

_WRITE_FILE = 1 << 1
_READ_FILE = 1 << 2
_REMOVE_DIR = 1 << 4
_REMOVE_FILE = 1 << 5
_MAKE_CHAR = 1 << 6
_MAKE_DIR = 1 << 7
_MAKE_REG = 1 << 8
_MAKE_SOCK = 1 << 9
_MAKE_FIFO = 1 << 10
_MAKE_BLOCK = 1 << 11
_MAKE_SYM = 1 << 12
_REFER = 1 << 13
_TRUNCATE = 1 << 14
_SCOPE_ABSTRACT_UNIX_SOCKET = 1 << 0
_SCOPE_SIGNAL = 1 << 1

# Before it a rename from one folder to another is denied everywhere, which much code needs.
LEAST_ABI = 2
_TRUNCATE_ABI = 3
_SCOPE_ABI = 6
# Listing folders and executing are not handled: names are no secrets, imports list the folders of
# their path, and what cannot be read cannot be executed to any use.
_HANDLED = (
    _WRITE_FILE
    | _READ_FILE
    | _REMOVE_DIR
    | _REMOVE_FILE
    | _MAKE_CHAR
    | _MAKE_DIR
    | _MAKE_REG
    | _MAKE_SOCK
    | _MAKE_FIFO
    | _MAKE_BLOCK
    | _MAKE_SYM
    | _REFER
)
_OF_FILES = _WRITE_FILE | _READ_FILE | _TRUNCATE

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def abi() -> int:
    """The version of Landlock that this kernel has and lets be used; 0 for none."""
    number = _libc.syscall(
        ctypes.c_long(_CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint(_CREATE_VERSION)
    )
    return max(int(number), 0)


def scopes_signals(version: int) -> bool:
    """Whether a process can be kept from signalling others, and from their abstract sockets."""
    return version >= _SCOPE_ABI


def deny(paths: Iterable[Path], version: int, readable: Iterable[Path] = ()) -> None:
    """Give up these paths for good, and signalling and tracing processes that are there now.

    The calling thread does, with all processes that it starts; so it has to be the only one.

    Args:
        paths: Files and folders, with all that is in them; need not be there yet.
        version: What ``abi`` said, at least LEAST_ABI.
        readable: Folders in them whose files may still be read.

    Raises:
        OSError: The kernel does not do it.
    """
    handled = _HANDLED | (_TRUNCATE if version >= _TRUNCATE_ABI else 0)
    scoped = _SCOPE_ABSTRACT_UNIX_SOCKET | _SCOPE_SIGNAL if scopes_signals(version) else 0
    attributes = _Ruleset(handled, 0, scoped)
    # A kernel does not know the fields that came after it.
    size = ctypes.sizeof(_Ruleset) if scoped else ctypes.sizeof(ctypes.c_uint64)
    ruleset = _checked(
        _libc.syscall(
            ctypes.c_long(_CREATE_RULESET),
            ctypes.byref(attributes),
            ctypes.c_size_t(size),
            ctypes.c_uint(0),
        )
    )
    try:
        for path in _beside({path.resolve() for path in paths}):
            # It may have gone, and what nobody can open needs no rule.
            with contextlib.suppress(OSError):
                _allow(ruleset, path, handled)
        for path in readable:
            with contextlib.suppress(OSError):
                _allow(ruleset, path.resolve(), _READ_FILE)
        _checked(
            _libc.syscall(ctypes.c_long(_RESTRICT_SELF), ctypes.c_int(ruleset), ctypes.c_uint(0))
        )
    finally:
        os.close(ruleset)


def _beside(denied: set[Path]) -> Iterator[Path]:
    """Everything that is neither one of the paths nor on the way to one, by its topmost folders."""
    if not denied:
        yield Path("/")
    on_the_way = {parent for path in denied for parent in path.parents}
    for folder in on_the_way:
        # One inside of what is denied is denied whatever is beside it.
        if denied.isdisjoint((folder, *folder.parents)):
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    path = folder / entry.name
                    if path not in denied and path not in on_the_way and not entry.is_symlink():
                        yield path


def _allow(ruleset: int, path: Path, handled: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        rights = handled if is_folder else handled & _OF_FILES
        rule = _PathBeneath(rights, descriptor)
        _checked(
            _libc.syscall(
                ctypes.c_long(_ADD_RULE),
                ctypes.c_int(ruleset),
                ctypes.c_int(_RULE_PATH_BENEATH),
                ctypes.byref(rule),
                ctypes.c_uint(0),
            )
        )
    finally:
        os.close(descriptor)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno() or errno.EINVAL
        raise OSError(number, os.strerror(number))
    return int(result)
