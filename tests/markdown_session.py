"""A Python session for the blocks of one page: reads blocks from stdin, answers on stdout.

Run as a program in the reader's folder. Each line of stdin is JSON: the source of a block, and the
name that tracebacks give it. Each answer is a line, ``done`` or ``failed``. What the blocks print
goes to stderr, that of their child processes too.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from types import ModuleType


def main() -> None:
    """Serve until stdin ends."""
    commands = os.fdopen(os.dup(0))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    # As in an interactive session: modules of the folder can be imported, names belong to __main__.
    sys.path[0] = ""
    session = ModuleType("__main__")
    sys.modules["__main__"] = session
    for line in commands:
        source, name = json.loads(line)
        answer = "done"
        try:
            exec(compile(source, name, "exec", dont_inherit=True), vars(session))
        except BaseException:
            traceback.print_exc()
            answer = "failed"
        sys.stdout.flush()
        answers.write(f"{answer}\n")
        answers.flush()


if __name__ == "__main__":
    main()
