"""Locks of the loader, which forks and interruptions must not turn into deadlocks."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import safetensors.torch
import torch

from pipelined import weights
from pipelined.weights._locks import ForkLock


def exit_code_of_child(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_lock_is_free_in_a_forked_child() -> None:
    lock = ForkLock()
    held, finish = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            finish.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    pid = os.fork()
    if pid == 0:
        with lock, lock:
            os._exit(7)
    finish.set()
    thread.join()
    assert exit_code_of_child(pid) == 7


def test_files_that_threads_use_can_be_used_in_forked_children(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensors = {f"t{index}": torch.full((3,), index) for index in range(50)}
    safetensors.torch.save_file(tensors, path)
    file = weights.safe_open(path, framework="pt")
    finish = threading.Event()

    def use() -> None:
        while not finish.is_set():
            with weights.safe_open(path, framework="pt") as other:
                for name in tensors:
                    other.get_slice(name)
                    file.get_tensor(name)

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    codes = []
    for _ in range(40):
        pid = os.fork()
        if pid == 0:
            fine = all(file.get_tensor(name)[0] == index for index, name in enumerate(tensors))
            os._exit(0 if fine else 1)
        codes.append(exit_code_of_child(pid))
    finish.set()
    for thread in threads:
        thread.join()
    assert codes == [0] * 40
