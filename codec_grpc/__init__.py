"""gRPC server, and the engine of a gateway, which generates on a remote gRPC server."""
