"""The Files service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc.aio

from pipelined.core.errors import InvalidRequest
from pipelined.core.files import checked_digest
from pipelined.rpc.auditing import Audit
from pipelined.rpc.idle_streams import moving
from pipelined.rpc.owned_files import OwnedFiles
from pipelined.rpc.status import streaming, unary
from pipelined_api.limits import FILE_CHUNK_BYTES
from pipelined_api.v1 import files_pb2, files_pb2_grpc
from pipelined_api.wire_values import is_plain_name

Context = grpc.aio.ServicerContext[Any, Any]


class FilesServicer(files_pb2_grpc.FilesServicer):
    """Implements pipelined.v1.Files; the .proto file says what each method does.

    Args:
        files: Keeps them.
        audit: Is told who has deleted what.
        idle_seconds: After which an upload of which nothing comes is ended.
    """

    def __init__(self, files: OwnedFiles, audit: Audit, idle_seconds: float) -> None:
        self._files = files
        self._audit = audit
        self._idle_seconds = idle_seconds

    @unary
    async def Upload(
        self, request: AsyncIterator[files_pb2.UploadRequest], context: Context
    ) -> files_pb2.UploadResponse:
        """Receive a content."""
        requests = moving(request, self._idle_seconds)
        header = await _header(requests)
        received = await self._files.receive(
            _chunks(requests), checked_digest(header.sha256), header.size, header.offset
        )
        return files_pb2.UploadResponse(existed=received.existed, written_bytes=received.written)

    @unary
    async def Stat(
        self, request: files_pb2.FilesStatRequest, context: Context
    ) -> files_pb2.FilesStatResponse:
        """Say what is here of a content."""
        status = self._files.status(checked_digest(request.sha256))
        return files_pb2.FilesStatResponse(
            present=status.present, size=status.size, received_bytes=status.received
        )

    @streaming
    async def Download(
        self, request: files_pb2.DownloadRequest, context: Context
    ) -> AsyncIterator[files_pb2.DownloadResponse]:
        """Send a content in chunks."""
        chunks = self._files.read(checked_digest(request.sha256), request.offset)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield files_pb2.DownloadResponse(data=chunk)

    @unary
    async def Delete(
        self, request: files_pb2.FilesDeleteRequest, context: Context
    ) -> files_pb2.FilesDeleteResponse:
        """Remove a content."""
        digest = checked_digest(request.sha256)
        with self._audit.action("delete file", context, digest):
            await self._files.delete(digest)
        return files_pb2.FilesDeleteResponse()


async def _header(requests: AsyncIterator[files_pb2.UploadRequest]) -> files_pb2.UploadHeader:
    async for request in requests:
        if request.WhichOneof("part") != "header":
            break
        if request.header.name and not is_plain_name(request.header.name):
            raise InvalidRequest(
                "name", f"{request.header.name[:200]!r} is no plain name of a file"
            )
        return request.header
    raise InvalidRequest("header", "has to be the first message of the stream")


async def _chunks(requests: AsyncIterator[files_pb2.UploadRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.WhichOneof("part") != "data":
            raise InvalidRequest("data", "only chunks of the content may follow the header")
        if len(request.data) > FILE_CHUNK_BYTES:
            raise InvalidRequest(
                "data", f"a chunk of {len(request.data)} bytes, more than {FILE_CHUNK_BYTES}"
            )
        yield request.data
