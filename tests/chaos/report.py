"""What the storm prints: a line while it goes on, tables at its end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from statistics import quantiles

from rich.console import Console
from rich.table import Table

from tests.chaos.callers import Answers
from tests.chaos.incidents import Incidents
from tests.chaos.prober import Prober
from tests.chaos.submitted import Ledger
from tests.chaos.watch import Watch

# Where the line cannot be written over, as in the log of a build.
LINE_SECONDS = 10.0


class LiveLine:
    """One line about the storm, renewed in place on a terminal, now and then elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = console.status("") if console.is_terminal else None
        self._due = 0.0

    def __enter__(self) -> LiveLine:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._status is not None:
            self._status.stop()

    def show(self, text: str) -> None:
        """Say it."""
        if self._status is not None:
            self._status.update(text)
        elif time.monotonic() >= self._due:
            self._due = time.monotonic() + LINE_SECONDS
            self._console.print(text, highlight=False, markup=False)


def print_faults(console: Console, incidents: Incidents, impossible: Mapping[str, str]) -> None:
    """How many of each kind were injected and survived."""
    table = Table("fault", "injected", "survived", "errors excused", "notes", title="Faults")
    for column in table.columns[1:4]:
        column.justify = "right"
    for name, tally in sorted(incidents.tallies.items()):
        notes = ", ".join(f"{note} {count}x" for note, count in tally.notes.most_common(4))
        style = None if tally.injected == tally.survived else "bold red"
        table.add_row(
            name,
            str(tally.injected),
            str(tally.survived),
            str(incidents.excused[name]),
            notes,
            style=style,
        )
    for name, why in impossible.items():
        table.add_row(name, "–", "–", "", f"not possible here: {why}", style="yellow")
    table.add_section()
    table.add_row(
        "in all",
        str(sum(tally.injected for tally in incidents.tallies.values())),
        str(sum(tally.survived for tally in incidents.tallies.values())),
        str(incidents.excused.total()),
    )
    console.print(table)


def print_answers(console: Console, answers: Mapping[str, Answers]) -> None:
    """What callers have got."""
    table = Table(title="Load")
    table.add_column("deployment")
    for heading in ("right", "excused", "p50 ms", "p99 ms", "most ms", "longest gap s"):
        table.add_column(heading, justify="right")
    for name, got in answers.items():
        table.add_row(
            name, str(got.right), str(got.failed), *_times([*got.seconds]), f"{got.longest_gap:.1f}"
        )
    console.print(table)


def _times(seconds: Sequence[float]) -> list[str]:
    if len(seconds) < 2:
        return ["", "", ""]
    cuts = quantiles(seconds, n=100)
    return [f"{value * 1e3:.0f}" for value in (cuts[49], cuts[98], max(seconds))]


def print_rest(console: Console, ledger: Ledger, prober: Prober, watch: Watch) -> None:
    """Submitted runs, health, memory."""
    states = ", ".join(f"{count} {state}" for state, count in ledger.counts().most_common())
    console.print(f"Submitted runs: {len(ledger.entries)} accepted: {states or 'none'}")
    console.print(
        f"Health: {prober.serving} times SERVING, and a run sent then; {prober.other} times not"
    )
    lives = max(watch.lives, default=0)
    console.print(
        f"Daemon: {lives} lives, at most {watch.most_resident >> 20} MiB resident and "
        f"{watch.most_growth >> 20} MiB of growth in one life, {watch.most_descriptors} descriptors"
    )


def print_violations(console: Console, incidents: Incidents) -> None:
    """What must not be."""
    if not incidents.violated:
        console.print("No violations.", style="bold green")
        return
    table = Table("after s", "what", "", title="Violations", style="red")
    for violation in sorted(incidents.violations, key=lambda found: found.seconds):
        table.add_row(f"{violation.seconds:.1f}", violation.sort, violation.text)
    console.print(table)
    for sort, count in incidents.violated.items():
        console.print(f"{sort}: {count}", style="red", highlight=False)
