"""Reports as messages."""

from __future__ import annotations

from pipelined.core.reports import DaemonReport, DeploymentReport, ProcessMemory
from pipelined_api.v1 import daemon_pb2, deployments_pb2


def stats_message(report: DaemonReport) -> daemon_pb2.StatsResponse:
    """A report, without what it does not know of the daemon's life."""
    return daemon_pb2.StatsResponse(
        deployments=[_deployment(each) for each in report.deployments],
        memory=_memory(report.memory),
        open_files=report.open_files,
        stored_bytes=report.stored_bytes,
        failed_calls=report.failed_calls,
    )


def _deployment(report: DeploymentReport) -> daemon_pb2.DeploymentStats:
    return daemon_pb2.DeploymentStats(
        name=report.name,
        version=report.version,
        state=deployments_pb2.DeploymentState.ValueType(report.state.value),
        instances=[
            daemon_pb2.InstanceCount(
                state=deployments_pb2.DeploymentState.ValueType(state.value), count=count
            )
            for state, count in sorted(report.instances.items(), key=lambda item: item[0].value)
        ],
        worker_pids=report.workers,
        memory=_memory(report.memory),
        weights_bytes=report.weights_bytes,
        queued=report.queued,
        running=report.running,
        succeeded=report.succeeded,
        failed=report.failed,
        cancelled=report.cancelled,
        cold_starts=report.cold_starts,
        warm_starts=report.warm_starts,
        restarts=report.restarts,
        runs_per_second=report.runs_per_second,
        seconds_p50=report.seconds_p50,
        seconds_p99=report.seconds_p99,
    )


def _memory(memory: ProcessMemory) -> daemon_pb2.ProcessMemory:
    return daemon_pb2.ProcessMemory(
        resident_bytes=memory.resident,
        anonymous_bytes=memory.anonymous,
        proportional_bytes=memory.proportional,
    )
