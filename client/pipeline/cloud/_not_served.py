"""How the functions that are not built yet refuse."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from pipeline.errors import NotServed


def not_served(what: str, instead: str = "") -> NotServed:
    """Make the error for a function, or for one of its arguments.

    Args:
        what: ``module.function``, or ``module.function(argument=…)``.
        instead: what does the job in this version, as a clause.

    """
    try:
        installed = version("pipelined")
    except PackageNotFoundError:
        installed = "here"
    hint = f"; {instead}" if instead else ""
    return NotServed(f"pipeline.cloud.{what} is not served by pipelined {installed}{hint}")
