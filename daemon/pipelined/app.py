"""The composition root: makes the parts, wires them, and ends them in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import time
from collections.abc import Callable
from functools import partial
from importlib import metadata
from typing import Any

import structlog

from pipelined import signals
from pipelined.collecting import spare_what_stays
from pipelined.condition import STOPPING_SECONDS, Condition
from pipelined.core.clock import steady_clock
from pipelined.core.deployment import Deployment
from pipelined.core.deployments import Deployments
from pipelined.core.durable_runs import DurableRuns
from pipelined.core.environments import Environments
from pipelined.core.errors import DomainError, StorageFailed
from pipelined.core.file_owners import FileOwners, OwningKeeper
from pipelined.core.printed import Journal, Printed
from pipelined.core.rewarming import Rewarming, chosen, rewarm
from pipelined.core.runs import Runs
from pipelined.core.shared_limits import SharedLimits
from pipelined.core.shutdown import Shutdown, first
from pipelined.credentials import find_credentials
from pipelined.freed_memory import keep_freed_memory
from pipelined.gpus import gpu_models
from pipelined.installed import InstalledPackages
from pipelined.isolation import hide_process, isolate
from pipelined.nursery.leftovers import kill_leftovers
from pipelined.nursery.limits import Limits
from pipelined.nursery.supervisor import Nursery, log_output
from pipelined.nursery.temporary_folders import TemporaryFolders
from pipelined.observe.audit import NAME as AUDIT_LOG
from pipelined.observe.audit import AuditLog
from pipelined.observe.observation import metrics_served, observing
from pipelined.observe.reporter import Reporter
from pipelined.observe.service_manager import ServiceManager
from pipelined.reloading import Reloading
from pipelined.rpc import failed_calls
from pipelined.rpc.auditing import Audit
from pipelined.rpc.health import Health
from pipelined.rpc.listener import Listener
from pipelined.rpc.run_messages import told
from pipelined.rpc.server import Servers
from pipelined.rpc.tls import Tls
from pipelined.settings import Settings
from pipelined.store.deployments import SqliteDeploymentStore
from pipelined.store.directory import StateDirectory
from pipelined.store.files import Files
from pipelined.store.runs import SqliteRunStore
from pipelined.store.tokens import TokenFile, WatchedTokens
from pipelined.worker import tracing

# How long calls that are being answered may take once every run has ended.
SERVER_GRACE_SECONDS = 1.0
# Each of the MAX_FILES_PER_RUN contents of a run is an open file, and runs go in parallel.
DESCRIPTORS = 65536
PRUNE_SECONDS = 600.0
log = structlog.get_logger()


async def serve(settings: Settings, load: Callable[[], Settings]) -> None:
    """Serve until SIGTERM or SIGINT; a second signal stops without waiting for runs.

    Args:
        settings: How.
        load: Reads them again, on SIGHUP; raises ConfigurationError.

    Raises:
        StateDirectoryError: The state directory, or the database in it, cannot be used.
        StorageFailed: What is in them cannot be read.
        ListenError: An address cannot be listened on.
        MetricsError, TracesError: What is to watch it cannot be had.
        IsolationError: Workers cannot be kept from the daemon as the settings want it.
    """
    # Before there is anything to see.
    hide_process()
    _allow_descriptors()
    keep_freed_memory()
    shutdown = Shutdown(settings.daemon.drain)
    reloading = Reloading(settings, load)
    signals.listen(shutdown, reloading)
    async with contextlib.AsyncExitStack() as stack:
        manager = stack.enter_context(ServiceManager(os.environ))
        condition = Condition(manager, shutdown)
        manager.status("Opening the state directory")
        directory = stack.enter_context(StateDirectory(settings.daemon.state_directory))
        store = await SqliteDeploymentStore.open(directory)
        stack.push_async_callback(store.close)
        files = await asyncio.to_thread(Files, directory.files, settings.files.limits())

        version = metadata.version("pipelined")
        observation = await stack.enter_async_context(observing(settings, version))
        clock = steady_clock()
        journal = Journal(clock)
        run_store = await asyncio.to_thread(SqliteRunStore, directory.database)
        stack.push_async_callback(run_store.close)
        runs = Runs(
            journal, settings.runs.limits(), clock, run_store, observer=observation.observer
        )
        owners = FileOwners(store.file_owners())
        await owners.recover()
        stack.push_async_callback(_cancelled, asyncio.create_task(_keep_pruned(owners, files)))
        credentials = find_credentials(settings)
        audit_log = AuditLog(directory.path / AUDIT_LOG)
        tokens = WatchedTokens(
            TokenFile(credentials.tokens, private=credentials.tokens_private),
            audit_log.tokens_changed,
        )
        stack.push_async_callback(_cancelled, asyncio.create_task(tokens.keep_fresh()))
        tls = None if credentials.tls is None else Tls(credentials.tls)
        stack.push_async_callback(_cancelled, asyncio.create_task(runs.keep_swept()))

        def on_output(printed: Printed) -> None:
            log_output(printed)
            journal.add(printed)

        isolation = isolate(settings.workers, directory, credentials)
        user = isolation.user
        folders = TemporaryFolders(directory.path, None if user is None else user.uid)
        stack.callback(folders.close)
        if left := await asyncio.to_thread(kill_leftovers, folders.owner):
            log.warning("killed what a daemon before this one has left", processes=left)
        await asyncio.to_thread(folders.remove_stale)
        nursery = Nursery(
            preload=settings.nursery.preload,
            preload_besides=tracing.API if observation.traced else (),
            on_output=on_output,
            limits=_worker_limits(settings),
            files=OwningKeeper(files, owners, runs.owner_of),
            folders=folders,
            confinement=isolation.confinement,
            user=user,
        )
        health = Health(condition.unwell, lambda: nursery.starts_workers)

        def on_change(name: str, deployment: Deployment | None) -> None:
            health.deployment_changed(name, deployment)
            if deployment is None:
                journal.forget_deployment(name)

        deployments = Deployments(
            store,
            nursery,
            on_change,
            settings.deployments.versions_kept,
            SharedLimits(settings.limits.queues()),
            settings.deployments.worker_idle,
            observer=observation.observer,
        )
        reporter = Reporter(
            deployments, observation.activity, lambda: files.stored_bytes, failed_calls.counted
        )
        durable = DurableRuns(
            runs, run_store, deployments, files, settings.runs.limits(), clock, told
        )
        stack.push_async_callback(durable.close)
        installed = InstalledPackages()
        server = Servers(
            deployments,
            Environments(store.environments(), installed),
            files,
            owners,
            runs,
            durable,
            journal,
            installed,
            health,
            tokens,
            Audit(audit_log),
            nursery.status,
            isolation.message(),
            gpu_models(),
            version,
            shutdown,
            condition.unwell,
            settings.limits.upload_idle,
            reporter.report,
            observation.around,
        )
        stack.push_async_callback(server.stop, None)
        listener = Listener(
            None if tls is None else tls.credentials,
            has_tokens=tokens.current.any_valid(time.time()),
        )
        stack.enter_context(contextlib.closing(listener))
        bound = [listener.bind(server.add(listen), listen) for listen in settings.daemon.addresses]
        await stack.enter_async_context(
            metrics_served(
                settings.metrics, version, reporter, nursery.status, lambda: health.serving
            )
        )

        # The imports take seconds: they begin before the rest, and nobody waits for them here.
        await nursery.start()
        stack.push_async_callback(nursery.stop)
        manager.status("Recovering deployments")
        recovered = await deployments.recover()
        stack.push_async_callback(condition.keep_uses, deployments)
        pending = await durable.recover()
        # Not before: what pending runs refer to is held from here on.
        stack.push_async_callback(_cancelled, asyncio.create_task(files.keep_swept()))
        await server.start()

        _let_reload(reloading, shutdown, files, runs, durable, nursery, deployments)
        reloading.on_reload("tokens", partial(asyncio.to_thread, tokens.reload))
        if tls is not None:
            reloading.on_reload("certificates", partial(asyncio.to_thread, tls.reload))
        telling = asyncio.create_task(condition.keep(deployments, health, store.answer))
        stack.push_async_callback(_cancelled, telling)
        await first(condition.ticked.wait(), shutdown.asked.wait(), asyncio.shield(telling))
        spare_what_stays()
        if condition.ticked.is_set():
            manager.ready(condition.line(deployments))
            log.info(
                "ready",
                addresses=[str(a) for a in bound],
                version=version,
                deployments=recovered,
                pending_runs=pending,
            )
        meanwhile = [
            asyncio.create_task(reloading.keep(manager, lambda: condition.line(deployments))),
            asyncio.create_task(_warm_again(deployments, settings.startup.rewarming())),
        ]

        await first(shutdown.asked.wait(), asyncio.shield(telling))
        for task in meanwhile:
            await _cancelled(task)
        if telling.done():
            # It never ends by itself: nobody would know any more how the daemon is.
            telling.result()
        log.info("draining", seconds=round(shutdown.seconds_left, 3))
        manager.stopping(condition.line(deployments))
        manager.extend(STOPPING_SECONDS)
        health.refresh()
        drained = await shutdown.drain(deployments, nursery.hurry)
        if drained.unfinished:
            log.warning("runs have not ended in time", runs=drained.unfinished)
        await durable.close()
        await server.stop(SERVER_GRACE_SECONDS)
    log.info("stopped")


async def _keep_pruned(owners: FileOwners, files: Files) -> None:
    """Forget whose the files were that are gone, now and then, until cancelled."""
    while True:
        await asyncio.sleep(PRUNE_SECONDS)
        with contextlib.suppress(StorageFailed):
            await owners.prune(files.is_here)


def _worker_limits(settings: Settings) -> Limits:
    return Limits(
        pinned_bytes=settings.weights.pinned_memory,
        device_bytes=settings.weights.device_memory,
        url_hosts=settings.urls.allow_hosts,
        url_bytes=settings.files.max_size,
    )


def _let_reload(
    reloading: Reloading,
    shutdown: Shutdown,
    files: Files,
    runs: Runs,
    durable: DurableRuns,
    nursery: Nursery,
    deployments: Deployments,
) -> None:
    """Say which settings are taken as the daemon runs, and by whom."""

    def keep_versions(settings: Settings) -> None:
        deployments.versions_kept = settings.deployments.versions_kept

    def limit_runs(settings: Settings) -> None:
        runs.limit(settings.runs.limits())
        durable.limit(settings.runs.limits())

    def drain(settings: Settings) -> None:
        shutdown.seconds = settings.daemon.drain

    reloading.on_change("daemon.drain", take=drain)
    reloading.on_change("files", take=lambda s: files.limit(s.files.limits()))
    reloading.on_change("runs", take=limit_runs)
    reloading.on_change("deployments.versions_kept", take=keep_versions)
    reloading.on_change(
        "weights", "urls", "files.max_size", take=lambda s: nursery.limit(_worker_limits(s))
    )


async def _warm_again(deployments: Deployments, rewarming: Rewarming) -> None:
    """Warm what was in use, if the settings say so."""
    wanted = chosen(deployments, rewarming)
    if not wanted:
        return

    def failed(deployment: Deployment, error: DomainError) -> None:
        name = f"{deployment.specification.name}:v{deployment.specification.version}"
        log.warning("not warmed again", deployment=name, reason=str(error))

    log.info("warming again", deployments=[d.specification.name for d in wanted])
    log.info("warmed again", deployments=await rewarm(wanted, deployments, failed))


def _allow_descriptors() -> None:
    """Let this process and its children have the files of a run open, as far as the system does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    # If it has failed the loop says so; the daemon ends in order all the same.
    await asyncio.wait({task})
