"""Starts a worker by exec in its environment: ``python -m pipelined.worker.launch CHANNEL_FD``.

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
from pipelined.worker.confinement import Confinement

VARIABLE = "PIPELINED_WORKER"


def environment_for(
    base: Mapping[str, str], worker: Mapping[str, str], confined: Confinement | None
) -> dict[str, str]:
    """Return the environment of this program for a worker with that one."""
    order = {"environment": dict(worker), "confinement": confinement.to_text(confined)}
    return {**base, VARIABLE: json.dumps(order)}


def main(channel_fd: str) -> NoReturn:
    """Confine this process, and become a worker on the channel."""
    order = json.loads(os.environ[VARIABLE])
    confinement.confine(Confinement.from_text(order["confinement"]))
    # Inherited under the same number once more.
    os.set_inheritable(int(channel_fd), True)
    options = sys.orig_argv[1 : sys.orig_argv.index("-m")]
    command = [sys.executable, *options, "-m", "pipelined.worker", channel_fd]
    os.execve(sys.executable, command, order["environment"])


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except BaseException:
        traceback.print_exc()
        os._exit(1)
