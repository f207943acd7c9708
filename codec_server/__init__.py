"""The command line and the composition of servers and clients from the other packages."""
