"""pytriton: Triton's own server, with the function in the process that starts it."""

from __future__ import annotations

import os
import sysconfig
from typing import Any

import numpy as np
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from tritonclient.grpc import service_pb2

import open_inference
import serving


def echo(requests: Any) -> list[dict[str, Any]]:
    return [{"y": request["x"]} for request in requests]


def main() -> None:
    folder = serving.folder()
    port = serving.free_port()
    open_inference.requests(folder, service_pb2)
    config = TritonConfig(
        grpc_address="127.0.0.1",
        grpc_port=port,
        http_address="127.0.0.1",
        http_port=serving.free_port(),
        allow_metrics=False,
        log_verbose=0,
    )
    # Its interpreter has to be of the same release as the modules that it imports.
    os.environ["LD_LIBRARY_PATH"] = sysconfig.get_config_var("LIBDIR")
    tensor = {"dtype": np.float32, "shape": (-1,)}
    with Triton(config=config) as triton:
        triton.bind(
            "echo",
            echo,
            inputs=[Tensor(name="x", **tensor)],
            outputs=[Tensor(name="y", **tensor)],
            config=ModelConfig(batching=False),
        )
        triton.run()
        open_inference.tell(folder, port)
        triton.serve()


if __name__ == "__main__":
    main()
