"""Graphs for the tests of what watches the daemon."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from pipeline import Graph, Pipeline, Variable, entity, pipe


@entity
class Told:
    @pipe(on_startup=True, run_once=True)
    def load(self) -> None:
        self.loaded = True

    @pipe
    def trace(self, number: int) -> str:
        from opentelemetry import trace

        print(f"number {number}")  # noqa: T201
        context = trace.get_current_span().get_span_context()
        return f"{context.trace_id:032x} {context.span_id:016x} {context.is_remote}"


@pipe
def fail(number: int) -> int:
    raise ValueError(f"a secret: {number}")


@pipe
def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


@pipe
def wait(started: str, release: str) -> bool:
    Path(started).touch()
    with Path(release).open() as file:
        return file.read() == ""


def traced() -> Graph:
    with Pipeline() as builder:
        number = Variable(int)
        told = Told()
        told.load()
        builder.output(told.trace(number))
    return builder.get_pipeline()


def failing() -> Graph:
    with Pipeline() as builder:
        builder.output(fail(Variable(int)))
    return builder.get_pipeline()


def dying() -> Graph:
    with Pipeline() as builder:
        builder.output(die(Variable(int)))
    return builder.get_pipeline()


def waiting() -> Graph:
    with Pipeline() as builder:
        builder.output(wait(Variable(str), Variable(str)))
    return builder.get_pipeline()
