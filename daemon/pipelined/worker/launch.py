"""Starts a worker by exec in its final environment: ``python -m pipelined.worker.launch FD``.

A deployment's variables may make the interpreter or the linker load code (``PYTHONPATH``,
``LD_PRELOAD``). So this program, which has none of them, confines the process first, and then
executes the worker with them: what is given up stays so over exec.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Mapping
from typing import NoReturn

from pipelined.worker import confinement

VARIABLE = "PIPELINED_WORKER_ENVIRONMENT"


def environment_for(
    base: Mapping[str, str], worker: Mapping[str, str], confined: confinement.Confinement | None
) -> dict[str, str]:
    """Return the environment of this program for a worker with that one."""
    told = {} if confined is None else {confinement.VARIABLE: confined.to_text()}
    return {**base, **told, VARIABLE: json.dumps(dict(worker))}


def main(channel_fd: str) -> NoReturn:
    """Confine this process, and become a worker on the channel."""
    environment = json.loads(os.environ.pop(VARIABLE))
    confinement.confine(confinement.take_from(os.environ))
    # Inherited under the same number once more.
    os.set_inheritable(int(channel_fd), True)
    options = sys.orig_argv[1 : sys.orig_argv.index("-m")]
    command = [sys.executable, *options, "-m", "pipelined.worker", channel_fd]
    os.execve(sys.executable, command, environment)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except BaseException:
        traceback.print_exc()
        os._exit(1)
