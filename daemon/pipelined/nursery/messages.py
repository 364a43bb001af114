"""The messages of the worker protocol, to and from the domain's terms."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from pipelined.core.errors import (
    DeviceOutOfMemory,
    DomainError,
    Exit,
    Failure,
    InvalidInput,
    OutputNotSendable,
    OutputTooLarge,
    RunCancelled,
    RunFailed,
    RunOutOfMemory,
    StartupFailed,
    StartupOutOfMemory,
)
from pipelined.core.ports import NodeTime, StartSpec
from pipelined.core.specification import BUNDLE
from pipelined.core.stages import Stage, StageKind
from pipelined.nursery.limits import Limits
from pipelined.worker.bounded import bounded
from pipelined_api.v1 import deployments_pb2, schema_pb2, timeline_pb2
from pipelined_api.worker.v1 import worker_pb2

# What is kept of what a worker says, in bytes. Of a run it is little more than what its status may
# have: thousands of them are remembered.
MAX_NAME = 1024
MAX_START_TEXT, MAX_START_TRACEBACK = 9 * 1024, 66 * 1024
MAX_RUN_TEXT, MAX_RUN_TRACEBACK = 2 * 1024, 4 * 1024
MAX_NODE_TIMES = 256

_START_CAUSES = {
    worker_pb2.StartFailed.CAUSE_NODE: "node",
    worker_pb2.StartFailed.CAUSE_CODE: "code",
    worker_pb2.StartFailed.CAUSE_MISSING_IMPORT: "missing_import",
    worker_pb2.StartFailed.CAUSE_WEIGHTS: "weights",
    worker_pb2.StartFailed.CAUSE_DEVICE: "device",
}
_OUT_OF_MEMORY = (
    worker_pb2.StartFailed.CAUSE_OUT_OF_MEMORY,
    worker_pb2.StartFailed.CAUSE_DEVICE_OUT_OF_MEMORY,
)


def start(
    spec: StartSpec, limits: Limits, folder: str, devices: Sequence[str] | None
) -> worker_pb2.ToWorker:
    """Return the order to start; the code goes beside it, what is temporary into the folder."""
    bundle = spec.code_format == BUNDLE
    return worker_pb2.ToWorker(
        start=worker_pb2.Start(
            deployment=spec.deployment,
            version=spec.version,
            code_format=deployments_pb2.DeployHeader.CodeFormat.Value(spec.code_format),
            code_size=spec.code_size,
            threads=spec.options.threads or 0,
            open_files=spec.options.open_files or 0,
            visible_devices=None if devices is None else ",".join(devices),
            environment=spec.environment,
            timeline_zero=spec.zero,
            max_response_bytes=limits.response_bytes,
            pinned_bytes=limits.pinned_bytes or 0,
            device_bytes=limits.device_bytes or 0,
            target=spec.target,
            schema=schema_pb2.Schema.FromString(spec.schema) if bundle else None,
            topology=spec.topology,
            folder=folder,
            url_hosts=limits.url_hosts,
            url_bytes=limits.url_bytes,
        )
    )


def stage(message: timeline_pb2.Stage) -> Stage:
    """Return a stage that a worker reported."""
    known = {kind.value for kind in StageKind}
    return Stage(
        kind=StageKind(message.kind) if message.kind in known else StageKind.NODE,
        name=bounded(message.name, MAX_NAME),
        start_seconds=message.start_seconds,
        seconds=message.seconds,
        bytes=message.bytes,
        source=bounded(message.source, MAX_NAME),
    )


def start_error(deployment: str, failed: worker_pb2.StartFailed) -> StartupFailed:
    """Return what a failed startup is to the caller."""
    failure = _failure(failed.failure, MAX_START_TEXT, MAX_START_TRACEBACK)
    if failed.cause in _OUT_OF_MEMORY:
        of_device = failed.cause == worker_pb2.StartFailed.CAUSE_DEVICE_OUT_OF_MEMORY
        return StartupOutOfMemory(deployment, failure, of_device=of_device)
    cause = _START_CAUSES.get(failed.cause, "code")
    return StartupFailed(
        deployment, failure, cause=cause, subject=bounded(failed.subject, MAX_NAME)
    )


def run_error(run_id: str, failed: worker_pb2.RunFailed, limit: int) -> DomainError:
    """Return what a failed run is to the caller."""
    failure = _failure(failed.failure, MAX_RUN_TEXT, MAX_RUN_TRACEBACK)
    subject = bounded(failed.subject, MAX_NAME)
    if failed.cause == worker_pb2.RunFailed.CAUSE_INVALID_INPUT:
        return InvalidInput(subject, failure.message, bounded(failed.bound, MAX_NAME) or None)
    if failed.cause == worker_pb2.RunFailed.CAUSE_OUTPUT_TYPE:
        return OutputNotSendable(run_id, subject, failure.message)
    if failed.cause == worker_pb2.RunFailed.CAUSE_OUTPUT_TOO_LARGE:
        return OutputTooLarge(run_id, failed.size, limit)
    if failed.cause == worker_pb2.RunFailed.CAUSE_CANCELLED:
        return RunCancelled(run_id)
    if failed.cause == worker_pb2.RunFailed.CAUSE_OUT_OF_MEMORY:
        return RunOutOfMemory(run_id, failure)
    if failed.cause == worker_pb2.RunFailed.CAUSE_DEVICE_OUT_OF_MEMORY:
        return DeviceOutOfMemory(run_id, failure)
    return RunFailed(run_id, failure)


def node_times(reported: Sequence[worker_pb2.NodeTime]) -> Sequence[NodeTime]:
    """Return when nodes were executed, of so many as anybody will look at."""
    return [
        NodeTime(bounded(node.name, MAX_NAME), node.at, node.seconds)
        for node in reported[:MAX_NODE_TIMES]
    ]


def exit_of(wait_status: int) -> Exit:
    """Return how a process ended, from its wait status."""
    code = os.waitstatus_to_exitcode(wait_status)
    if code >= 0:
        return Exit(exit_code=code)
    try:
        return Exit(signal=signal.Signals(-code).name)
    except ValueError:
        # A real-time signal, which Python has no name for.
        return Exit(signal=f"SIG{-code}")


def _failure(message: deployments_pb2.Failure, text: int, traceback: int) -> Failure:
    return Failure(
        bounded(message.type, MAX_NAME),
        bounded(message.message, text),
        bounded(message.traceback, traceback),
        bounded(message.node, MAX_NAME),
    )
