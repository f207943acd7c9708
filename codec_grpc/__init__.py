"""The gRPC protocol: the Generate servicer, and the adapter that makes a remote server look like a local engine."""
