"""Which lines are kept, and what readers get of them."""

from __future__ import annotations

import asyncio

from pipelined.core.printed import (
    LINE_BYTES,
    MAX_BYTES,
    MAX_DEPLOYMENTS,
    MAX_LINES,
    Journal,
    Line,
    LineBuffer,
    Printed,
)


def lines(*texts: str, at: float = 0.0) -> list[Line]:
    return [Line(at, text) for text in texts]


def printed(*texts: str, run_id: str = "", deployment: str = "") -> Printed:
    return Printed("worker-1", texts, deployment, run_id)


async def texts(buffer: LineBuffer, tail: int | None = None) -> list[str]:
    return [line.text async for batch in buffer.read(tail=tail) for line in batch]


async def test_a_reader_gets_all_lines_or_the_newest() -> None:
    buffer = LineBuffer()
    assert await texts(buffer) == []
    numbers = [str(number) for number in range(1000)]
    buffer.add(lines(*numbers, at=1.0))
    assert await texts(buffer) == numbers
    assert await texts(buffer, 3) == ["997", "998", "999"]
    assert await texts(buffer, 0) == []
    assert await texts(buffer, 5000) == numbers


async def test_the_oldest_lines_are_dropped_and_counted() -> None:
    buffer = LineBuffer()
    for number in range(MAX_LINES + 5):
        buffer.add(lines(str(number), at=float(number)))
    [note, *kept] = await texts(buffer)
    assert note == "… 5 lines not kept …"
    assert kept == [str(number) for number in range(5, MAX_LINES + 5)]
    # Who asks for the newest has missed nothing.
    assert await texts(buffer, MAX_LINES) == kept


async def test_more_at_once_than_is_kept() -> None:
    journal = Journal(lambda: 0.0)
    buffer = journal.open("run")
    journal.add(printed("old", run_id="run"))
    journal.add(printed(*(str(number) for number in range(3 * MAX_LINES)), run_id="run"))
    [note, *kept] = await texts(buffer)
    assert note == f"… {2 * MAX_LINES + 1} lines not kept …"
    assert (len(kept), kept[0]) == (MAX_LINES, str(2 * MAX_LINES))


async def test_bytes_are_bounded() -> None:
    buffer = LineBuffer()
    for text in ("a" * 1000, "ü" * 500):
        for _ in range(2 * MAX_BYTES // 1000):
            buffer.add(lines(text, at=0.0))
        [note, *kept] = [line async for batch in buffer.read() for line in batch]
        assert note.note
        assert sum(len(line.text.encode()) for line in kept) == MAX_BYTES // 1000 * 1000


async def test_a_follower_gets_what_comes_until_the_end() -> None:
    buffer = LineBuffer()
    buffer.add(lines("before", at=0.0))
    followers = [buffer.read(follow=True) for _ in range(2)]
    for follower in followers:
        assert [line.text for line in await anext(follower)] == ["before"]
    waiting = [asyncio.create_task(follower.__anext__()) for follower in followers]
    await asyncio.sleep(0)
    buffer.add(lines("after", at=1.0))
    for task in waiting:
        assert [line.text for line in await task] == ["after"]
    buffer.add(lines("last", at=2.0))
    buffer.close()
    for follower in followers:
        assert [[line.text for line in batch] async for batch in follower] == [["last"]]


async def test_a_follower_that_is_late_is_told_what_it_missed() -> None:
    buffer = LineBuffer()
    buffer.add(lines("first", at=0.0))
    follower = buffer.read(follow=True)
    assert [line.text for line in await anext(follower)] == ["first"]
    buffer.add(lines(*("x" for _ in range(MAX_LINES + 7)), at=1.0))
    buffer.close()
    [note] = await anext(follower)
    assert (note.note, note.text, note.at) == (True, "… 7 lines not kept …", 1.0)
    assert sum([len(batch) async for batch in follower]) == MAX_LINES


async def test_a_reader_that_does_not_follow_ends_though_more_comes() -> None:
    buffer = LineBuffer()
    buffer.add(lines("one", at=0.0))
    reader = buffer.read()
    assert [line.text for line in await anext(reader)] == ["one"]
    buffer.add(lines("two", at=0.0))
    assert [batch async for batch in reader] == []


async def test_all_runs_together_are_bounded() -> None:
    cost = 3 * (LINE_BYTES + 10)
    journal = Journal(lambda: 0.0, limit=2 * cost)
    buffers = [journal.open(f"run-{number}") for number in range(3)]
    for number in range(3):
        journal.add(printed(*["x" * 10] * 3, run_id=f"run-{number}"))
    assert await texts(buffers[0]) == ["… 3 lines not kept …"]
    assert [len(await texts(buffer)) for buffer in buffers[1:]] == [3, 3]
    # What is forgotten makes room, too.
    journal.forget("run-1")
    journal.add(printed(*["x" * 10] * 3, run_id="run-0"))
    assert [len(await texts(buffers[number])) for number in (0, 2)] == [4, 3]


async def test_one_run_may_have_all_the_room() -> None:
    journal = Journal(lambda: 0.0, limit=LINE_BYTES)
    one, other = journal.open("one"), journal.open("other")
    journal.add(printed("a", run_id="one"))
    journal.add(printed("b", run_id="other"))
    journal.add(printed("c", run_id="one"))
    assert await texts(one) == ["… 1 line not kept …", "c"]
    assert await texts(other) == ["… 1 line not kept …"]


async def test_deployments_printed_under_least_recently_are_forgotten() -> None:
    journal = Journal(lambda: 0.0)
    journal.add(printed("old", deployment="first"))
    followed = journal.of_deployment("first").read(follow=True)
    assert [line.text for line in await anext(followed)] == ["old"]
    for number in range(MAX_DEPLOYMENTS):
        journal.add(printed("new", deployment=f"d{number}"))
    assert await texts(journal.of_deployment("d5")) == ["new"]
    assert await texts(journal.of_deployment("first")) == []
    assert [batch async for batch in followed] == []
