"""What processes hold, read of real ones."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from pipelined.core.reports import ProcessMemory
from pipelined.observe.memory import PROPORTIONAL_SECONDS, MemoryReader, open_files


def test_this_process() -> None:
    memory = MemoryReader().of([os.getpid()])
    known = psutil.Process().memory_full_info()
    assert memory.resident == pytest.approx(known.rss, rel=0.1)
    assert 0 < memory.anonymous < memory.resident
    assert memory.proportional == pytest.approx(known.pss, rel=0.1)


def test_several_processes_add_up_and_those_that_have_ended_are_none() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        reader = MemoryReader()
        alone, both = reader.of([os.getpid()]), reader.of([os.getpid(), child.pid])
        assert both.resident > alone.resident
        assert child.stdin is not None
        child.communicate(b"\n")
    assert reader.of([child.pid]) == ProcessMemory()
    assert ProcessMemory(1, 1, None) + ProcessMemory(2, 1, 1) == ProcessMemory(3, 2, None)


def test_the_proportional_share_is_not_asked_for_each_time() -> None:
    now = 0.0
    reader = MemoryReader(lambda: now)
    pid = os.getpid()
    first = reader.of([pid]).proportional
    held = bytearray(os.urandom(1 << 20)) * 32
    assert reader.of([pid]).proportional == first
    now = PROPORTIONAL_SECONDS + 1
    later = reader.of([pid]).proportional
    assert first is not None
    assert later is not None
    assert later > first + len(held) // 2


def test_open_files() -> None:
    before = open_files()
    with open(os.devnull), open(os.devnull):  # noqa: PTH123
        assert open_files() == before + 2
