"""The domain: deployments, their instances and runs. Knows no gRPC, no sockets, no torch."""
