"""Runs that wait for a file to be there, for tests of what happens to them meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline import Graph, Pipeline, Variable, pipe


@pipe
def repeated(text: str, times: int) -> str:
    return text * times


@pipe
def first(ready: str, release: str) -> str:
    Path(ready).write_text("here")
    while not Path(release).exists():
        time.sleep(0.005)
    return ready


@pipe
def second(ready: str, reached: str) -> int:
    with Path(reached).open("a") as file:
        file.write("reached\n")
    return os.getpid()


def graph_of(function: Callable[..., Any], *types: Any) -> Graph:
    with Pipeline() as builder:
        builder.output(function(*(Variable(type_) for type_ in types)))
    return builder.get_pipeline()


def two_nodes() -> Graph:
    """Takes the paths ready, release, reached."""
    with Pipeline() as builder:
        ready, release, reached = (Variable(str) for _ in range(3))
        builder.output(second(first(ready, release), reached))
    return builder.get_pipeline()


class Paths:
    """What a run of ``two_nodes`` or ``waiting`` is held up with."""

    def __init__(self, folder: Path) -> None:
        self.ready, self.release, self.reached = (
            folder / name for name in ("ready", "release", "reached")
        )

    @property
    def inputs(self) -> tuple[str, str, str]:
        return str(self.ready), str(self.release), str(self.reached)
