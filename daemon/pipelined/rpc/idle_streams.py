"""Streams of requests that may not stand still: what they reserve would be kept from others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

from pipelined.core.errors import UploadStalled

Request = TypeVar("Request")


async def moving(requests: AsyncIterator[Request], seconds: float) -> AsyncGenerator[Request, None]:
    """Yield the messages of a stream, each of which has to come within so many seconds.

    Raises:
        UploadStalled: One has not.
    """
    while True:
        try:
            request = await asyncio.wait_for(anext(requests), seconds)
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError:
            raise UploadStalled(seconds) from None
        yield request
