"""What a fork of the nursery does to become a process of its own."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from pipelined.worker.blas import set_blas_threads


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
    # numpy imports it, and makes its state, when it is first needed.
    if (numpy_random := sys.modules.get("numpy.random")) is not None:
        numpy_random.seed()
    if (torch := sys.modules.get("torch")) is not None:
        torch.seed()


def restore_threads(environment: Mapping[str, str]) -> None:
    """Let torch's parallel operations have the threads that they have in a fresh process.

    The nursery was held to one; nothing asks the environment again, so torch is told.
    """
    if (torch := sys.modules.get("torch")) is not None:
        # Like torch itself, with its OpenMP and MKL: one for each physical core.
        torch.set_num_threads(_openmp_threads(environment) or physical_cores())


def prepare_blas(environment: Mapping[str, str]) -> None:
    """Do for OpenBLAS, in the nursery and for all its workers, what restore_threads does for torch.

    OpenBLAS starts threads as soon as it is told their number, and they spin: done in the worker,
    that would take the CPU from it when it starts. But OpenBLAS also ends its threads before any
    fork, and the child starts its own when it first needs them. So the number is set here, and
    one fork for nothing leaves this process with a single thread again.
    """
    number = _number(environment.get("OPENBLAS_NUM_THREADS")) or _openmp_threads(environment)
    set_blas_threads(number or len(os.sched_getaffinity(0)))
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)


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


def _openmp_threads(environment: Mapping[str, str]) -> int:
    # It may be a list, one number for each level of nesting.
    return _number(environment.get("OMP_NUM_THREADS", "").split(",")[0])


def _number(text: str | None) -> int:
    text = (text or "").strip()
    return int(text) if text.isdecimal() else 0
