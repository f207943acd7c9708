"""The composition root: settings in, servers up, drain, exit."""
