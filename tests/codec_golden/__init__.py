"""The reference role: fixtures, the gate, the vectors."""
