"""The startup of a worker: loads the graph and executes its startup nodes, reporting each stage."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Sequence

from safetensors import SafetensorError

from pipeline import Graph, _fetching
from pipeline._fetching import UrlPolicy
from pipeline._graph import pickling
from pipeline.errors import StartupFailed
from pipelined import weights
from pipelined.worker import allotment, bundle, causes, scratch, weights_stages
from pipelined.worker.imports import ImportTimer
from pipelined_api.url_hosts import UrlHosts
from pipelined_api.v1 import deployments_pb2, timeline_pb2
from pipelined_api.worker.v1 import worker_pb2

Stage = timeline_pb2.Stage
Cause = worker_pb2.StartFailed.Cause

_log = logging.getLogger("pipelined.worker")


class Startup:
    """Gets the graph of a worker ready; may be attempted again after a node failed.

    Attributes:
        graph: The graph once it is ready to run, else None.
        max_response_bytes: What a response may have; 0 if there is no limit.
    """

    def __init__(self, send: Callable[[worker_pb2.FromWorker], None]) -> None:
        self._send = send
        self._loaded: Graph | None = None
        self._zero = 0.0
        self._node = ""
        self.graph: Graph | None = None
        self.max_response_bytes = 0

    def attempt(self, start: worker_pb2.Start, fds: Sequence[int]) -> bool:
        """Load and start the graph, and report how it went; return whether to go on.

        The file descriptors, of which the first is the code, are closed.
        """
        self._zero = start.timeline_zero
        self.max_response_bytes = start.max_response_bytes
        if start.folder:
            scratch.use(start.folder, for_user_code="TMPDIR" not in start.environment)
        # Of the attempt before, if there was one.
        weights.reset_loads()
        weights.set_budgets(_budgets(start))
        # Against what callers of runs ask for; the graph's own code may do what it likes.
        _fetching.set_policy(UrlPolicy(UrlHosts(start.url_hosts), start.url_bytes))
        # Not in runs: what they load is theirs to place.
        with weights.device_moves(), ImportTimer() as imports:
            try:
                failed = self._load(start, fds) if self._loaded is None else None
            finally:
                for fd in fds:
                    os.close(fd)
            if failed is None:
                failed = self._start_nodes()
        late = _await_copies()
        failed = late if failed is None else failed
        # A worker that waits for runs, or for another try, need not keep memory pinned.
        weights.release_pinned_memory()
        self._report_imports(imports)
        self._report_weights()
        if failed is not None:
            self._send(worker_pb2.FromWorker(start_failed=failed))
            return failed.cause == Cause.CAUSE_NODE
        self.graph = self._loaded
        scratch.begin_runs()
        self._stage(Stage.KIND_READY, time.monotonic(), 0.0)
        self._send(worker_pb2.FromWorker(started=worker_pb2.Started()))
        return True

    def node_started(self, node: str) -> None:
        """Take note of a startup node's beginning (an Observer of the graph)."""
        self._node = node

    def node_finished(self, node: str, seconds: float) -> None:
        """Report a startup node (an Observer of the graph)."""
        self._stage(Stage.KIND_NODE, time.monotonic() - seconds, seconds, name=node)

    def _load(self, start: worker_pb2.Start, fds: Sequence[int]) -> worker_pb2.StartFailed | None:
        began = time.monotonic()
        try:
            allotment.apply(start)
            self._loaded = _graph(start, fds)
        except BaseException as error:  # loading is running user code, which may raise anything
            return causes.of_code(error)
        self._stage(Stage.KIND_CODE, began, time.monotonic() - began, bytes=start.code_size)
        return None

    def _start_nodes(self) -> worker_pb2.StartFailed | None:
        assert self._loaded is not None
        try:
            self._loaded.startup(self)
        except StartupFailed as error:
            return causes.of_node(error.__cause__ or error, error.node)
        except BaseException as error:  # SystemExit and the like, which the graph lets pass
            return causes.of_node(error, self._node)
        return None

    def _report_imports(self, imports: ImportTimer) -> None:
        if imports.began is not None:
            self._stage(Stage.KIND_IMPORTS, imports.began, imports.seconds, name=imports.names)

    def _report_weights(self) -> None:
        loads = weights.loads()
        for load in loads:
            if load.error is not None:
                _log.warning("%s could not be read ahead: %s", load.path, load.error)
        for file in weights_stages.of_files(loads, time.monotonic()):
            self._stage(
                Stage.KIND_WEIGHTS,
                file.started,
                file.seconds,
                name=file.name,
                bytes=file.bytes,
                source=file.source,
            )

    def _stage(
        self,
        kind: Stage.Kind.ValueType,
        began: float,
        seconds: float,
        *,
        name: str = "",
        bytes: int = 0,
        source: str = "",
    ) -> None:
        stage = Stage(
            kind=kind,
            name=name,
            start_seconds=began - self._zero,
            seconds=seconds,
            bytes=bytes,
            source=source,
        )
        self._send(worker_pb2.FromWorker(stage=stage))


def _graph(start: worker_pb2.Start, fds: Sequence[int]) -> Graph:
    code = _code(start, fds)
    if start.code_format == deployments_pb2.DeployHeader.CODE_FORMAT_CLOUDPICKLE:
        # Graph.loads would import this module here, in every worker: so the nursery has it.
        return pickling.loads(code)
    if start.code_format == deployments_pb2.DeployHeader.CODE_FORMAT_BUNDLE:
        return bundle.graph_of(start, code)
    raise ValueError(f"code in a format that this worker does not know: {start.code_format}")


def _code(start: worker_pb2.Start, fds: Sequence[int]) -> bytes:
    if len(fds) != 1:
        raise ValueError("no code came with the order to start")
    with open(fds[0], "rb", closefd=False) as file:
        code = file.read(start.code_size + 1)
    if len(code) != start.code_size:
        raise ValueError(f"the code has {len(code)} bytes and not {start.code_size}")
    return code


def _budgets(start: worker_pb2.Start) -> weights.Budgets:
    return weights.Budgets(
        pinned_bytes=start.pinned_bytes or weights.Budgets().pinned_bytes,
        device_bytes=start.device_bytes or None,
    )


def _await_copies() -> worker_pb2.StartFailed | None:
    """Wait for weights whose last bytes are still on their way from pinned memory to a device."""
    for arena in weights.arenas("cuda"):
        # Not for one that was only begun: it may wait for memory that a run is to give back.
        if arena.stats().state == "enqueued":
            try:
                with contextlib.suppress(weights.Cancelled):
                    arena.wait()
            except (SafetensorError, OSError) as error:
                return causes.of_node(error, "")
    return None
