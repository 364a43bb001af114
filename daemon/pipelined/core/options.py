"""How many workers a deployment has, and what each of them may take."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from pipelined.core.errors import InvalidRequest

MAX_INSTANCES = 64
MAX_THREADS = 1024
MAX_GPUS = 64
# The interpreter with what a worker imports of its own takes about half of it.
LEAST_MEMORY_BYTES = 32 * 2**20
MAX_MEMORY_BYTES = 2**63 - 1
MAX_CPU_SECONDS = 30 * 86400.0
# A worker has about 20 open before user code opens any.
LEAST_OPEN_FILES = 64
MAX_OPEN_FILES = 2**20
MAX_QUEUE_LENGTH = 100_000
MAX_CONCURRENT_RUNS = 1000
DEFAULT_QUEUE_LENGTH = 1000

# As CUDA_VISIBLE_DEVICES has them: an index, or what `nvidia-smi -L` shows.
_GPU = re.compile(r"\d{1,3}|(GPU|MIG)-[0-9A-Za-z/-]{1,120}")


@dataclass(frozen=True, slots=True)
class Options:
    """What whoever deploys may choose. None where there is no limit, or a default of others.

    Attributes:
        min_instances: Workers that are started when it is deployed, and kept. With 0 it is cold
            until it is asked for.
        max_instances: Workers that there may be.
        threads: Of a parallel operation in a worker.
        gpus: That each worker sees: so many, which the launcher chooses, or these by index or id.
        memory_bytes: That a worker and the processes that it starts may have of the host.
        cpu_seconds: Time on processors that one run may take.
        open_files: That a worker may have at once.
        queue_length: Runs that may wait for a worker.
        concurrent_runs: That are executed at once.
    """

    min_instances: int = 0
    max_instances: int = 1
    threads: int | None = None
    gpus: int | tuple[str, ...] | None = None
    memory_bytes: int | None = None
    cpu_seconds: float | None = None
    open_files: int | None = None
    queue_length: int | None = None
    concurrent_runs: int | None = None


def validate_options(options: Options) -> None:
    """Check every field.

    Raises:
        InvalidRequest: One is out of its bounds; names it and the bound.
    """
    _check("max_instances", options.max_instances, 1, MAX_INSTANCES)
    _check("min_instances", options.min_instances, 0, MAX_INSTANCES)
    if options.min_instances > options.max_instances:
        raise InvalidRequest(
            "options.min_instances",
            f"{options.min_instances} is more than max_instances, which is {options.max_instances}",
        )
    _check("threads", options.threads, 1, MAX_THREADS)
    memory = options.memory_bytes
    if memory is not None and memory < LEAST_MEMORY_BYTES:
        raise InvalidRequest(
            "options.memory_bytes", f"{memory} bytes are fewer than {LEAST_MEMORY_BYTES} (32MiB)"
        )
    _check("memory_bytes", memory, LEAST_MEMORY_BYTES, MAX_MEMORY_BYTES)
    _check("open_files", options.open_files, LEAST_OPEN_FILES, MAX_OPEN_FILES)
    _check("queue_length", options.queue_length, 0, MAX_QUEUE_LENGTH)
    _check("concurrent_runs", options.concurrent_runs, 1, MAX_CONCURRENT_RUNS)
    seconds = options.cpu_seconds
    if seconds is not None and not (math.isfinite(seconds) and 0 < seconds <= MAX_CPU_SECONDS):
        raise InvalidRequest(
            "options.cpu_seconds", f"{seconds:g} is not above 0 and at most {MAX_CPU_SECONDS:.0f}"
        )
    if isinstance(options.gpus, tuple):
        _check_devices(options.gpus)
    else:
        _check("gpus.count", options.gpus, 0, MAX_GPUS)


def _check(name: str, value: int | None, least: int, most: int) -> None:
    if value is not None and not least <= value <= most:
        raise InvalidRequest(f"options.{name}", f"{value} is not between {least} and {most}")


def _check_devices(devices: tuple[str, ...]) -> None:
    field = "options.gpus.devices"
    if len(devices) > MAX_GPUS:
        raise InvalidRequest(field, f"{len(devices)} are more than {MAX_GPUS}")
    for device in devices:
        if not _GPU.fullmatch(device):
            raise InvalidRequest(
                field, f"{device[:200]!r} is neither an index nor an id such as GPU-8a56d4a0-…"
            )
    if len(set(devices)) < len(devices):
        raise InvalidRequest(field, "one is named twice")
