"""Real nurseries and workers for tests, without the rest of the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import Graph, Pipeline, Variable, _values, pipe
from pipelined.core.options import Options
from pipelined.core.ports import StartSpec
from pipelined.core.printed import Printed
from pipelined.core.stages import Stage, StageKind
from pipelined.nursery.remote_worker import RemoteWorker
from pipelined.nursery.supervisor import Nursery
from pipelined_api.v1 import runs_pb2

_DEFAULT = Options()
LIGHT_PRELOAD = ("numpy.random", "torch")


def graph_of(function: Callable[..., Any], *types: Any) -> Graph:
    """A graph of one node, with an input of each type."""
    with Pipeline() as builder:
        inputs = [Variable(type_) for type_ in types]
        builder.output(pipe(function)(*inputs))
    return builder.get_pipeline()


class Launching:
    """A nursery, and what a test does with it.

    Attributes:
        nursery: The supervisor.
        stages: Of the worker that was started last.
        lines: What was printed, as (process, line).
    """

    def __init__(self, folder: Path, nursery_options: Mapping[str, Any]) -> None:
        self.nursery = Nursery(on_output=self._on_output, **nursery_options)
        self.stages: list[Stage] = []
        self.lines: list[tuple[str, str]] = []
        self._folder = folder
        self._numbers = itertools.count(1)
        self._awaited: dict[tuple[str, str], asyncio.Future[None]] = {}

    async def launch(self, environment: Mapping[str, str] | None = None) -> RemoteWorker:
        """A worker that has no graph yet."""
        self.stages = []
        return await self.nursery.launch(environment or {}, time.monotonic(), self.stages.append)

    async def start(
        self,
        graph: Graph,
        environment: Mapping[str, str] | None = None,
        *,
        options: Options = _DEFAULT,
    ) -> RemoteWorker:
        """A worker that has started the graph."""
        worker = await self.launch(environment)
        await self.start_on(worker, graph, environment, options=options)
        return worker

    async def start_on(
        self,
        worker: RemoteWorker,
        graph: Graph | bytes,
        environment: Mapping[str, str] | None = None,
        *,
        options: Options = _DEFAULT,
    ) -> None:
        """Start the graph on a worker that is there."""
        code = graph if isinstance(graph, bytes) else graph.dumps()
        path = self._folder / f"code-{next(self._numbers)}"
        path.write_bytes(code)
        spec = StartSpec(
            deployment="test",
            version=1,
            code_path=path,
            code_size=len(code),
            options=options,
            environment=environment or {},
            zero=time.monotonic(),
        )
        await worker.start(spec, self.stages.append)

    async def printed(self, worker: RemoteWorker, text: str) -> None:
        """Wait until the worker has printed this line."""
        if (worker.id, text) not in self.lines:
            awaited = self._awaited.setdefault(
                (worker.id, text), asyncio.get_running_loop().create_future()
            )
            await awaited

    def _on_output(self, printed: Printed) -> None:
        for line in printed.lines:
            self.lines.append((printed.process, line))
            awaited = self._awaited.get((printed.process, line))
            if awaited is not None and not awaited.done():
                awaited.set_result(None)


@contextlib.asynccontextmanager
async def launching(
    folder: Path, preload: Sequence[str] = LIGHT_PRELOAD, **nursery_options: Any
) -> AsyncIterator[Launching]:
    """A nursery that has imported what it is to import, or given up, and is stopped at the end."""
    result = Launching(folder, {"preload": preload, **nursery_options})
    await result.nursery.start()
    try:
        await result.nursery.settled()
        yield result
    finally:
        await result.nursery.stop()


async def call(worker: RemoteWorker, *inputs: object, run_id: str = "run-1") -> Any:
    """Run the worker's graph, which has one output, and return that."""
    request = runs_pb2.RunRequest(inputs=[_values.encode(value) for value in inputs])
    result = await worker.run(run_id, request.SerializeToString())
    (output,) = runs_pb2.RunResponse.FromString(bytes(result.response)).outputs
    return _values.decode(output)


def source_of(launching: Launching) -> str:
    """How the last worker was started."""
    (fork,) = [stage for stage in launching.stages if stage.kind is StageKind.FORK]
    return fork.source


def with_modules(folder: Path, **sources: str) -> dict[str, str]:
    """An environment in which modules of this source can be imported."""
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source)
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def open_descriptors() -> int:
    """How many file descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def ended(pid: int) -> None:
    """Wait until a process has ended, whoever's child it is."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    gone = loop.create_future()
    loop.add_reader(fd, gone.set_result, None)
    try:
        await gone
    finally:
        loop.remove_reader(fd)
        os.close(fd)
