"""The worker: loads a graph, executes its startup nodes once, then runs it on request.

User code runs in the main thread, which also reads the channel: a run costs no change of thread. If
the daemon goes away the worker ends at once, also in the middle of user code.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import io
import os
import select
import sys
import threading
import time

from pipelined import weights
from pipelined.worker import last_words, offspring, scratch
from pipelined.worker.channel import Channel, ChannelClosed
from pipelined.worker.execution import Succeeded, execute
from pipelined.worker.framing import Frame, brief_success
from pipelined.worker.link import Link
from pipelined.worker.run_files import RunFiles
from pipelined.worker.startup import Startup
from pipelined.worker.tracing import attached, is_recorded
from pipelined_api.worker.v1 import worker_pb2

_STDERR = 2
# What the client library imports on first use.
IMPORTED_LATE = (
    "pipeline._arrays",
    "pipeline._graph.pickling",
    "pipeline._graph.user_code",
    "pipeline._unpacking",
    "pipeline.objects.graph",
)


def run(channel: Channel) -> int:
    """Serve the daemon until it says stop or goes away; return the exit code."""
    _prepare_streams()
    # Whatever user code starts is found below this process, and ends with it.
    offspring.become_subreaper()
    # Of a crash in native code, the lines of Python that led there are among the last words.
    faulthandler.enable(all_threads=False)
    # If a weights file is cut short while it is mapped, the file is named.
    weights.report_faults(_STDERR, last_words.MARK)
    # A child that user code forks must neither speak for the worker nor keep its channel open.
    os.register_at_fork(after_in_child=channel.close)
    watch = threading.Thread(
        target=_end_with_the_daemon, args=(channel.fileno(),), name="pipelined-watch", daemon=True
    )
    watch.start()
    hello = worker_pb2.Hello(pid=os.getpid(), at=time.monotonic())
    try:
        channel.send(worker_pb2.FromWorker(hello=hello).SerializeToString())
        code = _serve(channel)
    except ChannelClosed:
        # The watch sees it too, but may not be done by the time that this thread ends the process.
        _leave_nothing()
        return 1
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    _flush_streams()
    return code


def _serve(channel: Channel) -> int:
    def report(message: worker_pb2.FromWorker) -> None:
        # What the startup printed shall not be taken for a run's.
        _flush_streams()
        channel.send(message.SerializeToString())

    startup = Startup(report)
    files = RunFiles()
    while True:
        frame = channel.receive()
        kind: str | None = "run"
        if frame.brief:
            order = worker_pb2.Run(run_id=frame.header.decode())
        else:
            message = worker_pb2.ToWorker.FromString(frame.header)
            kind, order = message.WhichOneof("message"), message.run
        if kind == "run" and startup.graph is not None:
            link = Link(channel, order.run_id, files)
            _execute(channel, startup, order, frame, link, files)
            # Not kept until the next run: inputs may be large.
            del frame
            if link.stopping:
                return 0
        elif kind in ("credit", "cancel"):
            # Of a run that had ended before it came.
            frame.close()
        elif kind == "input_file" and len(frame.fds) == 1:
            files.add_input(message.input_file.sha256, *frame.take_fds())
        elif kind == "start":
            if not startup.attempt(message.start, frame.take_fds()):
                return 1
        else:
            frame.close()
            # A stop, or what makes no sense here.
            return 0 if kind == "stop" else 1


def _execute(
    channel: Channel,
    startup: Startup,
    order: worker_pb2.Run,
    frame: Frame,
    link: Link,
    files: RunFiles,
) -> None:
    """Execute one run and answer it; nothing is left of it."""
    assert startup.graph is not None
    run_id = order.run_id
    with attached(order.trace_parent, order.trace_state):
        answer, payload = execute(
            startup.graph,
            run_id,
            frame.payload(),
            startup.max_response_bytes,
            link,
            files,
            stream=order.stream,
            timed=is_recorded(order.trace_parent),
        )
    _flush_streams()
    if files.any:
        if isinstance(answer, Succeeded):
            files.send_outputs(channel, run_id)
        files.close()
    # The payload of the run before has been read: the daemon would not have sent this one.
    if isinstance(answer, Succeeded) and not answer.nodes:
        channel.send(brief_success(run_id, answer.seconds), payload, reuse=True, brief=True)
    else:
        channel.send(_message(run_id, answer).SerializeToString(), payload, reuse=True)
    # Not kept until the next run: outputs may be large.
    del answer, payload
    scratch.end_run()


def _message(run_id: str, answer: Succeeded | worker_pb2.RunFailed) -> worker_pb2.FromWorker:
    if not isinstance(answer, Succeeded):
        return worker_pb2.FromWorker(run_failed=answer)
    succeeded = worker_pb2.RunSucceeded(
        run_id=run_id, execution_seconds=answer.seconds, nodes=answer.nodes
    )
    return worker_pb2.FromWorker(run_succeeded=succeeded)


def _end_with_the_daemon(channel: int) -> None:
    poll = select.poll()
    # Not for input: the main thread reads that.
    poll.register(channel, select.POLLRDHUP)
    poll.poll()
    _leave_nothing()
    os._exit(1)


def _leave_nothing() -> None:
    """End what only the daemon could end and remove after this process, if it is gone."""
    offspring.kill_descendants(os.getpid())
    scratch.remove()


def _prepare_streams() -> None:
    """Send out every line as it is printed, whatever characters it has."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _flush_streams() -> None:
    """Flush what user code printed without a newline; it may have closed or replaced them."""
    # An exit stack or a loop would take longer than all the rest, after every run.
    try:  # noqa: SIM105
        sys.stdout.flush()
    except Exception:
        pass
    try:  # noqa: SIM105
        sys.stderr.flush()
    except Exception:
        pass
