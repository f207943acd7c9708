"""gRPC server, and gateway engine that forwards generations to a remote gRPC server."""
