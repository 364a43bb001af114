"""Objects of the domain as messages."""

from __future__ import annotations

import time
from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from pipelined.core.compatibility import RequirementStatus
from pipelined.core.deployment import Deployment
from pipelined.core.errors import InvalidRequest
from pipelined.core.references import Pointer
from pipelined.core.specification import Code, Specification
from pipelined.core.stages import Stage, Timeline
from pipelined.rpc.caller import caller
from pipelined.rpc.options import options_message, options_of
from pipelined_api.v1 import daemon_pb2, deployments_pb2, schema_pb2, timeline_pb2

CODE_FORMATS = (
    deployments_pb2.DeployHeader.CODE_FORMAT_CLOUDPICKLE,
    deployments_pb2.DeployHeader.CODE_FORMAT_BUNDLE,
)


MAX_KEY_LENGTH = 256


def checked_key(key: str) -> str:
    """Return an idempotency key, which may be empty. Raises InvalidRequest if it is too long."""
    if len(key) > MAX_KEY_LENGTH:
        raise InvalidRequest("idempotency_key", f"has more than {MAX_KEY_LENGTH} characters")
    return key


def timestamp(seconds: float) -> Timestamp:
    """Seconds since the epoch as a Timestamp."""
    message = Timestamp()
    message.FromNanoseconds(int(seconds * 1e9))
    return message


def deployment_message(
    deployment: Deployment, pointers: Sequence[str]
) -> deployments_pb2.Deployment:
    """A deployment as it is now, with the tags of the pointers to it."""
    specification = deployment.specification
    message = deployments_pb2.Deployment(
        name=specification.name,
        version=specification.version,
        state=deployments_pb2.DeploymentState.ValueType(deployment.state.value),
        digest=specification.digest,
        schema=schema_pb2.Schema.FromString(specification.schema),
        created_at=timestamp(specification.created_at),
        instances=specification.options.max_instances,
        environment=sorted(specification.environment),
        worker_pids=deployment.instances.worker_pids,
        runs_succeeded=deployment.runs_succeeded,
        runs_failed=deployment.runs_failed,
        startups=deployment.instances.startups,
        pointers=pointers,
        options=options_message(specification.options),
        secrets=sorted(specification.secrets),
    )
    if (failure := deployment.failure) is not None:
        message.failure.type = failure.type
        message.failure.message = failure.message
        if caller().sees_code:
            message.failure.traceback = failure.traceback
        message.failure.node = failure.node
    return message


def pointer_message(pointer: Pointer) -> deployments_pb2.Pointer:
    """One pointer."""
    return deployments_pb2.Pointer(
        pointer=pointer.reference,
        name=pointer.name,
        version=pointer.version,
        locked=pointer.locked,
        created_at=timestamp(pointer.created_at),
        updated_at=timestamp(pointer.updated_at),
    )


def requirement_message(status: RequirementStatus) -> daemon_pb2.RequirementStatus:
    """One requirement and what is installed."""
    return daemon_pb2.RequirementStatus(
        requirement=status.requirement,
        package=status.package,
        state=daemon_pb2.RequirementStatus.State.ValueType(status.state.value),
        installed_version=status.installed,
    )


def stage_message(stage: Stage) -> timeline_pb2.Stage:
    """One stage."""
    return timeline_pb2.Stage(
        kind=timeline_pb2.Stage.Kind.ValueType(stage.kind.value),
        name=stage.name,
        start_seconds=stage.start_seconds,
        seconds=stage.seconds,
        bytes=stage.bytes,
        source=stage.source,
    )


def timeline_message(timeline: Timeline) -> timeline_pb2.Timeline:
    """A timeline, its stages in the order of their beginnings."""
    return timeline_pb2.Timeline(
        deployment=timeline.deployment,
        version=timeline.version,
        startup=timeline.startup,
        started_at=timestamp(timeline.started_at),
        stages=[
            stage_message(stage)
            for stage in sorted(timeline.stages, key=lambda stage: stage.start_seconds)
        ],
        worker_pid=timeline.worker_pid,
    )


def specification_of(header: deployments_pb2.DeployHeader) -> Specification:
    """What a header asks for; its version is not known yet.

    Raises:
        InvalidRequest: A field cannot be read.
    """
    if header.code_format not in CODE_FORMATS:
        known = " and ".join(map(deployments_pb2.DeployHeader.CodeFormat.Name, CODE_FORMATS))
        raise InvalidRequest("code_format", f"only {known} are known here")
    is_bundle = header.code_format == deployments_pb2.DeployHeader.CODE_FORMAT_BUNDLE
    if len(header.code_sha256) != 32:
        raise InvalidRequest("code_sha256", f"has {len(header.code_sha256)} bytes instead of 32")
    code = Code(
        format=deployments_pb2.DeployHeader.CodeFormat.Name(header.code_format),
        size=header.code_size,
        sha256=header.code_sha256.hex(),
        target=header.target if is_bundle else "",
        topology=tuple(header.topology) if is_bundle else (),
    )
    return Specification(
        name=header.name,
        version=0,
        digest=header.digest,
        schema=header.schema.SerializeToString(deterministic=True),
        code=code,
        environment=dict(header.environment),
        created_at=time.time(),
        options=options_of(header),
        secrets=dict(header.secrets),
    )
