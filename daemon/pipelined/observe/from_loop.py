"""Asks the event loop something from another thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import TypeVar

# A loop that takes longer is stuck; Prometheus itself gives up after 10 s by default.
ANSWER_SECONDS = 3.0

Answer = TypeVar("Answer")


def ask(
    loop: asyncio.AbstractEventLoop,
    question: Callable[[], Answer],
    seconds: float = ANSWER_SECONDS,
) -> Answer | None:
    """Call it on the loop's thread and return what it says; None if the loop does not answer.

    Raises:
        Exception: What the question raises.
    """
    answer: concurrent.futures.Future[Answer] = concurrent.futures.Future()

    def asked() -> None:
        if not answer.set_running_or_notify_cancel():
            return
        try:
            answer.set_result(question())
        except BaseException as error:
            answer.set_exception(error)

    try:
        loop.call_soon_threadsafe(asked)
        return answer.result(seconds)
    except concurrent.futures.TimeoutError:
        answer.cancel()
        return None
    except RuntimeError:
        # The loop is closed.
        return None
