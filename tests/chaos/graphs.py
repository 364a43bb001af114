"""The pipelines of the storm: each gives a checkable function of what it is given.

`answer_to` is that function; what a run gives back is compared with it, in another process.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import File, Graph, InputField, InputSchema, Pipeline, Variable, entity, pipe

# How many seconds the children of a run would live, if nobody ended them.
CHILD_SECONDS = 3600
MIB = 1 << 20


def answer_to(question: str) -> str:
    """What a run has to say to a question."""
    return hashlib.sha256(question.encode()).hexdigest()


def array_of(number: int, size: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """An array that no other number has, of so many elements."""
    return np.arange(number, number + size, dtype=np.float32)


class Order(InputSchema):
    """What the deployment with a schema takes."""

    name: str = InputField(min_length=1, max_length=40)
    amount: int = InputField(ge=1, le=1000)


@pipe
def echo(question: str, build: int) -> str:
    """The answer; the build only makes versions differ."""
    return hashlib.sha256(question.encode()).hexdigest()


@entity
class Counter:
    """Counts the runs of its process."""

    @pipe(on_startup=True, run_once=True)
    def start(self) -> None:
        self.life = os.urandom(8).hex()
        self.count = 0

    @pipe
    def next(self, question: str) -> list:  # type: ignore[type-arg]
        self.count += 1
        return [self.life, self.count, hashlib.sha256(question.encode()).hexdigest()]


@pipe(on_startup=True)
def fail_while(flag: str) -> None:
    """A startup that fails as long as there is a file."""
    if Path(flag).exists():
        raise RuntimeError("this startup was told to fail")


@pipe
def parts(question: str, count: int, size: int) -> Iterator[str]:
    """So many answers, one for each number, made longer to ``size`` characters."""
    for number in range(count):
        yield hashlib.sha256(f"{question}/{number}".encode()).hexdigest().ljust(size, ".")


@pipe
def doubled(array: np.ndarray) -> np.ndarray:
    return array * 2 + 1


@pipe
def priced(order: Order) -> str:
    return hashlib.sha256(f"{order.name}/{order.amount}".encode()).hexdigest()


@pipe
def reversed_file(file: File) -> File:
    path = Path(file.name)
    return File.from_bytes(file.read()[::-1], name=path.name)


@pipe
def executed(notes: str, key: str, seconds: float) -> str:
    """Note the key, take some time, and answer."""
    descriptor = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{key}\n".encode())
    os.close(descriptor)
    time.sleep(seconds)
    return hashlib.sha256(key.encode()).hexdigest()


@pipe
def misbehave(how: str, note: str, size: int) -> str:
    """Do what the storm is about; the note says by which process, when it begins."""
    Path(note).write_text(str(os.getpid()))
    if how == "spin":
        # Never back in the interpreter, so that no signal handler and no exception reaches it.
        deque(repeat(None), maxlen=0)
    elif how == "segfault":
        ctypes.string_at(0)
    elif how == "exit":
        os._exit(3)
    elif how == "leak":
        kept = []
        for _ in range(size):
            kept.append(bytearray(os.urandom(4096)) * 256)
            time.sleep(0.005)
    elif how == "fork":
        sleep = [sys.executable, "-c", f"import time; time.sleep({CHILD_SECONDS})"]
        children = [
            subprocess.Popen(sleep, start_new_session=True).pid,
            subprocess.Popen(sleep).pid,
        ]
        # One that was forked from the worker itself, and leaves its session.
        if (child := os.fork()) == 0:
            os.setsid()
            time.sleep(CHILD_SECONDS)
            os._exit(0)
        Path(note).write_text(" ".join(map(str, [*children, child])))
    elif how == "flood":
        line = "a line that nobody wants to read, and that is followed by many others " * 3 + "\n"
        for _ in range(size):
            sys.stdout.write(line)
    return hashlib.sha256(note.encode()).hexdigest()


def graph_of(function: Callable[..., Any], *types: Any) -> Graph:
    """One node, with an input for each of its parameters."""
    with Pipeline() as builder:
        builder.output(function(*(Variable(type_) for type_ in types)))
    return builder.get_pipeline()


def echo_graph(build: int) -> Graph:
    """Each build is a version of its own."""
    with Pipeline() as builder:
        builder.output(echo(Variable(str), build))
    return builder.get_pipeline()


def counter_graph() -> Graph:
    """A deployment with a state."""
    with Pipeline() as builder:
        counter = Counter()
        counter.start()
        builder.output(counter.next(Variable(str)))
    return builder.get_pipeline()


def schema_graph() -> Graph:
    """A deployment whose input has fields and bounds."""
    with Pipeline() as builder:
        order = Variable(Order)
        builder.output(priced(order))
    return builder.get_pipeline()


def parts_graph() -> Graph:
    """A deployment that streams."""
    return graph_of(parts, str, int, int)


def fragile_graph(flag: str) -> Graph:
    """A deployment that cannot be started as long as there is a file."""
    with Pipeline() as builder:
        fail_while(flag)
        builder.output(echo(Variable(str), 0))
    return builder.get_pipeline()
