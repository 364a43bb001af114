"""Ray Serve: its gRPC proxy, and one replica that takes any number of calls at once."""

from __future__ import annotations

from typing import Any

import ray
from ray import serve
from ray.serve.config import gRPCOptions
from ray.serve.schema import LoggingConfig

import own_messages
import serving


@serve.deployment(  # type: ignore[untyped-decorator, unused-ignore]
    num_replicas=1,
    max_ongoing_requests=100,
    ray_actor_options={"num_cpus": 0},
    logging_config=LoggingConfig(enable_access_log=False, log_level="ERROR"),
)
class Echo:
    async def Run(self, request: Any) -> Any:
        from pipelined_api.v1 import runs_pb2

        return runs_pb2.RunResponse(outputs=request.inputs)


def main() -> None:
    folder = serving.folder()
    port = serving.free_port()
    own_messages.requests(folder)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(
        http_options={"port": serving.free_port()},
        grpc_options=gRPCOptions(
            port=port,
            grpc_servicer_functions=["pipelined_api.v1.runs_pb2_grpc.add_RunsServicer_to_server"],
        ),
        logging_config=LoggingConfig(enable_access_log=False, log_level="ERROR"),
    )
    application: Any = Echo
    serve.run(application.bind())
    own_messages.tell(folder, port)
    serving.wait_for_the_end()


if __name__ == "__main__":
    main()
