"""Reads the settings again on SIGHUP, and lets the parts have what they can take as they run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from pipelined.configuration import ConfigurationError, differences
from pipelined.observe.service_manager import ServiceManager
from pipelined.settings import Settings

log = structlog.get_logger()


class Reloading:
    """Who has to know of new settings, and of files that may have changed. Belongs to one loop.

    Args:
        settings: Those that the daemon runs by.
        load: Reads them again; raises ConfigurationError.

    Attributes:
        settings: Those that the daemon runs by now.
    """

    def __init__(self, settings: Settings, load: Callable[[], Settings]) -> None:
        self.settings = settings
        self._load = load
        self._takers: list[tuple[tuple[str, ...], Callable[[Settings], None]]] = []
        self._hooks: dict[str, Callable[[], Awaitable[None]]] = {}
        self._asked = asyncio.Event()

    def on_change(self, *names: str, take: Callable[[Settings], None]) -> None:
        """Call ``take`` with the new settings when one of these has changed.

        What nobody takes is for the next start.

        Args:
            names: Of settings, "section.key", or of whole sections.
            take: Called once, however many have changed; never raises.
        """
        self._takers.append((names, take))

    def on_reload(self, name: str, hook: Callable[[], Awaitable[None]]) -> None:
        """Call a hook whenever it is asked for: files that the settings name are read again.

        Args:
            name: What it reads, for the log.
            hook: Keeps what it had and raises where it cannot read something.
        """
        self._hooks[name] = hook

    def ask(self) -> None:
        """Read everything again, soon."""
        self._asked.set()

    async def keep(self, manager: ServiceManager, line: Callable[[], str]) -> None:
        """Do what is asked for, until cancelled.

        Args:
            manager: Is told when it begins and ends.
            line: What the daemon is doing.
        """
        while True:
            await self._asked.wait()
            self._asked.clear()
            manager.reloading()
            try:
                await self._reload()
            except Exception as error:
                # Whatever it was, it is no reason to end the daemon, or to reload never again.
                log.error("not reloaded", what="settings", reason=str(error), exc_info=error)
            manager.ready(line())

    async def _reload(self) -> None:
        for name, hook in self._hooks.items():
            await _reread(name, hook)
        try:
            loaded = await asyncio.to_thread(self._load)
        except ConfigurationError as error:
            log.error("not reloaded", what="settings", reason=str(error))
            return
        changed = differences(self.settings, loaded)
        applied = []
        for names, take in self._takers:
            mine = [c for c in changed if c in names or c.partition(".")[0] in names]
            if mine:
                take(loaded)
                applied += [name for name in mine if name not in applied]
        for name in applied:
            self.settings = _with(self.settings, loaded, name)
        restart = [name for name in changed if name not in applied]
        log.info("reloaded", changed=changed, applied=applied, needs_restart=restart)


async def _reread(what: str, hook: Callable[[], Awaitable[None]]) -> None:
    try:
        await hook()
    except Exception as error:
        # What cannot be read is no reason to end the daemon.
        log.error("not reloaded", what=what, reason=str(error))


def _with(settings: Settings, other: Settings, name: str) -> Settings:
    """Settings with one of them, "section.key", as others have it."""
    section, key = name.split(".")
    value: Any = getattr(getattr(other, section), key)
    before = getattr(settings, section)
    return settings.model_copy(update={section: before.model_copy(update={key: value})})
