"""The daemon's side of one run that streams."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

from pipelined.core.errors import Exit, WorkerDied
from pipelined.core.ports import RunResult
from pipelined.nursery.output_files import OutputFiles
from pipelined.worker.channel import ProtocolError
from pipelined.worker.flow import Ahead
from pipelined.worker.framing import Frame
from pipelined_api.worker.v1 import worker_pb2

# Copied on another thread than the event loop's.
_LARGE = 1024 * 1024


class RemoteStream:
    """What a worker has sent of a run and nobody has taken; implements ``core.ports.RunStream``.

    Args:
        run_id: Of the run.
        send: Takes what is to be said to the worker.
        broken: Is told what the worker did wrong; it does not live on.

    Attributes:
        ended: Done when the worker is done with the run.
    """

    def __init__(
        self,
        run_id: str,
        send: Callable[[worker_pb2.ToWorker], None],
        broken: Callable[[str], None],
    ) -> None:
        self.ended: asyncio.Future[RunResult] = asyncio.get_running_loop().create_future()
        # One whose caller has gone may fail without anybody to hear it.
        self.ended.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.ended.add_done_callback(lambda _: self._arrived.set())
        self._run_id = run_id
        self._send = send
        self._broken = broken
        self._frames: deque[tuple[Frame, OutputFiles]] = deque()
        self._ahead = Ahead()
        self._arrived = asyncio.Event()
        self._taken = False
        self._cancelled = False

    def add(self, frame: Frame, files: OutputFiles) -> None:
        """Take a message of the worker's, and the files that it refers to.

        Raises:
            ProtocolError: It is more than the worker may send.
        """
        if self._ahead.is_full:
            _drop(frame, files)
            raise ProtocolError("more of a stream than it was given credit for")
        self._ahead.sent(frame.size, files.count)
        if self._cancelled:
            _drop(frame, files)
            return
        self._frames.append((frame, files))
        self._arrived.set()

    async def next(self) -> bytes | None:
        """Return the next message; see ``core.ports.RunStream``."""
        if self._taken:
            self._taken = False
            self._ahead.taken(1)
            if not self.ended.done():
                credit = worker_pb2.Credit(run_id=self._run_id, messages=1)
                self._send(worker_pb2.ToWorker(credit=credit))
        while not self._frames:
            if self.ended.done():
                # Fails as the run has.
                self.ended.result()
                return None
            self._arrived.clear()
            await self._arrived.wait()
        frame, files = self._frames.popleft()
        self._taken = True
        try:
            if files.count:
                await files.keep()
        except ProtocolError as error:
            frame.close()
            raise self._died(error) from None
        except BaseException:
            frame.close()
            raise
        finally:
            files.close()
        return await self._payload(frame)

    async def _payload(self, frame: Frame) -> bytes:
        try:
            if frame.size <= _LARGE:
                return self._read(frame)
            # To its end even if nobody waits for it any more: it closes the descriptor.
            return await asyncio.shield(
                asyncio.get_running_loop().run_in_executor(None, self._read, frame)
            )
        except ProtocolError as error:
            raise self._died(error) from None

    def _died(self, error: ProtocolError) -> WorkerDied:
        self._broken(str(error))
        return WorkerDied(Exit(signal="SIGKILL"), self._run_id)

    @staticmethod
    def _read(frame: Frame) -> bytes:
        with contextlib.closing(frame):
            return frame.payload()

    def cancel(self) -> None:
        """Drop what is here, and tell the worker that nobody reads on. Never raises."""
        if self._cancelled:
            return
        self._cancelled = True
        while self._frames:
            _drop(*self._frames.popleft())
        self.say_cancelled()

    def say_cancelled(self) -> None:
        """Tell the worker, if nobody reads on; again once it has been sent the request."""
        if self._cancelled and not self.ended.done():
            cancel = worker_pb2.Cancel(run_id=self._run_id)
            self._send(worker_pb2.ToWorker(cancel=cancel))


def _drop(frame: Frame, files: OutputFiles) -> None:
    frame.close()
    files.close()
