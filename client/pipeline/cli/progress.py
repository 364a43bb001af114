"""A startup on the screen while it happens."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner

from pipeline._quantities import duration
from pipeline.cli import terminal
from pipeline.timeline import Stage, Timeline
from pipeline.timeline.chart import bars, chart, heading


class Progress:
    """Shows stages as they end: a growing chart on a terminal, a line for each elsewhere.

    Args:
        name: the deployment.
        quiet: show nothing.

    """

    def __init__(self, name: str, *, quiet: bool) -> None:
        self._name = name
        self._quiet = quiet
        self._console = terminal.stdout()
        self._width = terminal.chart_width(self._console)
        self._ascii_only = terminal.ascii_only(self._console)
        self._stages: list[Stage] = []
        self._started = time.monotonic()
        self._timeline: Timeline | None = None
        self._live: Live | None = None
        if self._console.is_terminal and not quiet:
            self._live = Live(console=self._console, get_renderable=self._render)

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def add(self, stage: Stage) -> None:
        """Show one more stage."""
        self._stages.append(stage)
        if self._live is None and not self._quiet:
            took = "" if stage.kind == "ready" else duration(stage.seconds)
            words = (stage.kind.replace("_", " "), stage.name, took)
            # Each as it ends, also into a pipe.
            terminal.print_text(" ".join(filter(None, words)), flush=True)

    def finish(self, timeline: Timeline) -> None:
        """Show that it has ended: with the whole chart on a terminal, in a line elsewhere."""
        self._timeline = timeline
        if self._live is None and not self._quiet:
            terminal.print_text(heading(timeline, ascii_only=self._ascii_only))

    def _render(self) -> RenderableType:
        if self._timeline is not None:
            return chart(self._timeline, width=self._width, ascii_only=self._ascii_only)
        elapsed = duration(time.monotonic() - self._started)
        return Group(
            Spinner("dots", f"starting {self._name} {elapsed}"),
            bars(self._stages, width=self._width, ascii_only=self._ascii_only),
        )
