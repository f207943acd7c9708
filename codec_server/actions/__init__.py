"""Implementations of the commands. A module is imported only when its command runs, so that --help starts quickly."""
