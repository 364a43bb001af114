"""An echo in grpc.aio and nothing else: parses the request, and serialises the response."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

import own_messages
import serving
from pipelined_api.v1 import runs_pb2


class Echo:
    async def Run(
        self, request: runs_pb2.RunRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> runs_pb2.RunResponse:
        return runs_pb2.RunResponse(outputs=request.inputs)


async def main(folder: Path) -> None:
    server = grpc.aio.server(options=serving.GRPC_OPTIONS)
    handler: Any = grpc.unary_unary_rpc_method_handler(
        Echo().Run, runs_pb2.RunRequest.FromString, runs_pb2.RunResponse.SerializeToString
    )
    service = runs_pb2.DESCRIPTOR.services_by_name["Runs"].full_name
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {"Run": handler}),)
    )
    server.add_insecure_port(f"unix:{folder}/socket")
    await server.start()
    own_messages.requests(folder)
    serving.ready(folder, "grpc", f"unix:{folder}/socket", own_messages.METHOD)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(serving.folder()))
