"""The ``pipeline`` command: deploy graphs to a daemon, run them, and see what it does."""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command with the arguments of the process.

    An error that nobody expected is a bug of ours: it is told in one line, and with its traceback
    if the environment has ``PIPELINE_TRACEBACK=1``.
    """
    # Read when grpc is imported: its own lines on stderr say nothing that an error does not.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from pipeline.cli import exit_codes, terminal

    try:
        from pipeline.cli.app import app

        app(prog_name="pipeline")
    except KeyboardInterrupt:
        # Before or after the command itself, which tells of its own interruption.
        sys.exit(exit_codes.INTERRUPTED)
    except Exception as error:
        if os.environ.get("PIPELINE_TRACEBACK"):
            raise
        terminal.fail(
            f"internal error: {type(error).__name__}: {error} "
            "(PIPELINE_TRACEBACK=1 shows where; please report it)"
        )
        sys.exit(exit_codes.FAILED)
