"""The composition root: makes the parts, wires them, and ends them in order."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
from importlib import metadata
from typing import Any

import structlog

from pipelined.core.deployments import Deployments
from pipelined.core.environments import Environments
from pipelined.core.printed import Journal, Printed
from pipelined.core.runs import Runs, steady_clock
from pipelined.freed_memory import keep_freed_memory
from pipelined.gpus import gpu_models
from pipelined.installed import InstalledPackages
from pipelined.nursery.limits import Limits
from pipelined.nursery.supervisor import Nursery, log_output
from pipelined.nursery.temporary_folders import TemporaryFolders
from pipelined.rpc.health import Health
from pipelined.rpc.listener import Listener
from pipelined.rpc.server import create_server
from pipelined.settings import Settings
from pipelined.store.deployments import SqliteDeploymentStore
from pipelined.store.directory import StateDirectory
from pipelined.store.files import Files

# How long calls that are being answered may take once every run has ended.
SERVER_GRACE_SECONDS = 1.0
# Each of the MAX_FILES_PER_RUN contents of a run is an open file, and runs go in parallel.
DESCRIPTORS = 16384
log = structlog.get_logger()


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; a second signal stops without waiting for runs.

    Raises:
        StateDirectoryError: The state directory, or the database in it, cannot be used.
        StorageFailed: What is in them cannot be read.
        ListenError: An address cannot be listened on.
    """
    _allow_descriptors()
    keep_freed_memory()
    stop = _stop_on_signals()
    async with contextlib.AsyncExitStack() as stack:
        directory = stack.enter_context(StateDirectory(settings.daemon.state_directory))
        store = await SqliteDeploymentStore.open(directory)
        stack.push_async_callback(store.close)
        files = await asyncio.to_thread(Files, directory.files, settings.files.limits())
        stack.push_async_callback(_cancelled, asyncio.create_task(files.keep_swept()))

        limits = Limits(
            pinned_bytes=settings.weights.pinned_memory,
            device_bytes=settings.weights.device_memory,
            url_hosts=settings.urls.allow_hosts,
            url_bytes=settings.files.max_size,
        )
        clock = steady_clock()
        journal = Journal(clock)
        runs = Runs(journal, settings.runs.limits(), clock)
        stack.push_async_callback(_cancelled, asyncio.create_task(runs.keep_swept()))

        def on_output(printed: Printed) -> None:
            log_output(printed)
            journal.add(printed)

        folders = TemporaryFolders(directory.path)
        await asyncio.to_thread(folders.remove_stale)
        nursery = Nursery(
            preload=settings.nursery.preload,
            on_output=on_output,
            limits=limits,
            files=files,
            folders=folders,
        )
        health = Health()
        deployments = Deployments(
            store, nursery, health.deployment_changed, settings.deployments.versions_kept
        )
        installed = InstalledPackages()
        version = metadata.version("pipelined")
        server = create_server(
            deployments,
            Environments(store.environments(), installed),
            files,
            runs,
            journal,
            installed,
            health,
            nursery.status,
            gpu_models(),
            version,
        )
        stack.push_async_callback(server.stop, None)
        listener = stack.enter_context(contextlib.closing(Listener()))
        bound = [listener.bind(server, address) for address in settings.daemon.addresses]

        # The imports take seconds: they begin before the rest, and nobody waits for them here.
        await nursery.start()
        stack.push_async_callback(nursery.stop)
        recovered = await deployments.recover()
        await server.start()
        health.daemon_serving(True)
        log.info("ready", addresses=[str(a) for a in bound], version=version, deployments=recovered)

        await stop.wait()
        log.info("draining", seconds=settings.daemon.drain)
        health.daemon_serving(False)
        stop.clear()
        await _drain(deployments, stop, settings.daemon.drain)
        await server.stop(SERVER_GRACE_SECONDS)
    log.info("stopped")


def _allow_descriptors() -> None:
    """Let this process and its children have the files of a run open, as far as the system does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def _drain(deployments: Deployments, second_signal: asyncio.Event, seconds: float) -> None:
    """Let runs end, unless a second signal says not to wait."""
    impatient = asyncio.create_task(second_signal.wait())
    draining = asyncio.create_task(deployments.close(seconds))
    await asyncio.wait({impatient, draining}, return_when=asyncio.FIRST_COMPLETED)
    if impatient.done():
        log.warning("stopping at once: a second signal came")
    for task in (impatient, draining):
        await _cancelled(task)


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
