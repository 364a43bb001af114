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
from pipelined.worker.execution import execute
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
        message = worker_pb2.ToWorker.FromString(frame.header)
        kind = message.WhichOneof("message")
        if kind == "run" and startup.graph is not None:
            run_id, limit = message.run.run_id, startup.max_response_bytes
            link, streams = Link(channel, run_id, files), message.run.stream
            parent, state = message.run.trace_parent, message.run.trace_state
            with attached(parent, state):
                answer, payload = execute(
                    startup.graph,
                    run_id,
                    frame.payload(),
                    limit,
                    link,
                    files,
                    stream=streams,
                    timed=is_recorded(parent),
                )
            del frame
            _flush_streams()
            if files.any:
                if answer.HasField("run_succeeded"):
                    files.send_outputs(channel, run_id)
                files.close()
            # That of the run before has been read: it would not have sent this one.
            channel.send(answer.SerializeToString(), payload, reuse=True)
            # Not kept until the next run: outputs may be large.
            del answer, payload
            scratch.end_run()
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
    for stream in (sys.stdout, sys.stderr):
        # Not contextlib.suppress, which takes longer than all the rest, after every run.
        try:  # noqa: SIM105
            stream.flush()
        except Exception:  # noqa: S110
            pass
