"""What of the nursery and the worker is loaded into the daemon."""

from __future__ import annotations

import subprocess
import sys


def test_the_supervisor_imports_no_model_library_and_nothing_that_unpickles() -> None:
    program = """
import sys
import pipelined.nursery.supervisor
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    imported = set(run.stdout.split())
    assert imported & {"torch", "numpy", "cloudpickle", "pipeline", "safetensors", "grpc"} == set()
