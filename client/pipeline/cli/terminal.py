"""Where the command prints: results on stdout; progress, warnings and errors on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.text import Text

from pipeline import errors

# Of a chart in a file or a pipe.
PLAIN_WIDTH = 100
# Wide enough that rows of tables are not wrapped where grep and cut read them.
_ROW_WIDTH = 1000


def stdout() -> Console:
    """Make a console for results: colours only on a terminal."""
    return _console(stderr=False)


def stderr() -> Console:
    """Make a console for what is not a result."""
    return _console(stderr=True)


def _console(stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    # rich would take 80 columns where there is no terminal.
    width = None if stream.isatty() or "COLUMNS" in os.environ else _ROW_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def chart_width(console: Console) -> int:
    """Tell how wide a chart may be."""
    return min(console.width, 160) if console.is_terminal else min(console.width, PLAIN_WIDTH)


def ascii_only(console: Console) -> bool:
    """Whether the console cannot show bars."""
    return not console.encoding.lower().startswith("utf")


def print_text(text: str, *, flush: bool = False) -> None:
    """Print a result as it is: neither wrapped nor coloured."""
    sys.stdout.write(text + "\n")
    if flush:
        sys.stdout.flush()


def print_rows(rows: RenderableType) -> None:
    """Print a table or a chart; the padding of its last column only on a terminal."""
    console = stdout()
    if console.is_terminal:
        console.print(rows)
        return
    with console.capture() as capture:
        console.print(rows)
    print_text("\n".join(line.rstrip() for line in capture.get().splitlines()))


def print_json(value: object) -> None:
    """Print a result for programs: one JSON document."""
    print_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def print_json_line(value: object) -> None:
    """Print one of several results for programs: a JSON document on a line of its own, at once."""
    print_text(json.dumps(value, ensure_ascii=False, allow_nan=False), flush=True)


def warn(message: str) -> None:
    """Print a warning."""
    _labelled("warning: ", "yellow", message)


def fail(message: str) -> None:
    """Print why the command failed."""
    _labelled("error: ", "bold red", message)


def report(error: errors.PipelineError) -> None:
    """Print an error; of user code that raised in the worker, also the traceback there."""
    remote = getattr(error, "remote_traceback", "")
    if remote:
        sys.stderr.write(remote.rstrip("\n") + "\n\n")
    message = error.message
    retry_after = getattr(error, "retry_after", None)
    if retry_after:
        message += f" (try again in {retry_after:.3g} s)"
    fail(message)


def _labelled(label: str, style: str, message: str) -> None:
    console = stderr()
    console.print(Text(label, style=style) + Text(message, style="not bold"), soft_wrap=True)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show on a terminal that something goes on; elsewhere nothing."""
    console = stderr()
    if not console.is_terminal:
        yield
        return
    with console.status(what, spinner="dots"):
        yield
