"""A timeline as a bar chart in the terminal: one row per stage, each bar where its time lies.

::

    embeddings v1 · startup 1 · ready after 412 ms · process 4711
    fork                        21 ms  █                              fork
    node Model.load            380 ms   ███████████████
      weights model.safetens…   24 ms           █           90.9 MB   page cache
    ready                              ────────────────╴
    first run                   31 ms                  ██
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, Group, OverflowMethod, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline._quantities import duration, size
from pipeline.timeline import Stage, Timeline

__all__ = ["bars", "chart", "heading", "text"]

_MIN_BAR, _MAX_BAR = 8, 60
_MAX_NAME = 32
_GAP = 2
_LABELS = {"first_run": "first run"}
_COLOURS = {
    "queue": "yellow",
    "fork": "blue",
    "code": "blue",
    "imports": "magenta",
    "weights": "cyan",
    "node": "green",
    "ready": "bold",
    "first_run": "green",
}


@dataclass(frozen=True)
class _Row:
    stage: Stage
    # Where the bar is drawn, in seconds. Not the stage's start where a pause is left out.
    offset: float
    inside: bool


def chart(timeline: Timeline, *, width: int = 100, ascii_only: bool = False) -> RenderableType:
    """Make a chart for a console of so many columns, with a heading."""
    return Group(
        Text(heading(timeline, ascii_only=ascii_only)),
        bars(timeline.stages, width=width, ascii_only=ascii_only),
    )


def bars(stages: Sequence[Stage], *, width: int = 100, ascii_only: bool = False) -> Table:
    """Make the rows of a chart, also of a startup that is still going on.

    A first run that came later than the startup is drawn right after it: the pause between them
    would squeeze everything else into one column.
    """
    rows = _rows(stages)
    total = max((row.offset + row.stage.seconds for row in rows), default=0.0)
    words = [_words(row.stage, row.inside) for row in rows]
    names, times, sizes, sources = (
        max((cell_len(cells[column]) for cells in words), default=0) for column in range(4)
    )
    names = min(names, _MAX_NAME)
    columns = min(max(width - names - times - sizes - sources - 4 * _GAP, _MIN_BAR), _MAX_BAR)
    overflow: OverflowMethod = "crop" if ascii_only else "ellipsis"
    table = Table.grid(padding=(0, _GAP), pad_edge=False)
    # Where the console is narrow the names give way, and never the numbers.
    table.add_column(overflow=overflow, no_wrap=True, max_width=names)
    table.add_column(justify="right", no_wrap=True, min_width=times)
    table.add_column(no_wrap=True, min_width=columns)
    table.add_column(justify="right", no_wrap=True, min_width=sizes)
    table.add_column(overflow=overflow, no_wrap=True)
    for row, (name, time, size_, source) in zip(rows, words, strict=True):
        bar = Text(_bar(row, total, columns, ascii_only), style=_COLOURS.get(row.stage.kind, ""))
        table.add_row(Text(name), Text(time), bar, Text(size_), Text(source))
    return table


def text(timeline: Timeline, *, width: int = 100, ascii_only: bool = False) -> str:
    """Draw the chart without colours, for logs and files."""
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(chart(timeline, width=width, ascii_only=ascii_only))
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def heading(timeline: Timeline, *, ascii_only: bool = False) -> str:
    """Say in one line which startup it is, and how long it took."""
    separator = " - " if ascii_only else " · "
    ready = timeline.startup_seconds
    return separator.join(
        (
            f"{timeline.deployment} v{timeline.version}",
            f"startup {timeline.startup}",
            "not ready" if ready is None else f"ready after {duration(ready)}",
            f"process {timeline.worker_pid}",
        )
    )


def _rows(stages: Sequence[Stage]) -> list[_Row]:
    startup = [stage for stage in stages if stage.kind != "first_run"]
    end = max((stage.start + stage.seconds for stage in startup), default=0.0)
    nodes = [stage for stage in startup if stage.kind == "node"]
    return [
        _Row(
            stage,
            offset=min(stage.start, end) if stage.kind == "first_run" else stage.start,
            inside=stage.kind in ("weights", "imports")
            and any(node.start <= stage.start <= node.start + node.seconds for node in nodes),
        )
        for stage in sorted(stages, key=lambda stage: stage.start)
    ]


def _words(stage: Stage, inside: bool) -> tuple[str, str, str, str]:
    indent = "  " if inside else ""
    return (
        f"{indent}{_LABELS.get(stage.kind, stage.kind)} {stage.name}".rstrip(),
        "" if stage.kind == "ready" else duration(stage.seconds),
        size(stage.bytes) if stage.bytes else "",
        stage.source,
    )


def _bar(row: _Row, total: float, columns: int, ascii_only: bool) -> str:
    full, mark, rule = ("#", "|", "-") if ascii_only else ("█", "╴", "─")
    scale = columns / total if total > 0 else 0.0
    start = min(int(row.offset * scale), columns - 1)
    if row.stage.kind == "ready":
        return rule * start + mark
    # However short, a stage that took place is seen.
    length = max(round(row.stage.seconds * scale), 1)
    return " " * start + full * min(length, columns - start)
