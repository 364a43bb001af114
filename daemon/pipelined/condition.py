"""Whether the daemon serves and why it does not, for its health and for the service manager."""

from __future__ import annotations

import asyncio
from collections import Counter

import structlog

from pipelined.core.deployments import Deployments
from pipelined.core.errors import StorageFailed
from pipelined.core.heartbeat import Heartbeat, Probe, Unwell
from pipelined.core.shutdown import Shutdown
from pipelined.observe.service_manager import ServiceManager
from pipelined.rpc.health import Health

# Between two looks at everything; a watchdog with less patience gets its sign of life more often.
INTERVAL_SECONDS = 2.0
# A part that has not answered by then keeps the daemon from serving.
PATIENCE_SECONDS = 5.0
# What the end may take from any look on, with the grace of workers and of calls.
STOPPING_SECONDS = 20.0
# When deployments were used last is written so often, if it has changed.
USES_SECONDS = 10.0

log = structlog.get_logger()


class Condition:
    """What the daemon is doing. Belongs to one event loop.

    It serves from the first beat in which all parts did their work until it is asked to stop, but
    for the times in which one of them does not.

    Args:
        manager: Is told.
        shutdown: Says that it stops.

    Attributes:
        ticked: Set once all parts have done their work.
    """

    def __init__(self, manager: ServiceManager, shutdown: Shutdown) -> None:
        self.ticked = asyncio.Event()
        self._manager = manager
        self._shutdown = shutdown
        self._reason = "starting"
        self._storage_failure = ""
        self._stalled: set[str] = set()

    def unwell(self) -> str:
        """Why the daemon does not serve; empty while it does."""
        return "draining" if self._shutdown.asked.is_set() else self._reason

    def line(self, deployments: Deployments) -> str:
        """What it is doing, in one line for people."""
        runs = deployments.active_runs
        if self._shutdown.asked.is_set():
            return f"Draining: {runs} runs have {self._shutdown.seconds_left:.0f} s to end"
        if self._reason:
            return f"Not serving: {self._reason}"
        states = Counter(deployment.state.name.lower() for deployment in deployments.list())
        each = "".join(f", {number} {state}" for state, number in sorted(states.items()))
        line = f"Serving {sum(states.values())} deployments{each}; {runs} runs"
        return f"{line}; {self._storage_failure}" if self._storage_failure else line

    async def keep(self, deployments: Deployments, health: Health, store: Probe) -> None:
        """Try the parts and tell of them, until cancelled.

        Args:
            deployments: Their queues are looked at.
            health: Its watchers are told.
            store: Takes the way that every write takes.
        """

        async def queues() -> None:
            self._check_queues(deployments)

        def changed(reason: str) -> None:
            self._reason = reason
            if reason:
                log.error("not serving", reason=reason)
            elif self.ticked.is_set():
                log.info("serving again")
            health.refresh()

        watchdog = self._manager.watchdog_seconds
        interval = INTERVAL_SECONDS if watchdog is None else min(INTERVAL_SECONDS, watchdog / 4)
        patience = PATIENCE_SECONDS if watchdog is None else min(PATIENCE_SECONDS, watchdog / 2)
        heartbeat = Heartbeat(
            {"storage": store, "queues": queues},
            self._tick,
            changed,
            interval_seconds=interval,
            patience_seconds=patience,
        )
        await asyncio.gather(
            heartbeat.keep(),
            self._keep_telling(deployments, health, interval),
            self._keep_uses(deployments),
        )

    async def keep_uses(self, deployments: Deployments) -> None:
        """Write when deployments were used last, and take note of storage that fails."""
        failure = ""
        try:
            await deployments.keep_uses()
        except StorageFailed as error:
            # Runs go on without it, so that this is told, and is no reason not to serve.
            failure = str(error)
        if failure != self._storage_failure:
            self._storage_failure = failure
            if failure:
                log.warning("storage fails", reason=failure)

    def _tick(self) -> None:
        self.ticked.set()
        self._manager.alive()

    def _check_queues(self, deployments: Deployments) -> None:
        """Raise Unwell where runs wait in vain, and did so at the beat before, too."""
        stalled = {d.specification.name for d in deployments.list(all_versions=True) if d.stalled}
        lasting = sorted(stalled & self._stalled)
        self._stalled = stalled
        if lasting:
            raise Unwell(f"runs of {', '.join(lasting)} wait for what does not come")

    async def _keep_telling(
        self, deployments: Deployments, health: Health, interval: float
    ) -> None:
        while True:
            await asyncio.sleep(interval)
            # What cannot be started any more, or has a full queue, does not say so itself.
            health.refresh()
            if self._shutdown.asked.is_set():
                self._manager.extend(STOPPING_SECONDS)
            if self.ticked.is_set():
                self._manager.status(self.line(deployments))

    async def _keep_uses(self, deployments: Deployments) -> None:
        while True:
            await asyncio.sleep(USES_SECONDS)
            await self.keep_uses(deployments)
