"""What the command exits with, for scripts. The first class that fits an error decides."""

from __future__ import annotations

from pipeline import errors

OK = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
UNAVAILABLE = 4
DEADLINE = 5
DENIED = 6
INTERRUPTED = 130

MEANINGS: dict[int, str] = {
    OK: "done",
    FAILED: "the run or the startup failed, its process died, or any other error",
    USAGE: "wrong usage, bad input, or a graph that cannot be deployed here",
    NOT_FOUND: "no such deployment, version, run or file",
    UNAVAILABLE: "no daemon answers, or it is too busy: try again later",
    DEADLINE: "the time limit passed",
    DENIED: "not allowed",
    INTERRUPTED: "interrupted with Ctrl-C",
}

BY_ERROR: tuple[tuple[type[errors.PipelineError], int], ...] = (
    (errors.InvalidInput, USAGE),
    (errors.GraphError, USAGE),
    (errors.SerialisationError, USAGE),
    (errors.Incompatible, USAGE),
    (errors.NotServed, USAGE),
    (errors.AlreadyExists, USAGE),
    (errors.NotFound, NOT_FOUND),
    (errors.Unavailable, UNAVAILABLE),
    (errors.Overloaded, UNAVAILABLE),
    (errors.DeadlineExceeded, DEADLINE),
    (errors.PermissionDenied, DENIED),
    (errors.PipelineError, FAILED),
)


def exit_code(error: errors.PipelineError) -> int:
    """Tell what to exit with; the outputs of a run that cannot be sent are a failed run."""
    if error.reason in ("OUTPUT_TYPE", "OUTPUT_TOO_LARGE"):
        return FAILED
    return next(code for cls, code in BY_ERROR if isinstance(error, cls))


def table() -> str:
    """Write the table for ``--help``."""
    rows = "\n".join(f"  {code:>3}  {meaning}" for code, meaning in MEANINGS.items())
    # \b keeps the help from being wrapped into one paragraph.
    return f"\b\nExit codes:\n{rows}"
