"""The CUDA devices that this process loads onto, and how much memory that may take."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelined.weights._extension import extension
from pipelined.weights._locks import ForkLock

if TYPE_CHECKING:
    from pipelined._weights import Device

# Where the driver is, for machines that have it in no usual place, and for tests.
DRIVER_VARIABLE = "PIPELINED_CUDA_DRIVER"
_DEFAULT_DRIVER = "libcuda.so.1"


@dataclass(frozen=True)
class Budgets:
    """How much memory loading onto devices may take, in bytes.

    `pinned_bytes` is host memory that all loads of the process share, and wait for where it is in
    use. `device_bytes` is what weights may take of each device; None stands for all that it has.
    """

    pinned_bytes: int = 256 << 20
    device_bytes: int | None = None


_lock = ForkLock()
_budgets = Budgets()
# By the driver's path and the device's ordinal.
_devices: dict[tuple[str, int], Device] = {}


def set_budgets(budgets: Budgets) -> None:
    """Set the budgets of devices that are first used from here on, meant for a process's start."""
    global _budgets
    with _lock:
        _budgets = budgets


def device(ordinal: int, driver: str | None = None) -> Device:
    """Open a device, or return it if it is open. Raises DriverMissing, CudaError."""
    library = driver or os.environ.get(DRIVER_VARIABLE) or _DEFAULT_DRIVER
    with _lock:
        found = _devices.get((library, ordinal))
        if found is None:
            found = _open(library, ordinal)
            _devices[library, ordinal] = found
        return found


def open_devices() -> list[Device]:
    """Return the devices that were used so far."""
    with _lock:
        return list(_devices.values())


def release_pinned_memory() -> None:
    """Free the pinned memory that no load is using; the next one pins anew."""
    for opened in open_devices():
        opened.trim()


def forget_devices() -> None:
    """Close all devices, as soon as nothing that was loaded onto them is held any longer."""
    with _lock:
        _devices.clear()


def _open(library: str, ordinal: int) -> Device:
    for (other_library, _), other in _devices.items():
        if other_library == library:
            return other.beside(ordinal, _budgets.device_bytes)
    return extension.Device(
        os.fsencode(library), ordinal, _budgets.pinned_bytes, _budgets.device_bytes
    )


def _after_fork() -> None:
    # A context does not survive a fork; the child opens its own, if it may.
    _devices.clear()


os.register_at_fork(after_in_child=_after_fork)
