"""What workers print, including far too much of it."""

from __future__ import annotations

import asyncio
import os

import pytest
from structlog.testing import capture_logs

from pipelined.core.printed import Printed
from pipelined.nursery.output import MAX_LINE, OutputReader
from pipelined.nursery.supervisor import log_output
from tests.nursery.launching import Launching, call, graph_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Output:
    """A pipe with a reader, as a worker's output has one."""

    def __init__(self) -> None:
        read_end, self.pipe = os.pipe()
        self.lines: asyncio.Queue[str] = asyncio.Queue()
        self.reader = OutputReader(read_end, self._add)

    def _add(self, lines: list[str]) -> None:
        for line in lines:
            self.lines.put_nowait(line)

    def left(self) -> list[str]:
        """End the output and return the lines that nobody has taken."""
        os.close(self.pipe)
        self.reader.close()
        return [self.lines.get_nowait() for _ in range(self.lines.qsize())]


async def test_lines_arrive_one_by_one_and_the_last_without_its_end() -> None:
    output = Output()
    os.write(output.pipe, b"one\ntw")
    assert await output.lines.get() == "one"
    os.write(output.pipe, "o ü\r\n\nfour".encode())
    assert await output.lines.get() == "two ü"
    assert await output.lines.get() == ""
    assert output.left() == ["four"]


async def test_what_is_no_text_is_shown_as_far_as_it_can_be() -> None:
    output = Output()
    os.write(output.pipe, b"\xff\xfeabc\x00\n")
    assert output.left() == ["\ufffd\ufffdabc\x00"]


async def test_a_long_line_is_cut() -> None:
    output = Output()
    os.write(output.pipe, b"x" * MAX_LINE + b"\n" + b"y" * (MAX_LINE + 1) + b"\nz\n")
    assert output.left() == ["x" * MAX_LINE, "y" * MAX_LINE + " …", "z"]


async def test_a_line_without_an_end_takes_no_more_memory_than_a_line() -> None:
    output = Output()
    megabytes = asyncio.to_thread(os.write, output.pipe, b"x" * 3_000_000)
    await megabytes
    os.write(output.pipe, b"\nnext\n")
    assert await output.lines.get() == "x" * MAX_LINE + " …"
    assert await output.lines.get() == "next"
    assert output.left() == []


async def test_a_flood_arrives_whole() -> None:
    output = Output()
    await asyncio.to_thread(os.write, output.pipe, b"\n" * 500_000)
    assert output.left() == [""] * 500_000


async def test_what_is_there_can_be_read_at_once() -> None:
    output = Output()
    os.write(output.pipe, b"one\r\ntwo")
    output.reader.drain()
    # The next writer begins a line of its own.
    os.write(output.pipe, b"three\n")
    output.reader.drain()
    output.reader.drain()
    assert output.left() == ["one", "two", "three"]


def chatter(count: int) -> int:
    import logging
    import sys

    for number in range(count):
        print("line", number)  # noqa: T201
    logging.warning("a warning")
    sys.stderr.write("an error ü\n")
    print("no end", end="")  # noqa: T201
    return count


@pytest.mark.parametrize("variables", [{}, {"TZ": "UTC"}], ids=["fork", "exec"])
async def test_both_streams_of_a_worker_are_read(
    shared: Launching, variables: dict[str, str]
) -> None:
    worker = await shared.start(graph_of(chatter, int), variables)
    assert await call(worker, 2) == 2
    await worker.stop(60)
    printed = [line for process, line in shared.lines if process == worker.id]
    assert printed[:2] == ["line 0", "line 1"]
    assert {"WARNING:root:a warning", "an error ü", "no end"} <= set(printed)


async def test_a_worker_that_floods_its_output_gets_its_run_done(shared: Launching) -> None:
    worker = await shared.start(graph_of(chatter, int))
    assert await call(worker, 200_000) == 200_000


async def test_of_a_flood_some_lines_are_logged_and_the_rest_counted() -> None:
    with capture_logs() as entries:
        log_output(Printed("worker-1", ["x"] * 3000))
    logged = [entry["line"] for entry in entries if entry["worker"] == "worker-1"]
    assert logged == ["x"] * 200 + ["… 2800 lines left out …"]
