"""The options of a deployment as messages, and back."""

from __future__ import annotations

from pipelined.core.errors import InvalidRequest
from pipelined.core.options import MAX_INSTANCES, Options
from pipelined_api.v1 import deployments_pb2


def options_of(header: deployments_pb2.DeployHeader) -> Options:
    """What a header asks for; only what it leaves out is filled in.

    Raises:
        InvalidRequest: It says the same twice.
    """
    message = header.options
    least, most = message.min_instances, message.max_instances
    # Older clients give 1 where nothing was asked for.
    if header.instances > 1:
        if least or most:
            raise InvalidRequest("instances", "is given beside options.min_instances or -max_")
        if header.instances > MAX_INSTANCES:
            raise InvalidRequest(
                "instances", f"{header.instances} is not between 1 and {MAX_INSTANCES}"
            )
        least = most = header.instances
    return Options(
        min_instances=least,
        max_instances=most or max(least, 1),
        threads=message.threads or None,
        gpus=_gpus_of(message.gpus) if message.HasField("gpus") else None,
        memory_bytes=message.memory_bytes or None,
        cpu_seconds=message.cpu_seconds or None,
        open_files=message.open_files or None,
        queue_length=message.queue_length if message.HasField("queue_length") else None,
        concurrent_runs=message.concurrent_runs or None,
    )


def options_message(options: Options) -> deployments_pb2.Options:
    """The options as they hold."""
    message = deployments_pb2.Options(
        min_instances=options.min_instances,
        max_instances=options.max_instances,
        threads=options.threads or 0,
        memory_bytes=options.memory_bytes or 0,
        cpu_seconds=options.cpu_seconds or 0.0,
        open_files=options.open_files or 0,
        queue_length=options.queue_length,
        concurrent_runs=options.concurrent_runs or 0,
    )
    if isinstance(options.gpus, tuple):
        message.gpus.devices.extend(options.gpus)
    elif options.gpus is not None:
        message.gpus.count = options.gpus
        # Present, also where it is 0.
        message.gpus.SetInParent()
    return message


def _gpus_of(message: deployments_pb2.Gpus) -> int | tuple[str, ...]:
    if not message.devices:
        return message.count
    if message.count:
        raise InvalidRequest("options.gpus", "gives a count and devices")
    return tuple(message.devices)
