"""What a fork of the nursery does to become a process of its own."""

from __future__ import annotations

import ctypes
import functools
import os
import random
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

_SET_BLAS_THREADS = (
    "openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "scipy_openblas_set_num_threads64_",
)


def leave_nursery(log: int, environment: Mapping[str, str]) -> None:
    """Take on a session, signals, standard streams, an environment, threads and randomness.

    Args:
        log: Write end of the pipe that gets standard output and error; closed here.
        environment: All of the worker's variables.
    """
    # Its own session: a Ctrl-C in the daemon's terminal is not for it, and its group can be killed.
    os.setsid()
    _reset_signals()
    redirect_streams(log)
    os.environ.clear()
    os.environ.update(environment)
    restore_threads(environment)
    reseed()


def redirect_streams(log: int) -> None:
    """Make ``log`` standard output and error and /dev/null standard input."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for fd in (null, log):
        if fd > 2:
            os.close(fd)


def reseed() -> None:
    """Give this process random numbers of its own: a fork has its parent's state."""
    random.seed()
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed()
    if (torch := sys.modules.get("torch")) is not None:
        torch.seed()


def restore_threads(environment: Mapping[str, str]) -> None:
    """Let parallel operations have the threads that they have in a fresh process.

    The nursery was held to one; nothing asks the environment again, so each library is told.
    """
    openmp = _number(environment.get("OMP_NUM_THREADS"))
    if (torch := sys.modules.get("torch")) is not None:
        # Like torch itself, with its OpenMP and MKL: one for each physical core.
        torch.set_num_threads(openmp or physical_cores())
    blas = _number(environment.get("OPENBLAS_NUM_THREADS")) or openmp
    for library in blas_libraries():
        for name in _SET_BLAS_THREADS:
            if (function := getattr(library, name, None)) is not None:
                function(ctypes.c_int(blas or len(os.sched_getaffinity(0))))


def physical_cores() -> int:
    """Return the number of cores that this process may run on, hyperthreads counted as one."""
    cores = set()
    for cpu in os.sched_getaffinity(0):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            cores.add(siblings.read_text())
        except OSError:
            cores.add(str(cpu))
    return len(cores)


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _number(text: str | None) -> int:
    # OMP_NUM_THREADS may be a list, one number for each level of nesting.
    first = (text or "").split(",")[0].strip()
    return int(first) if first.isdecimal() else 0


@functools.cache
def blas_libraries() -> tuple[ctypes.CDLL, ...]:
    """Return the OpenBLAS libraries of this process.

    A nursery looks for them before it forks: to read all its mappings takes every fork 2 to 15 ms.
    """
    paths = {
        fields[5]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if len(fields := line.split(maxsplit=5)) == 6 and "openblas" in fields[5].rpartition("/")[2]
    }
    return tuple(ctypes.CDLL(path) for path in sorted(paths))
