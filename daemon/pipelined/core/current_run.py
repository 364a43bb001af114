"""The run that the current task carries out."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pipelined.core.run import Run

Result = TypeVar("Result")

current_run: ContextVar[Run | None] = ContextVar("current_run", default=None)


def outside_runs(coroutine: Coroutine[Any, Any, Result], name: str) -> asyncio.Task[Result]:
    """Make a task that is of no run, also where a run has a need of it.

    What it registers with the event loop, such as readers of a worker's channel, would be taken for
    that run's ever after.
    """
    context = copy_context()
    context.run(current_run.set, None)
    # Not the argument ``context``: Python 3.10 does not have it.
    return context.run(lambda: asyncio.create_task(coroutine, name=name))
