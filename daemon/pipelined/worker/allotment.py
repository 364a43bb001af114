"""What a worker is given when it starts: its environment, and its part of the machine."""

from __future__ import annotations

import os
import resource
import sys

from pipelined.worker.blas import set_blas_threads
from pipelined_api.worker.v1 import worker_pb2

# Asked for by a library when it is loaded, which may be after this, and by processes that user code
# starts.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def apply(start: worker_pb2.Start) -> None:
    """Take on what the daemon allots. To be called before any user code, and before CUDA is used.

    Raises:
        ValueError: The limit of open files is above that of the daemon.
    """
    os.environ.update(start.environment)
    if start.open_files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (start.open_files, start.open_files))
    if start.HasField("visible_devices"):
        os.environ["CUDA_VISIBLE_DEVICES"] = start.visible_devices
        # As nvidia-smi counts them.
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    if start.threads:
        _set_threads(start.threads)


def _set_threads(number: int) -> None:
    for name in _THREADS:
        os.environ.setdefault(name, str(number))
    set_blas_threads(number)
    # Through its OpenMP, which other libraries use as well.
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(number)
