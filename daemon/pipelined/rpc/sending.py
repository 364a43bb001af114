"""Sends the messages of a stream to its caller."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio


def sender(context: grpc.aio.ServicerContext[Any, Any]) -> Callable[[bytes], Awaitable[None]]:
    """Return what sends one message, and waits until the transport has room for it.

    It is cancelled, as the call is, where the caller leaves meanwhile: gRPC may tell that first by
    failing to send.
    """

    async def send(message: bytes) -> None:
        try:
            await context.write(message)
        except grpc.aio.InternalError:
            raise asyncio.CancelledError from None

    return send
