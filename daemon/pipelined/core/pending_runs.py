"""A submitted run that has not ended, and its hold on an instance."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from pipelined.core.deployment import Deployment
from pipelined.core.files import StoredFile
from pipelined.core.instance import Instance
from pipelined.core.run import Run
from pipelined.core.run_queue import Waiting


@dataclass(slots=True, eq=False)
class Pending:
    """A run that has not ended.

    Attributes:
        run: It.
        deployment: The version that it is of.
        request_bytes: Of its request, on disk.
        held: Keeps its files.
        files: Those.
        accepted: Done when it is on disk.
        waiting: Its place in the queue, while it has one.
        attempt: Executes it, while something does.
        expiry: Ends it when its time is over.
        ending: Its end is being written.
    """

    run: Run
    deployment: Deployment
    request_bytes: int
    held: contextlib.ExitStack
    files: Sequence[StoredFile] = ()
    accepted: asyncio.Task[None] | None = None
    waiting: Waiting | None = None
    attempt: asyncio.Task[None] | None = None
    expiry: asyncio.TimerHandle | None = None
    ending: bool = False


class Claim:
    """An instance that a run was given: on its way to a worker, or to be given back.

    Attributes:
        begun: The worker has got the run.
    """

    def __init__(self, deployment: Deployment, instance: Instance) -> None:
        self._deployment = deployment
        self._instance: Instance | None = instance
        self.begun = False

    def use(self) -> Instance:
        """Hand it to whoever gives it back."""
        instance, self._instance = self._instance, None
        assert instance is not None
        return instance

    def release(self) -> None:
        """Give it back, unless it has been used."""
        if self._instance is not None:
            self._deployment.give_back(self.use())
