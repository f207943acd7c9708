"""What the commands do. Imported when a command runs, so that --help needs none of the libraries used here."""
