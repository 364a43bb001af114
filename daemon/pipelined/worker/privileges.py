"""What a process gives up of its privileges, by prctl(2) and capset(2)."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522

# capabilities(7), by number. With these, root looks into other processes, changes the kernel, or
# reaches files past their paths; no model needs them.
_OF_NO_USE = frozenset(
    {
        2,  # DAC_READ_SEARCH: open_by_handle_at
        16,  # SYS_MODULE
        17,  # SYS_RAWIO
        19,  # SYS_PTRACE
        21,  # SYS_ADMIN
        22,  # SYS_BOOT
        27,  # MKNOD
        32,  # MAC_OVERRIDE
        33,  # MAC_ADMIN
        34,  # SYSLOG
        38,  # PERFMON
        39,  # BPF
        40,  # CHECKPOINT_RESTORE
    }
)
# What starting workers as another user takes, and looking after them: signalling them, and giving
# them their temporary folders and removing those.
FOR_ANOTHER_USER = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
}

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def set_dumpable(dumpable: bool) -> None:
    """Let other processes of this user trace this one and look into its /proc folder, or not.

    Without it no core is dumped either. It lasts until the next exec.
    """
    _prctl(_PR_SET_DUMPABLE, int(dumpable))


def gain_none() -> None:
    """Have no program that this process executes give it more than it has: no setuid, for one."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def effective_capabilities() -> set[int]:
    """The numbers of the capabilities that this process has."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            mask = int(line.split()[1], 16)
            return {number for number in range(64) if mask >> number & 1}
    return set()


def drop_capabilities() -> None:
    """Give up those of no use to user code; a process that is not root's gives up all."""
    have = effective_capabilities()
    keep = have - _OF_NO_USE if os.geteuid() == 0 else set()
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for number in sorted(have - keep):
        # Needs CAP_SETPCAP, and without it a program that is executed may not gain any either.
        _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    if not have - keep:
        return
    mask = sum(1 << number for number in keep)
    data = (_Data * 2)(
        *(_Data(mask >> shift & 0xFFFFFFFF, mask >> shift & 0xFFFFFFFF, 0) for shift in (0, 32))
    )
    header = _Header(_CAPABILITY_VERSION_3, 0)
    if _libc.capset(ctypes.byref(header), data) != 0:
        _fail()


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0) != 0:
        _fail()


def _fail() -> None:
    number = ctypes.get_errno() or errno.EPERM
    raise OSError(number, os.strerror(number))
