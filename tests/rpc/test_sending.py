"""A caller that leaves while a message waits for it: the call is cancelled."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from pipelined.rpc.sending import sender

# Far more than the transport takes of what nobody reads.
LARGE = bytes(32 << 20)
SERVICE = "tests.Sending"
TURNS = 20


async def test_a_caller_that_leaves_while_a_message_waits(tmp_path: Path) -> None:
    sending = asyncio.Event()
    ended: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def stream(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        try:
            await sender(context)(b"first")
            sending.set()
            await sender(context)(LARGE)
        except BaseException as error:
            ended.set_result(error)
            raise

    async def echo(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        return request

    handlers: dict[str, Any] = {
        "Stream": grpc.unary_stream_rpc_method_handler(stream),
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    address = f"unix:{tmp_path / 's'}"
    server.add_insecure_port(address)
    await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        begin: Any = channel.unary_stream(f"/{SERVICE}/Stream")
        turn: Any = channel.unary_unary(f"/{SERVICE}/Echo")
        call = begin(b"")
        assert await call.read() == b"first"
        await sending.wait()
        # What comes after it on the same connection: the message has been begun by then, and waits.
        for _ in range(TURNS):
            await turn(b"")
        call.cancel()
        assert isinstance(await ended, asyncio.CancelledError)
    await server.stop(None)
