"""The files that a run gives back, from the worker's descriptors to the store of files."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pipelined.core.errors import StorageFailed
from pipelined.core.files import DIGEST_BYTES, OutputKeeper
from pipelined.worker.channel import ProtocolError
from pipelined.worker.framing import Frame
from pipelined_api.limits import MAX_FILES_PER_RUN
from pipelined_api.worker.v1 import worker_pb2


@dataclass(frozen=True, slots=True)
class _Output:
    descriptor: int
    sha256: str
    size: int


class OutputFiles:
    """What a run gives back.

    Args:
        keeper: Where it goes; None if runs cannot give back large files.
        run_id: Of the run.
    """

    def __init__(self, keeper: OutputKeeper | None, run_id: str) -> None:
        self._keeper = keeper
        self._run_id = run_id
        self._outputs: list[_Output] = []

    @property
    def count(self) -> int:
        """How many files have to be kept."""
        return len(self._outputs)

    def add(self, output: worker_pb2.OutputFile, frame: Frame) -> None:
        """Take over the descriptor of a file.

        Raises:
            ProtocolError: The worker may not, or not so.
        """
        if (
            len(output.sha256) != DIGEST_BYTES
            or len(frame.fds) != 1
            or len(self._outputs) == MAX_FILES_PER_RUN
        ):
            frame.close()
            raise ProtocolError("an output file that was not asked for")
        [descriptor] = frame.take_fds()
        frame.close()
        self._outputs.append(_Output(descriptor, output.sha256.hex(), output.size))

    async def keep(self) -> None:
        """Keep all of them, one by one (see ``core.files.OutputKeeper``)."""
        if self._keeper is None:
            raise StorageFailed("keep an output", "there is no store of files")
        for output in self._outputs:
            await self._keeper.keep(output.descriptor, output.sha256, output.size, self._run_id)

    def take(self) -> OutputFiles:
        """Part with those that have come, as the message that refers to them has."""
        taken = OutputFiles(self._keeper, self._run_id)
        taken._outputs, self._outputs = self._outputs, []
        return taken

    def close(self) -> None:
        """Close the descriptors."""
        outputs, self._outputs = self._outputs, []
        for output in outputs:
            os.close(output.descriptor)
