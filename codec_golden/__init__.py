"""Golden fixtures, the quality gate, and conformance vectors for other implementations."""
