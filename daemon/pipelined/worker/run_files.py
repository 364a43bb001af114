"""The files of one run in the worker: what its inputs refer to, and what it gives back."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pipeline import File, _scratch
from pipeline.errors import SerialisationError
from pipelined.worker.channel import Channel
from pipelined_api.limits import MAX_FILES_PER_RUN
from pipelined_api.v1 import values_pb2
from pipelined_api.worker.v1 import worker_pb2


class RunFiles:
    """Open contents, and the names that user code sees them under.

    An input is a symbolic link to a descriptor of this process, in a folder of this run and under
    the file's own name: nothing is copied, and children of the worker can open it too. Where the
    worker may reach the store itself it is a hard link, so that what resolves the path ends there.
    The content is read-only. ``close`` removes the folder and closes everything: a File kept beyond
    its run cannot be opened any more.
    """

    def __init__(self) -> None:
        self._inputs: dict[bytes, int] = {}
        self._outputs: dict[bytes, tuple[int, int]] = {}
        self._folder: Path | None = None
        self._links = 0

    @property
    def any(self) -> bool:
        """Whether there are any; the folder is made for inputs."""
        return bool(self._inputs or self._outputs)

    def add_input(self, sha256: bytes, descriptor: int) -> None:
        """Take over a descriptor of a content that the inputs refer to."""
        if (before := self._inputs.pop(sha256, None)) is not None:
            os.close(before)
        self._inputs[sha256] = descriptor

    def open_input(self, wire: values_pb2.File) -> File:
        """Return the File that a wire value refers to.

        Raises:
            SerialisationError: Its content has not come.
        """
        descriptor = self._inputs.get(wire.sha256)
        if descriptor is None:
            raise SerialisationError(f"the content of file {wire.name!r} is not here")
        if self._folder is None:
            self._folder = Path(_scratch.make_folder("pipeline-run-"))
        # Each in a folder of its own: two may have one name.
        folder = self._folder / str(self._links)
        self._links += 1
        folder.mkdir()
        path = folder / wire.name
        here = f"/proc/{os.getpid()}/fd/{descriptor}"
        try:
            # It follows links only with a descriptor, of which an absolute path makes no use.
            os.link(here, path, src_dir_fd=descriptor, follow_symlinks=True)
        except OSError:
            path.symlink_to(here)
        return File.from_stored(
            path, name=wire.name, media_type=wire.media_type, sha256=wire.sha256.hex()
        )

    def take_output(self, file: File) -> str:
        """Open a File that is given back; return its digest in hexadecimal.

        Raises:
            SerialisationError: There are too many, or it cannot be read.
        """
        if len(self._outputs) == MAX_FILES_PER_RUN:
            raise SerialisationError(f"more than {MAX_FILES_PER_RUN} large contents")
        try:
            descriptor = file.open_descriptor()
        except OSError as error:
            raise SerialisationError(f"{file!r} cannot be read: {error.strerror}") from error
        sha256 = file.sha256
        digest = bytes.fromhex(sha256)
        if digest in self._outputs:
            os.close(descriptor)
        else:
            self._outputs[digest] = (descriptor, os.fstat(descriptor).st_size)
        return sha256

    def send_outputs(self, channel: Channel, run_id: str) -> int:
        """Pass on what is given back; the message that refers to it has to follow.

        Returns:
            How many files they were.

        Raises:
            ChannelClosed: The daemon is gone.
        """
        for sha256, (descriptor, size) in self._outputs.items():
            output = worker_pb2.OutputFile(run_id=run_id, sha256=sha256, size=size)
            message = worker_pb2.FromWorker(output_file=output)
            channel.send(message.SerializeToString(), fds=[descriptor])
        sent = len(self._outputs)
        self._close_outputs()
        return sent

    def close(self) -> None:
        """Close the contents, and remove their names."""
        for descriptor in self._inputs.values():
            os.close(descriptor)
        self._inputs.clear()
        self._close_outputs()
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _close_outputs(self) -> None:
        for descriptor, _ in self._outputs.values():
            os.close(descriptor)
        self._outputs.clear()
