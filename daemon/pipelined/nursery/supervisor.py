"""Keeps a nursery alive and starts workers: forked from it where that works, else by exec."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import math
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from pipelined.core.errors import Exit, NurseryUnavailable
from pipelined.core.files import OutputKeeper
from pipelined.core.printed import Printed
from pipelined.core.stages import Stage, StageKind
from pipelined.nursery import leftovers, messages
from pipelined.nursery.environment import read_at_import, scrubbed
from pipelined.nursery.fork_client import ForkClient, ForkRefused, NurseryDied
from pipelined.nursery.limits import Limits
from pipelined.nursery.machine import Machine
from pipelined.nursery.preload import DEFAULT_PRELOAD
from pipelined.nursery.reaping import Reaper, exists
from pipelined.nursery.remote_worker import RemoteWorker
from pipelined.nursery.spawning import spawn
from pipelined.nursery.temporary_folders import TemporaryFolders
from pipelined.nursery.worker_user import WorkerUser
from pipelined.worker import launch
from pipelined.worker.channel import socket_pair
from pipelined.worker.confinement import Confinement
from pipelined_api.v1 import daemon_pb2
from pipelined_api.worker.v1 import worker_pb2

# Nurseries that may die in a row while they import, until workers are started without one.
_FAILED_PRELOADS = 3
_FIRST_DELAY = 0.1
_LONGEST_DELAY = 30.0
# After this its death is not taken for one of a series.
_LONG_LIFE_SECONDS = 60.0
# Imports that take longer hang.
_PRELOAD_SECONDS = 300.0
_FORK_ATTEMPTS = 4
# A worker that has not said hello by then never will.
_HELLO_SECONDS = 60.0
_STOP_GRACE_SECONDS = 2.0
# For so long a refusal of the system is taken for its last word, unless it starts something.
_REFUSAL_SECONDS = 10.0
_DEFAULT_LIMITS = Limits()
# Of the lines that are read at once.
_LINES_LOGGED = 200

log = structlog.get_logger()


def log_output(printed: Printed) -> None:
    """Log what a process has printed; of a flood some lines, and how many the others are."""
    ids = {"deployment": printed.deployment, "run_id": printed.run_id}
    ids = {key: value for key, value in ids.items() if value}
    for line in printed.lines[:_LINES_LOGGED]:
        log.info("output", worker=printed.process, **ids, line=line)
    if (left_out := len(printed.lines) - _LINES_LOGGED) > 0:
        log.info("output", worker=printed.process, **ids, line=f"… {left_out} lines left out …")


class Nursery:
    """The supervisor of the nursery; implements ``core.ports.WorkerLauncher``.

    Belongs to one event loop, in the main thread. From ``start`` to ``stop`` it reaps all children
    of the process (see ``reaping.Reaper``).

    Args:
        preload: What the nursery imports, entries "module" or "module:attribute"; None for the
            default list.
        preload_besides: What it imports after that.
        environment: What the children's environment is made of; None for the daemon's own.
        on_output: Gets what they print.
        limits: What each worker may have.
        files: Keeps the files that runs give back; None to have no large ones.
        folders: Has the temporary files of workers.
        confinement: What workers are kept from; None if from nothing.
        user: What they run as; None for the daemon's own.
    """

    def __init__(
        self,
        preload: Sequence[str] | None = None,
        *,
        preload_besides: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        on_output: Callable[[Printed], None] = log_output,
        limits: Limits = _DEFAULT_LIMITS,
        files: OutputKeeper | None = None,
        folders: TemporaryFolders | None = None,
        confinement: Confinement | None = None,
        user: WorkerUser | None = None,
    ) -> None:
        self._preload = DEFAULT_PRELOAD if preload is None else tuple(preload)
        self._preload += tuple(preload_besides)
        self._environment = scrubbed(os.environ if environment is None else environment)
        if user is not None:
            self._environment |= user.variables
        self._confinement = confinement
        self._user = user
        self._on_output = on_output
        self._limits = limits
        self._files = files
        self._folders = TemporaryFolders() if folders is None else folders
        self._environment[leftovers.VARIABLE] = self._folders.owner
        self._workers: dict[str, RemoteWorker] = {}
        # Of those, the ones that the living nursery has been asked for.
        self._forked: set[str] = set()
        self._numbers = itertools.count(1)
        self._client: ForkClient | None = None
        self._preloaded = worker_pb2.Preloaded()
        # Set while launches need not wait: a nursery is ready, or workers are started by exec.
        self._settled = asyncio.Event()
        self._exec_reason = ""
        # The system has refused to start a nursery, and when it last refused to start a worker.
        self._nursery_refused = False
        self._worker_refused_at = -math.inf
        self._restarts = 0
        self._state = daemon_pb2.Nursery.STATE_PRELOADING

    async def start(self) -> None:
        """Start a nursery and keep one alive; returns before it has imported anything."""
        self._reaper = Reaper()
        loop = asyncio.get_running_loop()
        self._stopping: asyncio.Future[None] = loop.create_future()
        self._hurried: asyncio.Future[None] = loop.create_future()
        self._machine = Machine()
        if self._machine.groups is not None:
            log.info("memory of workers is limited by control groups")
        else:
            reason = self._machine.not_delegated
            log.info("memory of workers is watched, not limited by control groups", reason=reason)
        self._keeping = asyncio.create_task(self._keep(), name="nursery")

    async def stop(self) -> None:
        """End the workers and the nursery, and wait until all have been reaped."""
        if self._stopping.done():
            return
        self._stopping.set_result(None)
        # Whoever waits for a nursery is told that there will be none.
        self._settled.set()
        await self._keeping
        await asyncio.gather(
            *(worker.stop(_STOP_GRACE_SECONDS) for worker in self._workers.values())
        )
        if self._client is not None:
            await self._client.stop()
        self._machine.close()
        self._reaper.close()

    def hurry(self) -> None:
        """End the grace of all workers that are being stopped, or will be."""
        if not self._hurried.done():
            self._hurried.set_result(None)

    @property
    def starts_workers(self) -> bool:
        """Whether a worker that is asked for now will come to be, as far as is known.

        Not while the daemon stops, nor while the system refuses a nursery, which is tried for again
        and again, nor shortly after it has refused a worker.
        """
        refused = time.monotonic() - self._worker_refused_at < _REFUSAL_SECONDS
        return not self._stopping.done() and not self._nursery_refused and not refused

    def limit(self, limits: Limits) -> None:
        """Let workers that are started from now on have these."""
        self._limits = limits

    def status(self) -> daemon_pb2.Nursery:
        """Return what the nursery is doing, as ``Daemon.Info`` says it."""
        alive = self._client is not None and not self._client.exited.done()
        return daemon_pb2.Nursery(
            state=self._state,
            pid=self._client.pid if alive and self._client is not None else 0,
            preload_seconds=self._preloaded.seconds,
            preloaded=self._preloaded.modules,
            failed=self._preloaded.failed,
            exec_reason=self._exec_reason,
            restarts=self._restarts,
            memory_watched=self._machine.not_delegated,
        )

    async def settled(self) -> None:
        """Wait until workers can be started: the imports are done, or have been given up."""
        await self._settled.wait()

    async def launch(
        self, environment: Mapping[str, str], zero: float, on_stage: Callable[[Stage], None]
    ) -> RemoteWorker:
        """Start a worker (see ``core.ports.WorkerLauncher``)."""
        late = read_at_import(environment)
        if late:
            log.info("worker started by exec: read at import", variables=late)
        else:
            await self._settled.wait()
        asked = time.monotonic()
        on_stage(Stage(StageKind.QUEUE, seconds=asked - zero))
        source = "exec"
        worker = None
        for _ in range(_FORK_ATTEMPTS):
            if late or self._exec_reason:
                break
            try:
                worker = await self._fork()
                source = "fork"
                break
            except NurseryDied:
                await self._settled.wait()
            except ForkRefused as refusal:
                late = [str(refusal)]
                log.warning("worker started by exec: the nursery cannot fork", reason=late[0])
        if worker is None:
            worker = await self._exec({**self._environment, **environment})
        await self._greet(worker)
        seconds = time.monotonic() - asked
        on_stage(Stage(StageKind.FORK, start_seconds=asked - zero, seconds=seconds, source=source))
        return worker

    async def _fork(self) -> RemoteWorker:
        self._check_stopping()
        client = self._client
        if client is None:
            raise NurseryDied
        worker, channel, output = self._new_worker()
        self._forked.add(worker.id)
        with channel, output:
            try:
                pid = await client.fork(worker.id, channel.fileno(), output.fileno())
            except ForkRefused:
                self._worker_exited(worker.id, Exit())
                raise
            except BaseException:
                # If it has been forked after all, it ends by itself, and its end is reported.
                worker.abandon()
                raise
        self._worker_refused_at = -math.inf
        self._process_started(worker, pid)
        return worker

    async def _exec(self, environment: Mapping[str, str]) -> RemoteWorker:
        self._check_stopping()
        worker, channel, output = self._new_worker()
        starting = contextlib.ExitStack()
        starting.enter_context(self._reaper.starting())

        def started(spawning: asyncio.Future[int]) -> None:
            channel.close()
            output.close()
            if spawning.cancelled() or spawning.exception() is not None:
                self._worker_exited(worker.id, Exit())
            else:
                self._process_started(worker, spawning.result())
            starting.close()

        # It waits until the new program runs, so not on the loop's thread.
        spawning = asyncio.get_running_loop().run_in_executor(
            None,
            spawn,
            "pipelined.worker.launch",
            channel.fileno(),
            output.fileno(),
            launch.environment_for(self._environment, environment, self._confinement),
            self._user,
        )
        spawning.add_done_callback(started)
        try:
            await asyncio.shield(spawning)
            self._worker_refused_at = -math.inf
        except (OSError, ValueError) as error:
            self._worker_refused_at = time.monotonic()
            # Not its text, which names the program's path.
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise NurseryUnavailable(f"the process cannot be started: {reason}") from None
        except BaseException:
            worker.abandon()
            raise
        return worker

    def _check_stopping(self) -> None:
        if self._stopping.done():
            raise NurseryUnavailable("the daemon is stopping")

    def _new_worker(self) -> tuple[RemoteWorker, socket.socket, io.FileIO]:
        """Return a worker that has no process yet, and what its process is to be given.

        Raises:
            NurseryUnavailable: The system has no more sockets or pipes for it.
        """
        worker_id = f"worker-{next(self._numbers)}"
        with contextlib.ExitStack() as made:
            try:
                ours, theirs = (made.enter_context(end) for end in socket_pair())
                read_end, write_end = os.pipe2(os.O_CLOEXEC)
            except OSError as error:
                self._worker_refused_at = time.monotonic()
                raise NurseryUnavailable(
                    f"the process cannot be started: {error.strerror}"
                ) from None
            made.pop_all()
        worker = RemoteWorker(
            worker_id,
            ours,
            read_end,
            self._on_output,
            self._limits,
            self._folders,
            self._machine,
            self._files,
            self._hurried,
        )
        self._workers[worker_id] = worker
        return worker, theirs, io.FileIO(write_end, "w")

    def _process_started(self, worker: RemoteWorker, pid: int) -> None:
        worker.process_started(pid)
        if not worker.exited.done():
            # Reaped here if it was started by exec, or if its nursery died before it.
            self._reaper.expect(
                pid, lambda status: self._worker_exited(worker.id, messages.exit_of(status))
            )

    async def _greet(self, worker: RemoteWorker) -> None:
        """Wait until the worker has said hello."""
        either: set[asyncio.Future[Any]] = {worker.hello, worker.exited}
        try:
            await asyncio.wait(
                either,
                timeout=_HELLO_SECONDS,
                return_when=asyncio.FIRST_COMPLETED,
            )
        except BaseException:
            worker.kill()
            raise
        if not worker.hello.done():
            worker.kill()
            await asyncio.wait({worker.exited})
            how = worker.exited.result().describe()
            raise NurseryUnavailable(f"the worker {how} before it said hello")

    def _worker_exited(self, worker_id: str, exit_: Exit) -> None:
        self._forked.discard(worker_id)
        worker = self._workers.pop(worker_id, None)
        if worker is not None:
            self._reaper.forget(worker.pid)
            # Before anybody is told: whoever is has nothing of it left to mind.
            self._reaper.kill_orphans()
            worker.process_ended(exit_)

    async def _keep(self) -> None:
        """Start nurseries, one after the other, until ``stop``."""
        deaths = 0
        while not self._stopping.done():
            began = time.monotonic()
            client = ForkClient(self._reaper, self._worker_exited, self._nursery_died)
            try:
                await client.start(
                    self._preload,
                    self._environment,
                    lambda lines: self._on_output(Printed("nursery", lines)),
                    self._confinement,
                    self._user,
                )
            except OSError as error:
                self._nursery_refused = True
                self._nursery_died(Exit())
                log.error("the nursery cannot be started", reason=error.strerror)
            else:
                self._nursery_refused = False
                self._client = client
                await self._until(client.preloaded, _PRELOAD_SECONDS)
                if client.preloaded.done() and not client.exited.done():
                    self._ready(client.preloaded.result())
                elif not self._stopping.done():
                    client.kill()
                await self._until(client.exited)
            if self._stopping.done():
                return
            was_ready = client.preloaded.done() and client.preloaded.exception() is None
            deaths = 1 if time.monotonic() - began > _LONG_LIFE_SECONDS else deaths + 1
            if deaths >= _FAILED_PRELOADS and not was_ready:
                self._exec_reason = f"{deaths} nurseries in a row have not come to be"
                self._settled.set()
            self._restarts += 1
            await self._until(None, min(_FIRST_DELAY * 2 ** (deaths - 1), _LONGEST_DELAY))

    async def _until(
        self, future: asyncio.Future[Any] | None, timeout: float | None = None
    ) -> None:
        """Wait for the future, the time or ``stop``, whichever comes first."""
        waited: set[asyncio.Future[Any]] = {self._stopping}
        if future is not None:
            waited.add(future)
        await asyncio.wait(waited, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)

    def _ready(self, preloaded: worker_pb2.Preloaded) -> None:
        self._preloaded = preloaded
        self._exec_reason = preloaded.exec_reason
        self._state = daemon_pb2.Nursery.STATE_READY
        self._settled.set()
        log.info("nursery ready", seconds=round(preloaded.seconds, 3))
        for failed in preloaded.failed:
            log.warning("not preloaded", module=failed)
        if preloaded.exec_reason:
            log.warning("workers are started by exec", reason=preloaded.exec_reason)

    def _nursery_died(self, exit_: Exit) -> None:
        if self._stopping.done():
            return
        log.warning("the nursery has died", how=exit_.describe())
        self._state = daemon_pb2.Nursery.STATE_RESTARTING
        self._settled.clear()
        for worker_id in list(self._forked):
            # It took to its grave how these have ended, or that they were never forked. The others
            # are children of this process now.
            if (pid := self._workers[worker_id].pid) == 0 or not exists(pid):
                self._worker_exited(worker_id, Exit())
        self._forked.clear()
