"""Implementation of each command. A module is imported only when its command runs, so that --help starts quickly."""
