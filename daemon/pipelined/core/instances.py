"""The instances of one version of a deployment, and what they are together."""

from __future__ import annotations

from pipelined.core.errors import Failure
from pipelined.core.instance import Instance
from pipelined.core.ports import Worker
from pipelined.core.stages import StageKind, Timeline
from pipelined.core.states import State

# The state of the whole is the first of these that some instance is in.
_PRECEDENCE = (State.WARM, State.STARTING, State.ASLEEP, State.FAILED, State.COLD)


class Instances(tuple[Instance, ...]):
    """All that there may be, those that are cold included."""

    __slots__ = ()

    @property
    def state(self) -> State:
        """The best that one of them is in."""
        present = set(self.states)
        return next((state for state in _PRECEDENCE if state in present), State.COLD)

    @property
    def coming(self) -> bool:
        """Whether one is warm, or being started."""
        return any(i.state is State.WARM or i.starting for i in self)

    @property
    def failure(self) -> Failure | None:
        """What the last startup failed with, of some that failed."""
        return next((i.failure for i in self if i.failure is not None), None)

    @property
    def timeline(self) -> Timeline | None:
        """Of the startup that was begun last."""
        timelines = [i.timeline for i in self if i.timeline is not None]
        return max(timelines, key=lambda timeline: timeline.zero, default=None)

    @property
    def worker_pids(self) -> list[int]:
        """Of the live workers."""
        return [worker.pid for worker in self.workers]

    @property
    def workers(self) -> list[Worker]:
        """Those that live."""
        workers = (instance.worker for instance in self)
        return [worker for worker in workers if worker is not None and not worker.exited.done()]

    @property
    def any_warm(self) -> bool:
        """Whether a run sent now would not have to wait for a startup."""
        return any(instance.state is State.WARM for instance in self)

    @property
    def states(self) -> list[State]:
        """Of each instance."""
        return [instance.state for instance in self]

    @property
    def weights_bytes(self) -> int:
        """Bytes of the files of weights that the live workers have loaded when they started."""
        return sum(
            stage.bytes
            for instance in self
            if instance.worker is not None and instance.timeline is not None
            for stage in instance.timeline.stages
            if stage.kind is StageKind.WEIGHTS
        )

    @property
    def startups(self) -> int:
        """Startups begun in the life of the daemon."""
        return sum(instance.startups for instance in self)
