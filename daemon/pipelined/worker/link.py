"""The worker's side of one run: hears of its end, and sends what of a stream there is room for."""

from __future__ import annotations

import time

from pipelined.worker.channel import Channel
from pipelined.worker.flow import Ahead
from pipelined.worker.framing import Frame
from pipelined.worker.run_files import RunFiles
from pipelined_api.worker.v1 import worker_pb2

__all__ = ["Cancelled", "Link"]

# How late a run may hear, at a node, that it is not to go on.
_LOOK_SECONDS = 0.001


class Cancelled(Exception):
    """Nobody waits for the run any more."""


class Link:
    """Between a run and its caller.

    Args:
        channel: to the daemon; nobody else reads it during the run.
        run_id: of the run.
        files: has those that what is sent refers to.

    Attributes:
        stopping: the daemon has told the worker to stop, which ends a stream first.

    """

    def __init__(self, channel: Channel, run_id: str, files: RunFiles) -> None:
        self._channel = channel
        self._run_id = run_id
        self._files = files
        self._ahead = Ahead()
        self._cancelled = False
        # The channel has just been read: that is where the run came from.
        self._next_look = time.monotonic() + _LOOK_SECONDS
        self.stopping = False

    def check(self) -> None:
        """Look whether the run is to go on; does not wait.

        A look is a system call: nodes that take microseconds share one.

        Raises:
            Cancelled: It is not.
            ChannelClosed: The daemon is gone.
            ProtocolError: It does not keep to the protocol.
        """
        if (now := time.monotonic()) >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            while (frame := self._arrived()) is not None:
                self._heed(frame)
        if self._cancelled:
            raise Cancelled

    def wanted(self) -> bool:
        """Wait for room, and return whether the caller still reads.

        Raises:
            ChannelClosed: The daemon is gone.
            ProtocolError: It does not keep to the protocol.
        """
        while not self._over and (frame := self._next()) is not None:
            self._heed(frame)
        return not self._over

    def send(self, payload: bytes) -> None:
        """Send a serialised StreamResponse; to be called when it is ``wanted``.

        Raises:
            ChannelClosed: The daemon is gone.
        """
        files = self._files.send_outputs(self._channel, self._run_id)
        elements = worker_pb2.Elements(run_id=self._run_id)
        self._channel.send(worker_pb2.FromWorker(elements=elements).SerializeToString(), payload)
        self._ahead.sent(len(payload), files)

    @property
    def _over(self) -> bool:
        return self._cancelled or self.stopping

    def _next(self) -> Frame | None:
        """Return a frame that is here; wait for one only while there is no room."""
        frame = self._arrived()
        return self._channel.receive() if frame is None and self._ahead.is_full else frame

    def _arrived(self) -> Frame | None:
        if (frame := self._channel.received()) is not None:
            return frame
        return self._channel.receive() if self._channel.is_readable() else None

    def _heed(self, frame: Frame) -> None:
        message = worker_pb2.ToWorker.FromString(frame.header)
        frame.close()
        kind = message.WhichOneof("message")
        if kind == "credit" and message.credit.run_id == self._run_id:
            self._ahead.taken(message.credit.messages)
        elif kind == "cancel" and message.cancel.run_id == self._run_id:
            self._cancelled = True
        elif kind not in ("credit", "cancel"):
            # A stop, or what makes no sense here and ends the worker, too.
            self.stopping = True
