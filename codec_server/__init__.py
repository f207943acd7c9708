"""The command line, which composes servers and clients from the other packages."""
