"""What may be chosen for a deployment's workers, from keyword arguments to the message.

::

    message = options_message(instances=None, options={"memory": "4GiB", "max_instances": 4})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from pipeline import errors
from pipeline._checks import check_variables, check_whole
from pipelined_api.sizes import InvalidSize, parse_size
from pipelined_api.v1 import deployments_pb2

__all__ = ["DeployOptions", "as_given", "checked_secrets", "options_message"]

# As the message's fields have them.
_MOST = 2**32 - 1
_MOST_BYTES = 2**63 - 1
# What the daemon calls some of them.
_ARGUMENTS = {"memory_bytes": "memory", "gpus.count": "gpus", "gpus.devices": "gpus"}


class DeployOptions(TypedDict, total=False):
    """Keyword arguments of ``Client.deploy`` and of its likes, each of which may be left out.

    Keys:
        min_instances: workers that are started when it is deployed, and kept. 0, the default: it is
            cold until it is asked for.
        max_instances: workers that there may be: more of them are started while runs wait. The
            default is ``min_instances``, and at least 1.
        memory: what each worker may have of the host's memory, such as ``"4GiB"`` or bytes; one
            that takes more is killed.
        threads: of a parallel operation in a worker.
        gpus: that each worker sees: how many, or which (``[0, 1]``, or ids of the driver).
        cpu_seconds: time on processors that one run may take.
        open_files: that a worker may have at once.
        queue_length: runs that may wait for a worker before more are refused.
        concurrent_runs: runs that are executed at once.
        secrets: variables for its workers whose values are never shown again.
    """

    min_instances: int | None
    max_instances: int | None
    memory: str | int | None
    threads: int | None
    gpus: int | Sequence[int | str] | None
    cpu_seconds: float | None
    open_files: int | None
    queue_length: int | None
    concurrent_runs: int | None
    secrets: Mapping[str, str] | None


def options_message(instances: int | None, options: DeployOptions) -> deployments_pb2.Options:
    """Make the message of what was given; the daemon knows the bounds.

    Raises:
        TypeError: there is no such option.
        errors.InvalidInput: one is of another type, or is no number of its kind.

    """
    unknown = sorted(options.keys() - DeployOptions.__annotations__.keys())
    if unknown:
        raise TypeError(f"deploying takes no argument {unknown[0]!r}")
    least, most = options.get("min_instances"), options.get("max_instances")
    if instances is not None:
        if least is not None or most is not None:
            raise errors.InvalidInput(
                "instances is short for both min_instances and max_instances: give one or the "
                "others",
                field="instances",
            )
        least = most = _whole("instances", instances, 1)
    cpu_seconds = options.get("cpu_seconds")
    if cpu_seconds is not None and not (_is_number(cpu_seconds) and cpu_seconds > 0):
        raise errors.InvalidInput(
            f"cpu_seconds {cpu_seconds!r} is no number above 0", field="cpu_seconds", bound="gt=0"
        )
    given = {
        "min_instances": _whole("min_instances", least, 0),
        "max_instances": _whole("max_instances", most, 1),
        "threads": _whole("threads", options.get("threads"), 1),
        "memory_bytes": _memory(options.get("memory")),
        "cpu_seconds": cpu_seconds,
        "open_files": _whole("open_files", options.get("open_files"), 1),
        "queue_length": _whole("queue_length", options.get("queue_length"), 0),
        "concurrent_runs": _whole("concurrent_runs", options.get("concurrent_runs"), 1),
    }
    message = deployments_pb2.Options()
    for name, value in given.items():
        if value is not None:
            setattr(message, name, value)
    if (gpus := options.get("gpus")) is not None:
        message.gpus.CopyFrom(_gpus(gpus))
    return message


def checked_secrets(options: DeployOptions) -> Mapping[str, str]:
    """Return the secrets; no error shows one.

    Raises:
        errors.InvalidInput: they are no mapping of str to str.

    """
    secrets = options.get("secrets")
    if secrets is None:
        return {}
    check_variables(secrets, "secrets")
    return secrets


def as_given(error: errors.InvalidInput) -> errors.InvalidInput:
    """Return the daemon's error about an option, or another one, with the name of its argument."""
    prefix = "options."
    if not error.field.startswith(prefix):
        return error
    field = error.field.removeprefix(prefix)
    argument = _ARGUMENTS.get(field, field)
    return errors.InvalidInput(
        str(error).replace(error.field, argument, 1),
        field=argument,
        bound=error.bound,
        reason=error.reason,
        metadata=error.metadata,
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(name: str, value: int | None, least: int, most: int = _MOST) -> int | None:
    if value is None:
        return None
    check_whole(value, name)
    if value < least:
        raise errors.InvalidInput(
            f"{name} {value} is below {least}", field=name, bound=f"ge={least}"
        )
    if value > most:
        raise errors.InvalidInput(f"{name} {value} is above {most}", field=name, bound=f"le={most}")
    return value


def _memory(value: str | int | None) -> int | None:
    if isinstance(value, str):
        try:
            return parse_size(value)
        except InvalidSize as error:
            raise errors.InvalidInput(f"memory: {error}", field="memory") from None
    return _whole("memory", value, 0, _MOST_BYTES)


def _gpus(value: int | Sequence[int | str]) -> deployments_pb2.Gpus:
    if isinstance(value, int):
        return deployments_pb2.Gpus(count=_whole("gpus", value, 0) or 0)
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise errors.InvalidInput(
            f"gpus has to be how many, or a list of which, not {type(value).__name__}", field="gpus"
        )
    return deployments_pb2.Gpus(devices=[str(device) for device in value])
