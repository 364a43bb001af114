"""The daemon's side of one nursery process, from its start to its death."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence

from google.protobuf.message import DecodeError

from pipelined.core.errors import Exit
from pipelined.nursery import messages
from pipelined.nursery.environment import of_nursery
from pipelined.nursery.output import OutputReader
from pipelined.nursery.reaping import Reaper
from pipelined.nursery.spawning import spawn
from pipelined.nursery.worker_user import WorkerUser
from pipelined.worker.channel import AsyncChannel, ProtocolError, socket_pair
from pipelined.worker.confinement import Confinement, to_text
from pipelined.worker.framing import Frame
from pipelined_api.worker.v1 import worker_pb2

# What it has to end by itself once its channel is closed.
_LAST_SECONDS = 1.0


class NurseryDied(Exception):
    """The nursery has ended, so whether it has forked is not known."""


class ForkRefused(Exception):
    """The nursery cannot fork, and says why."""


class ForkClient:
    """One nursery process.

    Args:
        reaper: Tells when it has ended.
        on_worker_exit: Gets a worker's id and how it ended.
        on_died: Called when the nursery has ended, before anybody who waits for it goes on.

    Attributes:
        pid: Its process id.
        preloaded: Done with what came of the preload list, or fails with NurseryDied.
        exited: Done when it has been reaped and its last words have been heard.
    """

    def __init__(
        self,
        reaper: Reaper,
        on_worker_exit: Callable[[str, Exit], None],
        on_died: Callable[[Exit], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.pid = 0
        self.preloaded: asyncio.Future[worker_pb2.Preloaded] = loop.create_future()
        self.exited: asyncio.Future[Exit] = loop.create_future()
        self._loop = loop
        self._reaper = reaper
        self._on_worker_exit = on_worker_exit
        self._on_died = on_died
        self._forks: dict[str, asyncio.Future[int]] = {}

    async def start(
        self,
        preload: Sequence[str],
        environment: Mapping[str, str],
        on_lines: Callable[[list[str]], None],
        confinement: Confinement | None = None,
        user: WorkerUser | None = None,
    ) -> None:
        """Start the process; it begins to import.

        Args:
            preload: What it imports.
            environment: All variables of its workers.
            on_lines: Gets what it prints.
            confinement: Of its workers.
            user: What it runs as; None for the daemon's own.

        Raises:
            OSError: The process cannot be started.
        """
        ours, theirs = socket_pair()
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        self._channel = AsyncChannel(ours, self._on_frame, self._on_closed)
        self._output = OutputReader(read_end, on_lines)
        try:
            with self._reaper.starting():
                # It waits until the new program runs, so not on the loop's thread.
                self.pid = await self._loop.run_in_executor(
                    None,
                    spawn,
                    "pipelined.nursery",
                    theirs.fileno(),
                    write_end,
                    of_nursery(environment),
                    user,
                )
                self._reaper.expect(self.pid, self._on_reaped)
        except BaseException:
            self._channel.close()
            self._output.close()
            raise
        finally:
            theirs.close()
            os.close(write_end)
        order = worker_pb2.Preload(
            modules=preload, environment=environment, confinement=to_text(confinement)
        )
        self._channel.send(worker_pb2.ToNursery(preload=order).SerializeToString())

    async def fork(self, worker_id: str, channel: int, output: int) -> int:
        """Fork a worker and return its process id.

        Args:
            worker_id: Names it in what the nursery reports.
            channel: The worker's end of its channel.
            output: Write end of the pipe for what it prints.

        Raises:
            NurseryDied: It ended before it said whether it had forked.
            ForkRefused: It cannot fork.
        """
        if self.exited.done():
            raise NurseryDied
        forked: asyncio.Future[int] = self._loop.create_future()
        self._forks[worker_id] = forked
        try:
            order = worker_pb2.ToNursery(fork=worker_pb2.Fork(worker_id=worker_id))
            self._channel.send(order.SerializeToString(), fds=[channel, output])
            return await forked
        finally:
            self._forks.pop(worker_id, None)

    async def stop(self) -> None:
        """End the process; its workers live on."""
        if self.exited.done():
            return
        # It ends when it notices, unless an import holds it up.
        self._channel.close()
        self.kill(signal.SIGTERM)
        await asyncio.wait({self.exited}, timeout=_LAST_SECONDS)
        if not self.exited.done():
            self.kill()
            await asyncio.wait({self.exited})

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the process."""
        if self.pid and not self.exited.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _on_frame(self, frame: Frame) -> None:
        header, fds = frame.header, frame.fds
        frame.close()
        try:
            message = worker_pb2.FromNursery.FromString(header)
        except DecodeError:
            raise ProtocolError("a header that is not a message") from None
        kind = message.WhichOneof("message")
        if kind == "preloaded" and not fds and not self.preloaded.done():
            self.preloaded.set_result(message.preloaded)
        elif kind == "forked":
            self._answer(message.forked.worker_id, message.forked.pid)
        elif kind == "fork_failed":
            self._answer(message.fork_failed.worker_id, ForkRefused(message.fork_failed.reason))
        elif kind == "exited":
            exit_ = messages.exit_of(message.exited.wait_status)
            self._on_worker_exit(message.exited.worker_id, exit_)
        else:
            raise ProtocolError(f"unexpected message: {kind}")

    def _answer(self, worker_id: str, answer: int | ForkRefused) -> None:
        forked = self._forks.get(worker_id)
        if forked is None or forked.done():
            return
        if isinstance(answer, int):
            forked.set_result(answer)
        else:
            forked.set_exception(answer)

    def _on_closed(self, error: ProtocolError | None) -> None:
        # A nursery that does not talk is as good as dead; mostly it is ending by itself.
        self._loop.call_later(0.0 if error else _LAST_SECONDS, self.kill)

    def _on_reaped(self, wait_status: int) -> None:
        self._channel.receive_rest()
        self._channel.close()
        self._output.close()
        exit_ = messages.exit_of(wait_status)
        self.exited.set_result(exit_)
        self._on_died(exit_)
        if not self.preloaded.done():
            self.preloaded.set_exception(NurseryDied())
            # It may be that nobody waits for it.
            self.preloaded.exception()
        for forked in self._forks.values():
            if not forked.done():
                forked.set_exception(NurseryDied())
