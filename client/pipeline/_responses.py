"""What callers of the client get, made from response messages. Pure: nothing is received here."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from pipeline._graph.streams import ABSENT
from pipeline._requirements import requirement_status
from pipeline._values import decode
from pipeline.deployment import (
    DaemonInfo,
    Deployment,
    Drained,
    Environment,
    Failure,
    NurseryInfo,
    Options,
    Pointer,
)
from pipeline.runs import LogLine, RunInfo
from pipeline.schema import DeploymentSchema
from pipeline.stats import DaemonStats, DeploymentStats, ProcessMemory
from pipeline.timeline import Stage, Timeline
from pipelined_api.v1 import (
    daemon_pb2,
    deployments_pb2,
    environments_pb2,
    runs_pb2,
    timeline_pb2,
    values_pb2,
)
from pipelined_api.wire_values import stored_files

if TYPE_CHECKING:
    from google.protobuf.descriptor import EnumDescriptor
    from google.protobuf.timestamp_pb2 import Timestamp

    from pipeline.objects.files import File

# One item per output; in a stream, ABSENT for what there is none of.
Row = list[object]
# As Transport.work is.
Work = Callable[[Callable[[], Row]], Awaitable[Row]]
# What is decoded in no time.
_SMALL_BYTES = 64 * 1024


def deployment(message: deployments_pb2.Deployment) -> Deployment:
    """Read one deployment."""
    return Deployment(
        name=message.name,
        version=message.version,
        state=_word(deployments_pb2.DeploymentState.DESCRIPTOR, message.state),
        digest=message.digest,
        schema=DeploymentSchema(message.schema),
        created_at=_time(message.created_at),
        instances=message.instances,
        environment=tuple(message.environment),
        failure=_failure(message.failure) if message.HasField("failure") else None,
        worker_pids=tuple(message.worker_pids),
        runs_succeeded=message.runs_succeeded,
        runs_failed=message.runs_failed,
        startups=message.startups,
        pointers=tuple(message.pointers),
        options=_options(message),
        secrets=tuple(message.secrets),
        worker_memory=tuple(message.worker_memory_bytes),
    )


async def decoded(
    values: Sequence[values_pb2.Value],
    referred: Callable[[values_pb2.File], File],
    work: Work,
) -> Row:
    """Make Python values.

    Args:
        values: the outputs of one message.
        referred: makes a File of a content that the daemon has.
        work: see ``Transport.work``. A large tensor is downloaded, which takes its time.

    """

    def decode_all() -> Row:
        return [decode(value, stored=referred) for value in values]

    small = sum(value.ByteSize() for value in values) <= _SMALL_BYTES
    if small and not any(True for value in values for _ in stored_files(value, "")):
        return decode_all()
    return await work(decode_all)


async def rows(
    messages: AsyncGenerator[runs_pb2.StreamResponse, None],
    outputs: int,
    referred: Callable[[values_pb2.File], File],
    work: Work,
) -> AsyncGenerator[Row, None]:
    """Read the outputs of a stream; in each row, what the message does not have is ABSENT.

    Args:
        messages: closed together with the rows.
        outputs: how many the deployment has, as far as is known.
        referred: makes a File of a content that the daemon has.
        work: see ``decoded``.

    """
    try:
        async for message in messages:
            # The last one has none.
            if message.outputs:
                items: Row = [ABSENT] * max(outputs, message.outputs[-1].index + 1)
                values = await decoded([part.value for part in message.outputs], referred, work)
                for part, value in zip(message.outputs, values, strict=True):
                    items[part.index] = value
                yield items
    finally:
        await messages.aclose()


def pointer(message: deployments_pb2.Pointer) -> Pointer:
    """Read one pointer."""
    return Pointer(
        pointer=message.pointer,
        name=message.name,
        version=message.version,
        locked=message.locked,
        created_at=_time(message.created_at),
        updated_at=_time(message.updated_at),
    )


def environment(message: environments_pb2.Environment) -> Environment:
    """Read one environment."""
    return Environment(
        name=message.name,
        requirements=tuple(message.requirements),
        created_at=_time(message.created_at),
        updated_at=_time(message.updated_at),
        statuses=tuple(map(requirement_status, message.statuses)),
    )


def run_info(message: runs_pb2.RunInfo) -> RunInfo:
    """Read what is known of a run."""
    return RunInfo(
        id=message.run_id,
        deployment=message.deployment,
        version=message.version,
        state=_word(runs_pb2.RunState.DESCRIPTOR, message.state),
        created_at=_time(message.created_at),
        started_at=_time(message.started_at) if message.HasField("started_at") else None,
        ended_at=_time(message.ended_at) if message.HasField("ended_at") else None,
        execution_seconds=message.execution_seconds,
        reason=message.error.reason,
        message=message.error.message,
        submitted=message.submitted,
        attempts=message.attempts,
        priority=message.priority,
        delivery=(
            _word(runs_pb2.Delivery.DESCRIPTOR, message.delivery) if message.delivery else ""
        ),
    )


def log_line(message: runs_pb2.LogLine) -> LogLine:
    """Read one line of a log."""
    return LogLine(
        time=_time(message.time),
        text=message.text,
        run_id=message.run_id,
        worker=message.worker,
        note=message.note,
    )


def stage(message: timeline_pb2.Stage) -> Stage:
    """Read one stage of a timeline."""
    return Stage(
        kind=_word(timeline_pb2.Stage.Kind.DESCRIPTOR, message.kind),
        name=message.name,
        start=message.start_seconds,
        seconds=message.seconds,
        bytes=message.bytes,
        source=message.source,
    )


def timeline(message: timeline_pb2.Timeline) -> Timeline:
    """Read a timeline."""
    return Timeline(
        deployment=message.deployment,
        version=message.version,
        startup=message.startup,
        started_at=_time(message.started_at),
        stages=tuple(stage(each) for each in message.stages),
        worker_pid=message.worker_pid,
    )


def info(message: daemon_pb2.InfoResponse) -> DaemonInfo:
    """Read what the daemon says about itself."""
    nursery = message.nursery
    return DaemonInfo(
        version=message.version,
        api_version=message.api_version,
        features=tuple(message.features),
        started_at=_time(message.started_at),
        pid=message.pid,
        python_version=message.python_version,
        nursery=NurseryInfo(
            state=_word(daemon_pb2.Nursery.State.DESCRIPTOR, nursery.state),
            pid=nursery.pid,
            preload_seconds=nursery.preload_seconds,
            preloaded=tuple(nursery.preloaded),
            failed=tuple(nursery.failed),
            exec_reason=nursery.exec_reason,
            restarts=nursery.restarts,
            memory_watched=nursery.memory_watched,
        ),
        max_message_bytes=message.max_message_bytes,
        gpus=tuple(message.gpus),
        draining=message.draining,
        not_serving_reason=message.not_serving_reason,
        caller=message.caller.id,
        role=message.caller.role,
        landlock_abi=message.isolation.landlock_abi,
        worker_user=message.isolation.worker_user,
    )


def stats(message: daemon_pb2.StatsResponse) -> DaemonStats:
    """Read what the daemon does."""
    return DaemonStats(
        deployments=tuple(_deployment_stats(each) for each in message.deployments),
        started_at=_time(message.started_at),
        memory=_memory(message.memory),
        open_files=message.open_files,
        stored_bytes=message.stored_bytes,
        failed_calls=dict(message.failed_calls),
    )


def _deployment_stats(message: daemon_pb2.DeploymentStats) -> DeploymentStats:
    states = deployments_pb2.DeploymentState.DESCRIPTOR
    return DeploymentStats(
        name=message.name,
        version=message.version,
        state=_word(states, message.state),
        instances={_word(states, each.state): each.count for each in message.instances},
        worker_pids=tuple(message.worker_pids),
        memory=_memory(message.memory),
        weights_bytes=message.weights_bytes,
        queued=message.queued,
        running=message.running,
        succeeded=message.succeeded,
        failed=message.failed,
        cancelled=message.cancelled,
        cold_starts=message.cold_starts,
        warm_starts=message.warm_starts,
        restarts=message.restarts,
        runs_per_second=message.runs_per_second,
        seconds_p50=message.seconds_p50,
        seconds_p99=message.seconds_p99,
    )


def _memory(message: daemon_pb2.ProcessMemory) -> ProcessMemory:
    known = message.HasField("proportional_bytes")
    return ProcessMemory(
        message.resident_bytes,
        message.anonymous_bytes,
        message.proportional_bytes if known else None,
    )


def drained(message: daemon_pb2.DrainResponse) -> Drained:
    """Read how a drain ended."""
    return Drained(unfinished_runs=message.unfinished_runs, seconds=message.seconds)


def _options(message: deployments_pb2.Deployment) -> Options:
    options = message.options
    if not message.HasField("options"):
        # An older daemon has nothing else.
        return Options(0, message.instances)
    gpus: int | tuple[str, ...] | None = None
    if options.HasField("gpus"):
        gpus = tuple(options.gpus.devices) or options.gpus.count
    return Options(
        min_instances=options.min_instances,
        max_instances=options.max_instances,
        memory_bytes=options.memory_bytes or None,
        threads=options.threads or None,
        gpus=gpus,
        cpu_seconds=options.cpu_seconds or None,
        open_files=options.open_files or None,
        queue_length=options.queue_length if options.HasField("queue_length") else None,
        concurrent_runs=options.concurrent_runs or None,
    )


def _failure(message: deployments_pb2.Failure) -> Failure:
    return Failure(
        type=message.type, message=message.message, node=message.node, traceback=message.traceback
    )


def _word(enum: EnumDescriptor, number: int) -> str:
    """Name an enum's value in lower case, without the prefix that all values of the enum share."""
    # A newer daemon may know values that this client does not: a number is better than an error.
    if number not in enum.values_by_number:
        return str(number)
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return enum.values_by_number[number].name.removeprefix(prefix).lower()


def _time(message: Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=timezone.utc)
