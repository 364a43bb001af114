"""What all workers have of the machine: its devices, its memory, and who watches over that."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence

from pipelined.core.errors import NurseryUnavailable
from pipelined.gpus import gpu_models
from pipelined.nursery.cgroups import Cgroups, NotDelegated
from pipelined.nursery.host_memory import HostMemory
from pipelined.nursery.watch import Watch

_VARIABLE = "CUDA_VISIBLE_DEVICES"


class Machine:
    """Belongs to one event loop.

    Attributes:
        gpus: Who has which.
        groups: Of workers; None where there is no subtree of them to manage.
        memory: Whether there was some left.
        not_delegated: Why there is none; empty if there is one.
        watch: Of workers with limits.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self.gpus = Gpus(devices(environment))
        self.watch = Watch()
        self.groups: Cgroups | None = None
        self.not_delegated = ""
        try:
            self.groups = Cgroups()
        except NotDelegated as reason:
            self.not_delegated = str(reason)
        # Not before: it looks into the group that the daemon is in now.
        self.memory = HostMemory()

    def close(self) -> None:
        """Look at nothing any more. No worker may be left."""
        self.memory.close()
        if self.groups is not None:
            self.groups.close()


def devices(environment: Mapping[str, str]) -> Sequence[str]:
    """The GPUs that there are to share out, as CUDA_VISIBLE_DEVICES has them.

    Where the operator has set that variable for the daemon, they are those.
    """
    visible = environment.get(_VARIABLE)
    if visible is None:
        return [str(index) for index, _ in enumerate(gpu_models())]
    return [device.strip() for device in visible.split(",") if device.strip()]


class Gpus:
    """Shares out GPUs: each worker gets those that the fewest others have.

    Args:
        devices: What there is.
    """

    def __init__(self, devices: Sequence[str]) -> None:
        self._devices = devices
        self._taken: Counter[str] = Counter()

    def share(self) -> Share:
        """What one worker is going to have."""
        return Share(self)

    def least_taken(self, count: int) -> tuple[str, ...]:
        """The devices that the fewest workers have.

        Raises:
            NurseryUnavailable: There are not so many.
        """
        if count > len(self._devices):
            raise NurseryUnavailable(
                f"{count} GPUs are wanted, and there are {len(self._devices)}", retry_after=60.0
            )
        return tuple(sorted(self._devices, key=lambda device: self._taken[device])[:count])

    def take(self, devices: Sequence[str]) -> None:
        """Count a worker that has them."""
        self._taken.update(devices)

    def give_back(self, devices: Sequence[str]) -> None:
        """Count one worker less."""
        self._taken.subtract(devices)


class Share:
    """The GPUs of one worker, from its start to its end."""

    def __init__(self, gpus: Gpus) -> None:
        self._gpus = gpus
        self._devices: tuple[str, ...] = ()
        self._taken = False

    def take(self, wanted: int | tuple[str, ...] | None) -> Sequence[str] | None:
        """Take so many, or these; the same ones when asked again. None where all are wanted.

        Raises:
            NurseryUnavailable: There are not so many.
        """
        if wanted is None:
            return None
        if not self._taken:
            self._devices = self._gpus.least_taken(wanted) if isinstance(wanted, int) else wanted
            self._gpus.take(self._devices)
            self._taken = True
        return self._devices

    def close(self) -> None:
        """Give them back."""
        self._gpus.give_back(self._devices)
        self._devices = ()
