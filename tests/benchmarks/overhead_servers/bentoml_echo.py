"""BentoML: one worker process; HTTP with JSON, which is what it serves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import bentoml
import numpy as np

import serving


@bentoml.service(workers=1, logging={"access": {"enabled": False}}, metrics={"enabled": False})  # type: ignore[untyped-decorator, unused-ignore]
class Echo:
    @bentoml.api  # type: ignore[untyped-decorator, unused-ignore]
    def echo(self, x: np.ndarray) -> np.ndarray:
        return x


def main() -> None:
    folder = serving.folder()
    port = serving.free_port()
    numbers = np.frombuffer(serving.data(serving.SMALL), dtype=np.float32).tolist()
    serving.leave(folder, serving.SMALL, json.dumps({"x": numbers}).encode())
    here = Path(__file__)
    command = [sys.executable, "-m", "bentoml", "serve", f"{here.stem}:Echo", "--port", str(port)]
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1"],
        cwd=here.parent,
        env={**os.environ, "BENTOML_DO_NOT_TRACK": "True"},
    )
    try:
        serving.wait_until_open(port)
        serving.ready(folder, "http", f"127.0.0.1:{port}", "/echo")
        serving.wait_for_the_end()
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    main()
