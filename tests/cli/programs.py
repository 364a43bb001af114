"""Programs that tests of the command deploy, and how it is called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner, Result

from pipeline.cli.app import app
from tests.running_daemon import RunningDaemon

PROGRAM = '''
"""Several graphs, as a user would write them."""

import os
import time
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline import File, InputField, InputSchema, Pipeline, Variable, entity, pipe


class Options(InputSchema):
    height: int = InputField(default=64, ge=8, le=128, multiple_of=8)
    style: str | None = None


@entity
class Painter:
    @pipe(on_startup=True)
    def load(self) -> None:
        self.brush = "brush"

    @pipe
    def paint(self, prompt: str, options: Options) -> str:
        return f"{self.brush}: {prompt} {options.height} {options.style}"


@pipe
def greet(name: str) -> str:
    return "hello " + name


@pipe
def explode(text: str) -> str:
    raise LookupError("nothing called " + text)


@pipe
def report(count: int, source: File) -> list:
    folder = Path(os.environ["PIPELINE_TEST_FOLDER"])
    reports = []
    for index in range(count):
        path = folder / "report.txt"
        path.write_bytes(source.read() + str(index).encode())
        reports.append(File.from_bytes(path.read_bytes(), name="report.txt"))
    return reports


@pipe
def vector(size: int) -> np.ndarray:
    return np.arange(size, dtype=np.float32)


@pipe
def picture(size: int) -> Image.Image:
    return Image.new("RGB", (size, size), (255, 0, 0))


@pipe
def until(started: str, stop: str) -> str:
    Path(started).write_text("started")
    while not Path(stop).exists():
        time.sleep(0.01)
    return "stopped"


@entity
class Broken:
    @pipe(on_startup=True)
    def load(self) -> None:
        raise OSError("no such model")

    @pipe
    def use(self, text: str) -> str:
        return text


def one(function, type_, name):
    with Pipeline() as builder:
        builder.output(function(Variable(type_, title=name)))
    return builder


with Pipeline() as builder:
    prompt = Variable(str, title="prompt")
    kwargs = Variable(Options, title="kwargs", default=Options())
    painter = Painter()
    painter.load()
    builder.output(painter.paint(prompt, kwargs))

paint = builder.get_pipeline()
greeting = one(greet, str, "name")
exploding = one(explode, str, "text")
vectors = one(vector, int, "size")
pictures = one(picture, int, "size")

with Pipeline() as endless:
    started = Variable(str, title="started")
    stop = Variable(str, title="stop")
    endless.output(until(started, stop))

with Pipeline() as reporting:
    count = Variable(int, title="count")
    source = Variable(File, title="source")
    reporting.output(report(count, source))

with Pipeline() as broken:
    text = Variable(str, title="text")
    model = Broken()
    model.load()
    broken.output(model.use(text))

with Pipeline() as both:
    text = Variable(str, title="name")
    size = Variable(int, title="size")
    both.output(greet(text), vector(size))


def made():
    return greeting


number = 3
'''


def call(daemon: RunningDaemon | None, *arguments: str) -> Result:
    """Run the command in this process."""
    before = [] if daemon is None else ["--address", daemon.address]
    return CliRunner().invoke(app, [*before, *arguments], prog_name="pipeline")


def done(daemon: RunningDaemon, *arguments: str) -> str:
    """Run the command, which has to succeed, and return what it printed."""
    result = call(daemon, *arguments)
    assert result.exit_code == 0, result.output
    return str(result.stdout)


def command(*arguments: str) -> list[str]:
    """What starts the command in a process of its own."""
    return [str(Path(sys.executable).with_name("pipeline")), *arguments]


def process(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, without a terminal."""
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
