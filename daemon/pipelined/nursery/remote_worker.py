"""The daemon's side of one worker process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import structlog
from google.protobuf.message import DecodeError

from pipelined.core.errors import DomainError, Exit, StorageFailed, WorkerDied
from pipelined.core.files import OutputKeeper, StoredFile
from pipelined.core.ports import RunResult, StartSpec
from pipelined.core.printed import Printed
from pipelined.core.stages import Stage
from pipelined.nursery import messages
from pipelined.nursery.holding import Holding
from pipelined.nursery.limits import Limits
from pipelined.nursery.machine import Machine
from pipelined.nursery.output import OutputReader
from pipelined.nursery.remote_run import RemoteRun
from pipelined.nursery.remote_stream import RemoteStream
from pipelined.nursery.temporary_folders import TemporaryFolders
from pipelined.worker import last_words
from pipelined.worker.channel import AsyncChannel, ProtocolError
from pipelined.worker.framing import Frame, read_brief_success
from pipelined_api.worker.v1 import worker_pb2

# What a worker has to end by itself once its channel is closed, or after SIGTERM.
_LAST_SECONDS = 1.0
# In one startup: one for each node and each file of weights.
_MOST_STAGES = 2**16
# Told of one that has died.
_LINES_KEPT = 100
_LINE_KEPT = 500

log = structlog.get_logger()


class RemoteWorker:
    """A worker process, forked or exec'd; implements ``core.ports.Worker``.

    Whoever makes one sees to it that ``process_started`` and then ``process_ended`` are called.
    """

    def __init__(
        self,
        worker_id: str,
        connection: socket.socket,
        output: int,
        on_output: Callable[[Printed], None],
        limits: Limits,
        folders: TemporaryFolders,
        machine: Machine,
        files: OutputKeeper | None,
        hurried: asyncio.Future[None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.id = worker_id
        self.pid = 0
        self.exited: asyncio.Future[Exit] = loop.create_future()
        self.hello: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._limits = limits
        self._on_stage: Callable[[Stage], None] | None = None
        self._stages = 0
        self._starting: asyncio.Future[None] | None = None
        self._deployment = ""
        # The one that has not been answered.
        self._run: RemoteRun | None = None
        self._files = files
        # Done once no worker is given time to end.
        self._hurried = hurried
        self._reaped = False
        self._last_words = ""
        self._printed: deque[str] = deque(maxlen=_LINES_KEPT)
        self._killed = False
        self._holding = Holding(machine, worker_id, self.kill)
        # For what is temporary; made when the worker is told to start.
        self._folders = folders
        self._folder = ""
        self._on_output = on_output
        self._channel = AsyncChannel(connection, self._on_frame, self._on_closed)
        self._output = OutputReader(output, self._hear)

    def process_started(self, pid: int) -> None:
        """Take note of the process id."""
        self.pid = pid
        self._holding.process_started(pid)

    def process_ended(self, exit_: Exit) -> None:
        """Take note that the process has been reaped: everything that waits for it fails."""
        if self._reaped:
            return
        self._reaped = True
        # What it said before it died still counts.
        self._channel.receive_rest()
        self._channel.close()
        self._output.close()
        if self._folder:
            # Not a task: the end of the loop waits for it.
            self._loop.run_in_executor(None, self._folders.remove, self._folder)
        exit_ = self._explained(exit_)
        self._holding.close()
        self.exited.set_result(exit_)
        if self._starting is not None and not self._starting.done():
            self._starting.set_exception(WorkerDied.of(exit_))
        if (run := self._run) is not None:
            self._run = None
            run.fail(WorkerDied.of(exit_, run.id))

    async def start(self, spec: StartSpec, on_stage: Callable[[Stage], None]) -> None:
        """Load the code and execute the startup nodes (see ``core.ports.Worker``)."""
        if self.exited.done():
            raise WorkerDied.of(self.exited.result())
        if not self._folder:
            # Not on another thread: the worker may end, and its folder go, before it is done.
            self._folder = self._folders.make()
        try:
            code = os.open(spec.code_path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StorageFailed("read the code", error.strerror or "unknown") from None
        devices = self._holding.enter(spec.options)
        self._deployment = spec.deployment
        # The lines that the worker prints carry its id alone.
        log.info(
            "starting",
            deployment=spec.deployment,
            version=spec.version,
            worker=self.id,
            pid=self.pid,
        )
        self._on_stage, self._stages = on_stage, 0
        self._starting = self._loop.create_future()
        try:
            order = messages.start(spec, self._limits, self._folder, devices)
            try:
                self._channel.send(order.SerializeToString(), fds=[code])
            finally:
                os.close(code)
            await self._starting
        finally:
            # Of one that nobody waits for any more the worker may go on to report.
            if not self._starting.cancelled():
                self._starting = None
            self._on_stage = None

    def run(
        self, run_id: str, request: bytes, files: Sequence[StoredFile] = ()
    ) -> asyncio.Future[RunResult]:
        """Send a serialised request; the result comes in the future."""
        return self._begin(run_id, request, files, streams=False).ended

    def stream(self, run_id: str, request: bytes, files: Sequence[StoredFile] = ()) -> RemoteStream:
        """Send a serialised request; the outputs come in the stream."""
        run = self._begin(run_id, request, files, streams=True)
        assert run.stream is not None
        return run.stream

    def _begin(
        self, run_id: str, request: bytes, files: Sequence[StoredFile], *, streams: bool
    ) -> RemoteRun:
        run = RemoteRun(run_id, self._channel, self._files, self._broken, streams=streams)
        if self.exited.done():
            run.fail(WorkerDied.of(self.exited.result(), run_id))
            return run
        if self._run is not None:
            raise RuntimeError("one run at a time: the one before has not been answered")
        try:
            run.send_files(files)
        except DomainError as error:
            run.fail(error)
            return run
        # Not of this run.
        self._output.drain()
        self._run = run
        self._holding.run_began()
        run.send(request)
        return run

    def cancel(self, run_id: str) -> None:
        """Tell the worker that nobody waits for a run any more. Never raises."""
        if self._run is not None and self._run.id == run_id:
            self._run.cancel()

    async def stop(self, grace_seconds: float) -> None:
        """End the process: ask, and after the grace period kill its group. Never raises."""
        if not self.exited.done():
            stop = worker_pb2.ToWorker(stop=worker_pb2.Stop())
            self._channel.send(stop.SerializeToString())
            await self._exited_within(grace_seconds)
        if not self.exited.done():
            self.kill(signal.SIGTERM)
            await self._exited_within(min(grace_seconds, _LAST_SECONDS))
        if not self.exited.done():
            self.kill()
            await asyncio.wait({self.exited})

    async def _exited_within(self, seconds: float) -> None:
        either: set[asyncio.Future[Any]] = {self.exited, self._hurried}
        await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

    async def memory(self) -> int:
        """Bytes that it has, with all that it has started (see ``core.ports.Worker``)."""
        if self.pid == 0 or self._reaped:
            return 0
        return await self._holding.memory()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the process and its group."""
        self._killed = True
        # Once it has been reaped the number may be another's.
        if self.pid == 0 or self._reaped:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)
            return
        # It has not made its own group yet.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, number)

    def abandon(self) -> None:
        """Close the channel: the process, if it comes to exist, ends by itself."""
        self._channel.close()

    def _on_frame(self, frame: Frame) -> None:
        if frame.brief and not frame.fds:
            try:
                run_id, seconds = read_brief_success(frame.header)
            except ProtocolError:
                frame.close()
                raise
            self._answered(run_id, frame).succeed(seconds, frame)
            return
        try:
            message = worker_pb2.FromWorker.FromString(frame.header)
        except DecodeError:
            frame.close()
            raise ProtocolError("a header that is not a message") from None
        kind = message.WhichOneof("message")
        if kind == "output_file":
            self._unanswered(message.output_file.run_id, frame).add_file(message.output_file, frame)
            return
        if frame.fds:
            frame.close()
            raise ProtocolError("file descriptors that nobody asked for")
        if kind == "elements":
            self._unanswered(message.elements.run_id, frame).add_elements(frame)
            return
        if kind == "run_succeeded":
            run = self._answered(message.run_succeeded.run_id, frame)
            succeeded = message.run_succeeded
            nodes = messages.node_times(succeeded.nodes) if succeeded.nodes else ()
            run.succeed(succeeded.execution_seconds, frame, nodes)
            return
        frame.close()
        if kind == "run_failed":
            run = self._answered(message.run_failed.run_id, frame)
            limit = self._limits.response_bytes
            run.fail(messages.run_error(run.id, message.run_failed, limit))
        elif kind == "hello":
            if not self.hello.done():
                self.hello.set_result(None)
        elif self._starting is not None and self._starting.cancelled():
            log.debug("report of a startup that was given up", worker=self.id, kind=kind)
        elif self._starting is None or self._starting.done():
            raise ProtocolError(f"unexpected message: {kind}")
        elif kind == "stage":
            self._stages += 1
            if self._stages > _MOST_STAGES:
                raise ProtocolError("more stages than a startup may have")
            if self._on_stage is not None:
                self._on_stage(messages.stage(message.stage))
        elif kind == "started":
            self._output.drain()
            self._starting.set_result(None)
        elif kind == "start_failed":
            self._output.drain()
            error = messages.start_error(self._deployment, message.start_failed)
            self._starting.set_exception(error)
        else:
            raise ProtocolError(f"unexpected message: {kind}")

    def _hear(self, lines: list[str]) -> None:
        for line in lines:
            if line.startswith(last_words.MARK):
                self._last_words = last_words.heard_in(line) or self._last_words
        self._printed.extend(line[:_LINE_KEPT] for line in lines[-_LINES_KEPT:])
        run_id = "" if self._run is None else self._run.id
        self._on_output(Printed(self.id, lines, self._deployment, run_id))

    def _explained(self, exit_: Exit) -> Exit:
        """The end of the process, with what is known of it here."""
        exit_ = replace(exit_, printed=tuple(self._printed))
        if self._last_words and exit_.signal == last_words.SIGNAL:
            return replace(exit_, cause=self._last_words)
        return self._holding.explained(exit_, killed=self._killed)

    def _unanswered(self, run_id: str, frame: Frame) -> RemoteRun:
        """The run that a frame is about, which has to be the one in progress."""
        if self._run is None or self._run.id != run_id:
            frame.close()
            raise ProtocolError("it speaks of a run that it was not given")
        return self._run

    def _answered(self, run_id: str, frame: Frame) -> RemoteRun:
        run = self._unanswered(run_id, frame)
        # It has flushed its streams before it answered: what the run printed is here.
        self._output.drain()
        self._run = None
        self._holding.run_ended()
        return run

    def _on_closed(self, error: ProtocolError | None) -> None:
        if error is not None:
            self._broken(str(error))
        else:
            # It is ending, and its own way to end is the one to report.
            self._loop.call_later(_LAST_SECONDS, self.kill)

    def _broken(self, reason: str) -> None:
        log.error("worker killed: it broke the protocol", worker=self.id, reason=reason)
        self.kill()
        self._channel.close()
