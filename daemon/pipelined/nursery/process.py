"""The nursery: imports once, then forks a worker whenever the daemon asks for one.

It has one thread and never touches a GPU (see ``preload.reason_not_to_fork``). When the daemon goes
away it ends; the workers notice by themselves, and those that do not are killed.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import NoReturn

from pipelined.freed_memory import keep_freed_memory
from pipelined.nursery import hygiene
from pipelined.nursery.preload import lasting_reason_not_to_fork, other_threads, preload
from pipelined.nursery.reaping import reap_children
from pipelined.worker import confinement
from pipelined.worker.channel import Channel, ChannelClosed, ProtocolError
from pipelined.worker.confinement import Confinement
from pipelined.worker.framing import Frame
from pipelined.worker.offspring import kill_descendants
from pipelined_api.worker.v1 import worker_pb2

# What workers have to end by themselves once the daemon has gone.
_LAST_SECONDS = 1.0


def main(control_fd: int) -> int:
    """Run a nursery on the control channel ``control_fd``; return its exit code."""
    # Set by its terminal for the daemon, not for the nursery.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    confinement.drop_daemon_privileges()
    control = Channel(socket.socket(fileno=control_fd))
    try:
        order = worker_pb2.ToNursery.FromString(control.receive().header).preload
        from pipelined import weights

        # First, so that modules which take names out of safetensors get the loader's.
        weights.install()
        # What the worker is made of, so that a fork has nothing left to import.
        from pipelined.worker import process as worker

        for module in worker.IMPORTED_LATE:
            importlib.import_module(module)
        result = preload(order.modules)
        if not result.exec_reason:
            hygiene.prepare_blas(order.environment)
            result.exec_reason = lasting_reason_not_to_fork()
        keep_freed_memory()
        gc.collect()
        # What is there now stays: no collection in a worker shall copy its pages to mark it.
        gc.freeze()
        control.send(
            worker_pb2.FromNursery(
                preloaded=worker_pb2.Preloaded(
                    seconds=result.seconds,
                    modules=result.modules,
                    failed=result.failed,
                    exec_reason=result.exec_reason,
                )
            ).SerializeToString()
        )
        confined = Confinement.from_text(order.confinement)
        ForkServer(control, dict(order.environment), worker.run, confined).serve()
    except ChannelClosed:
        return 0
    return 0


class ForkServer:
    """The loop that forks workers and reports their ends.

    Args:
        control: The channel to the daemon.
        environment: All variables of the workers.
        work: What a worker does with its channel, to the end of its life; returns the exit code.
        confined: What the workers are kept from.
    """

    def __init__(
        self,
        control: Channel,
        environment: Mapping[str, str],
        work: Callable[[Channel], int],
        confined: Confinement | None = None,
    ) -> None:
        self._control = control
        self._environment = environment
        self._work = work
        self._confined = confined
        self._workers: dict[int, str] = {}
        self._pid, self._parent = os.getpid(), os.getppid()
        self._wakeup, wakeup = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wakeup_writer = wakeup
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        # Any handler will do: without one the signal would not reach the wakeup pipe.
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> None:
        """Serve until the daemon closes the channel (ChannelClosed)."""
        poll = select.poll()
        poll.register(self._control.fileno(), select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        try:
            while True:
                for fd, _ in poll.poll():
                    if fd == self._wakeup:
                        os.read(self._wakeup, 4096)
                        self._reap()
                    else:
                        self._receive()
        except ChannelClosed:
            if os.getpid() == self._pid:
                self._end_workers()
            raise

    def _end_workers(self) -> None:
        """Kill the workers that do not notice that the daemon has gone, in native code for one.

        If it has only closed the channel, it ends them itself.
        """
        deadline = time.monotonic() + _LAST_SECONDS
        while self._workers and (left := deadline - time.monotonic()) > 0:
            if select.select([self._wakeup], [], [], left)[0]:
                os.read(self._wakeup, 4096)
            for pid, _ in reap_children(self._workers):
                self._workers.pop(pid, None)
        if os.getppid() == self._parent:
            return
        for pid in self._workers:
            # While it is stopped it starts no more.
            os.kill(pid, signal.SIGSTOP)
            kill_descendants(pid)
            os.kill(pid, signal.SIGKILL)

    def _receive(self) -> None:
        frame: Frame | None = self._control.receive()
        while frame is not None:
            message = worker_pb2.ToNursery.FromString(frame.header)
            if not message.HasField("fork") or len(frame.fds) != 2:
                frame.close()
                raise ProtocolError("not an order to fork")
            self._fork(message.fork.worker_id, *frame.take_fds())
            frame = self._control.received()

    def _fork(self, worker_id: str, channel: int, log: int) -> None:
        reason = other_threads()
        pid = -1
        if not reason:
            try:
                pid = os.fork()
            except OSError as error:
                reason = error.strerror or str(error)
        if pid == 0:
            self._become_worker(channel, log)
        os.close(channel)
        os.close(log)
        if reason:
            failed = worker_pb2.ForkFailed(worker_id=worker_id, reason=reason)
            self._tell(worker_pb2.FromNursery(fork_failed=failed))
            return
        self._workers[pid] = worker_id
        forked = worker_pb2.Forked(worker_id=worker_id, pid=pid)
        self._tell(worker_pb2.FromNursery(forked=forked))

    def _become_worker(self, channel: int, log: int) -> NoReturn:
        code = 1
        try:
            hygiene.leave_nursery(log, self._environment)
            self._control.close()
            os.close(self._wakeup)
            os.close(self._wakeup_writer)
            confinement.confine(self._confined)
            code = self._work(Channel(socket.socket(fileno=channel)))
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            # Not back into the nursery's loop, whatever happens.
            os._exit(code)

    def _reap(self) -> None:
        for pid, status in reap_children(self._workers):
            worker_id = self._workers.pop(pid, None)
            if worker_id is not None:
                exited = worker_pb2.Exited(worker_id=worker_id, pid=pid, wait_status=status)
                self._tell(worker_pb2.FromNursery(exited=exited))

    def _tell(self, message: worker_pb2.FromNursery) -> None:
        self._control.send(message.SerializeToString())
