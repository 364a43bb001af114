"""Structured logs on stderr, for people or for machines."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from typing import TextIO, cast

import structlog

from pipelined.core.current_run import current_run
from pipelined.settings import LogFormat


class _Stderr(io.TextIOBase):
    """Standard error, which may be on a full disk or a pipe without a reader.

    What cannot be written is lost: no caller of the log has to expect that it fails.
    """

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()


def _add_run(
    logger: object, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Say of which run a line is that is logged while one is carried out."""
    if (run := current_run.get()) is not None:
        event.setdefault("run_id", run.id)
        event.setdefault("deployment", run.deployment)
        event.setdefault("version", run.version)
        if run.trace.parent:
            event.setdefault("trace_id", run.trace.parent.split("-")[1])
    return event


def configure(log_format: LogFormat, *, debug: bool) -> None:
    """Set up structlog, and the standard library's logging through it, once for the process."""
    level = logging.DEBUG if debug else logging.INFO
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_run,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor
    if log_format is LogFormat.JSON:
        # Without the values of local variables, here and below: secrets may be among them.
        transformer = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        shared.append(structlog.processors.ExceptionRenderer(transformer))
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Stderr())),
        cache_logger_on_first_use=True,
    )
    # Its own failures would be printed, to where nothing can be printed.
    logging.raiseExceptions = False
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.DEBUG if debug else logging.WARNING)
    # Its debug lines have the parameters of statements: values of the workers' variables.
    logging.getLogger("aiosqlite").setLevel(logging.INFO)
