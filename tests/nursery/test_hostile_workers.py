"""Workers whose code speaks to the daemon by itself, and not as it should."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import hashlib
import os
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from pipeline import Pipeline, Variable, _values, pipe
from pipelined.core.errors import RunFailed, WorkerDied
from pipelined.core.files import FileLimits
from pipelined.core.ports import RunResult
from pipelined.nursery.remote_worker import RemoteWorker
from pipelined.store.files import Files
from pipelined.worker import framing
from pipelined.worker.channel import Channel
from pipelined.worker.flow import FILE_BYTES, MAX_AHEAD_BYTES
from pipelined.worker.shared_memory import seal
from pipelined_api.v1 import runs_pb2, timeline_pb2
from pipelined_api.worker.v1 import worker_pb2
from tests.nursery.launching import Launching, call, graph_of, launching
from tests.nursery.user_code import identity

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Longer than anything here takes; a run that is never told of its end would wait for ever.
BOUND_SECONDS = 60.0
RUN_ID = "run-1"
SIZE = 100


def unsealed() -> int:
    """Shared memory that may still be changed."""
    memory = os.memfd_create("unsealed")
    os.write(memory, bytes(SIZE))
    return memory


def write_only() -> int:
    """Sealed shared memory that cannot be read."""
    memory = seal(bytes(SIZE))
    writer = os.memfd_create("write-only", os.MFD_ALLOW_SEALING)
    os.write(writer, bytes(SIZE))
    descriptor = os.open(f"/proc/self/fd/{writer}", os.O_WRONLY)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.fcntl(memory, fcntl.F_GET_SEALS))
    return descriptor


def place() -> int:
    """A descriptor that stands for a place and not for an open file."""
    return os.open("/", os.O_PATH)


def shorter() -> int:
    """Shared memory that has less than is announced."""
    return seal(bytes(SIZE - 1))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def keeping(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Launching]:
    """A nursery whose workers may give back files."""
    folder = tmp_path_factory.mktemp("nursery")
    async with launching(folder, (), files=Files(folder / "files", FileLimits())) as result:
        yield result


MEMORIES = {make.__name__: make for make in (unsealed, write_only, place, shorter)}


def say(message: worker_pb2.FromWorker, memory: int, size: int = SIZE) -> None:
    """Send a frame whose payload is in what is called shared memory."""
    [channel] = [known for known in gc.get_objects() if type(known) is Channel]
    header = message.SerializeToString()
    head = framing.PREFIX.pack(framing.MAGIC, framing.PAYLOAD_IN_MEMFD, 1, len(header), size)
    channel._send([head, header], [memory])


def answer(memory: str, size: int) -> None:
    """The answer to the run, before its time."""
    succeeded = worker_pb2.RunSucceeded(run_id=RUN_ID)
    say(worker_pb2.FromWorker(run_succeeded=succeeded), MEMORIES[memory](), size)


def answer_briefly(memory: str, size: int) -> None:
    """The same with a brief header."""
    [channel] = [known for known in gc.get_objects() if type(known) is Channel]
    header = framing.brief_success(RUN_ID, 0.0)
    flags = framing.PAYLOAD_IN_MEMFD | framing.BRIEF
    head = framing.PREFIX.pack(framing.MAGIC, flags, 1, len(header), size)
    channel._send([head, header], [MEMORIES[memory]()])


def answer_with_a_file(memory: str, size: int) -> None:
    """The same, with a file that is given back."""
    [channel] = [known for known in gc.get_objects() if type(known) is Channel]
    content = os.memfd_create("output")
    output = worker_pb2.OutputFile(run_id=RUN_ID, sha256=hashlib.sha256().digest(), size=0)
    message = worker_pb2.FromWorker(output_file=output)
    channel.send(message.SerializeToString(), fds=[content])
    answer(memory, size)


def stream(memory: str, size: int) -> None:
    """An element of a stream."""
    elements = worker_pb2.Elements(run_id=RUN_ID)
    say(worker_pb2.FromWorker(elements=elements), MEMORIES[memory](), size)


async def streamed(worker: RemoteWorker, request: bytes) -> RunResult:
    stream = worker.stream(RUN_ID, request)
    while await stream.next() is not None:
        pass
    return await stream.ended


@pytest.mark.parametrize("size", [SIZE, 2 << 20], ids=["small", "large"])
@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("act", [answer, answer_briefly, answer_with_a_file, stream])
async def test_memory_that_cannot_be_read_ends_the_run_and_the_worker(
    keeping: Launching, act: Callable[[str, int], None], memory: str, size: int
) -> None:
    worker = await keeping.start(graph_of(act, str, int))
    other = await keeping.start(graph_of(identity, int))
    inputs = [_values.encode(memory), _values.encode(size)]
    request = runs_pb2.RunRequest(inputs=inputs).SerializeToString()
    run = streamed(worker, request) if act is stream else worker.run(RUN_ID, request)
    with pytest.raises(WorkerDied):
        await asyncio.wait_for(run, BOUND_SECONDS)
    await asyncio.wait_for(worker.exited, BOUND_SECONDS)
    assert await call(other, 5) == 5


def say_briefly(header: bytes, descriptors: int) -> None:
    """An answer with such a header, and descriptors that nobody has asked for."""
    [channel] = [known for known in gc.get_objects() if type(known) is Channel]
    content = os.memfd_create("output")
    channel.send(header, fds=[content] * descriptors, brief=True)


@pytest.mark.parametrize(
    ("header", "descriptors"),
    [
        (b"", 0),
        (bytes(8) + b"\xff", 0),
        (framing.brief_success("another", 0.0), 0),
        (framing.brief_success(RUN_ID, 0.0), 1),
    ],
    ids=["empty", "no text", "of another run", "with a descriptor"],
)
async def test_a_brief_answer_that_makes_no_sense_ends_the_worker(
    keeping: Launching, header: bytes, descriptors: int
) -> None:
    worker = await keeping.start(graph_of(say_briefly, bytes, int))
    inputs = [_values.encode(header), _values.encode(descriptors)]
    request = runs_pb2.RunRequest(inputs=inputs).SerializeToString()
    with pytest.raises(WorkerDied):
        await asyncio.wait_for(worker.run(RUN_ID, request), BOUND_SECONDS)
    await asyncio.wait_for(worker.exited, BOUND_SECONDS)


def flood(elements: int, files: int) -> None:
    """Elements that refer to files each, one after the other, without waiting for credit."""
    [channel] = [known for known in gc.get_objects() if type(known) is Channel]
    content = os.memfd_create("output")
    output = worker_pb2.OutputFile(run_id=RUN_ID, sha256=hashlib.sha256().digest(), size=0)
    file = worker_pb2.FromWorker(output_file=output).SerializeToString()
    element = worker_pb2.FromWorker(elements=worker_pb2.Elements(run_id=RUN_ID))
    for _ in range(elements):
        for _ in range(files):
            channel.send(file, fds=[content])
        channel.send(element.SerializeToString())


async def test_a_stream_cannot_use_up_the_descriptors_of_the_daemon(keeping: Launching) -> None:
    worker = await keeping.start(graph_of(flood, int, int))
    inputs = [_values.encode(2), _values.encode(MAX_AHEAD_BYTES // FILE_BYTES + 1)]
    stream = worker.stream(RUN_ID, runs_pb2.RunRequest(inputs=inputs).SerializeToString())
    with pytest.raises(WorkerDied):
        await asyncio.wait_for(stream.ended, BOUND_SECONDS)
    await asyncio.wait_for(worker.exited, BOUND_SECONDS)


def fail_at_length(size: int) -> None:
    """A failure that says more than anybody keeps."""
    [channel] = [known for known in gc.get_objects() if type(known) is Channel]
    failed = worker_pb2.RunFailed(run_id=RUN_ID, subject="s" * size, bound="b" * size)
    failed.failure.type = failed.failure.message = failed.failure.node = "x" * size
    failed.failure.traceback = "t" * size
    channel.send(worker_pb2.FromWorker(run_failed=failed).SerializeToString())


async def test_what_is_kept_of_a_failure_is_bounded(keeping: Launching) -> None:
    worker = await keeping.start(graph_of(fail_at_length, int))
    with pytest.raises(RunFailed) as caught:
        await call(worker, 600_000, run_id=RUN_ID)
    failure = caught.value.failure
    kept = [failure.type, failure.message, failure.node, failure.traceback, str(caught.value)]
    assert sum(map(len, kept)) < 16 * 1024


@pipe(on_startup=True, run_once=True)
def report_stages_for_ever() -> None:
    [channel] = [known for known in gc.get_objects() if type(known) is Channel]
    stage = worker_pb2.FromWorker(stage=timeline_pb2.Stage(name="x")).SerializeToString()
    while True:
        channel.send(stage)


async def test_a_startup_has_so_many_stages_and_no_more(keeping: Launching) -> None:
    with Pipeline() as builder:
        report_stages_for_ever()
        builder.output(pipe(identity)(Variable(int)))
    starting = keeping.start(builder.get_pipeline())
    with pytest.raises(WorkerDied):
        await asyncio.wait_for(starting, BOUND_SECONDS)
