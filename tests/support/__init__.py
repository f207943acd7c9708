"""What several test modules need: strategies, the oracle, stand-ins, servers."""
