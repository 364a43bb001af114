"""The daemon's side of one run on a worker: from its request to its answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from functools import partial

from pipelined.core.current_run import current_run
from pipelined.core.errors import DomainError, Exit, FileMissing, StorageFailed, WorkerDied
from pipelined.core.files import OutputKeeper, StoredFile
from pipelined.core.ports import UNTRACED, NodeTime, RunResult
from pipelined.nursery.output_files import OutputFiles
from pipelined.nursery.remote_stream import RemoteStream
from pipelined.worker.channel import AsyncChannel, ProtocolError
from pipelined.worker.framing import MAX_INLINE_PAYLOAD, Frame
from pipelined.worker.shared_memory import Reused
from pipelined_api.worker.v1 import worker_pb2

# What has more bytes is copied on another thread than the event loop's; 8 MiB take a millisecond.
_LARGE = 8 * 1024 * 1024
# New memory takes much longer than copying into what is there.
_LARGE_WITHOUT_ROOM = 1024 * 1024


class RemoteRun:
    """One run, of which the worker sends at most one answer.

    Args:
        run_id: Of the run.
        channel: To the worker.
        keeper: Where files go that it gives back; None if it can give back none.
        broken: Is told what the worker did wrong; it does not live on.
        streams: Whether the outputs are taken as they come.

    Attributes:
        id: Of the run.
        stream: What takes the outputs as they come; None if nothing does.
        ended: Done when the run is over, whatever the worker did.
    """

    def __init__(
        self,
        run_id: str,
        channel: AsyncChannel,
        keeper: OutputKeeper | None,
        broken: Callable[[str], None],
        *,
        streams: bool,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.id = run_id
        self.stream = RemoteStream(run_id, self._say, broken) if streams else None
        self.ended: asyncio.Future[RunResult] = (
            self._loop.create_future() if self.stream is None else self.stream.ended
        )
        self._channel = channel
        self._broken = broken
        self._files = OutputFiles(keeper, run_id)
        self._cancelled = False
        self._finishing: asyncio.Task[None] | None = None

    def send_files(self, files: Sequence[StoredFile]) -> None:
        """Open all of them, or none, and pass them on.

        Raises:
            FileMissing: One is gone.
            StorageFailed: One cannot be opened or passed on.
        """
        if not files:
            return
        with contextlib.ExitStack() as opened:
            descriptors = []
            for file in files:
                try:
                    descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
                except FileNotFoundError:
                    raise FileMissing(file.sha256) from None
                except OSError as error:
                    raise StorageFailed("read a file", error.strerror or "unknown") from None
                opened.callback(os.close, descriptor)
                descriptors.append(descriptor)
            for file, descriptor in zip(files, descriptors, strict=True):
                order = worker_pb2.InputFile(sha256=bytes.fromhex(file.sha256))
                header = worker_pb2.ToWorker(input_file=order).SerializeToString()
                try:
                    self._channel.send(header, fds=[descriptor])
                except OSError as error:
                    # The system bounds descriptors that are on their way.
                    raise StorageFailed("pass on a file", error.strerror or "unknown") from None

    def send(self, request: bytes) -> None:
        """Send the serialised request; a large one a moment later."""
        run = current_run.get()
        trace = UNTRACED if run is None else run.trace
        if self.stream is None and not trace.parent and len(request) <= MAX_INLINE_PAYLOAD:
            # There is no more to say of it.
            self._channel.send(self.id.encode(), request, brief=True)
            return
        order = worker_pb2.Run(run_id=self.id, stream=self.stream is not None)
        if trace.parent:
            order.trace_parent, order.trace_state = trace
        header = worker_pb2.ToWorker(run=order).SerializeToString()
        most = _LARGE if self._channel.has_room(len(request)) else _LARGE_WITHOUT_ROOM
        if len(request) <= most:
            # The worker reads a request before it executes it, and executes one at a time.
            self._channel.send(header, request, reuse=True)
        else:
            copying = self._loop.run_in_executor(None, Reused.holding, request)
            copying.add_done_callback(partial(self._send_held, header, len(request)))

    def cancel(self) -> None:
        """Tell the worker that nobody waits for the run any more. Never raises."""
        self._cancelled = True
        cancel = worker_pb2.Cancel(run_id=self.id)
        self._say(worker_pb2.ToWorker(cancel=cancel))

    def add_file(self, output: worker_pb2.OutputFile, frame: Frame) -> None:
        """Take over the descriptor of a file that is given back.

        Raises:
            ProtocolError: The worker may not give it back, or not so.
        """
        self._files.add(output, frame)

    def add_elements(self, frame: Frame) -> None:
        """Take a message of the stream.

        Raises:
            ProtocolError: The run does not stream, or this is more than the worker may send.
        """
        if self.stream is None:
            frame.close()
            raise ProtocolError("elements of a run that does not stream")
        self.stream.add(frame, self._files.take())

    def succeed(self, seconds: float, frame: Frame, nodes: Sequence[NodeTime] = ()) -> None:
        """Take the answer; the run has ended when the files that came before it are kept."""
        if self._files.count or frame.size > _LARGE:
            finishing = self._finish(seconds, frame, nodes)
            self._finishing = self._loop.create_task(finishing, name=f"end of run {self.id}")
            return
        if frame.memory is None:
            self._result(frame.inline, seconds, nodes)
            return
        try:
            self._result(frame.payload(), seconds, nodes)
        except ProtocolError as error:
            self._break(error)
        finally:
            frame.close()

    def fail(self, error: Exception) -> None:
        """End the run with an error, unless it has ended."""
        self._files.close()
        if not self.ended.done():
            self.ended.set_exception(error)

    async def _finish(self, seconds: float, frame: Frame, nodes: Sequence[NodeTime]) -> None:
        try:
            if self._files.count:
                await self._files.keep()
            # To its end even if the loop does not wait: the thread closes the descriptor.
            payload = await asyncio.shield(self._loop.run_in_executor(None, frame.payload))
            self._result(payload, seconds, nodes)
        except DomainError as error:
            self.fail(error)
        except Exception as error:
            # Whatever it was, who waits for the run must not wait in vain.
            self._break(error)
        except BaseException:
            self.ended.cancel()
            raise
        finally:
            frame.close()
            self._files.close()

    def _result(self, payload: bytes, seconds: float, nodes: Sequence[NodeTime]) -> None:
        if not self.ended.done():
            self.ended.set_result(RunResult(payload, seconds, nodes))

    def _break(self, error: Exception) -> None:
        """The answer cannot be had: the worker, if it is not dead yet, soon is."""
        self._broken(str(error) or type(error).__name__)
        self.fail(WorkerDied(Exit(signal="SIGKILL"), self.id))

    def _send_held(self, header: bytes, size: int, copying: asyncio.Future[Reused]) -> None:
        if copying.cancelled():
            return
        if (error := copying.exception()) is not None:
            self._broken(f"no shared memory for the request: {error}")
            return
        self._channel.send_held(header, copying.result(), size)
        # What was said before the worker knew of the run was in vain.
        if self.stream is not None:
            self.stream.say_cancelled()
        elif self._cancelled:
            self.cancel()

    def _say(self, message: worker_pb2.ToWorker) -> None:
        self._channel.send(message.SerializeToString())
