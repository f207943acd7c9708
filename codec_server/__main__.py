"""Run the command line with `python -m codec_server`."""

from codec_server.cli import main

if __name__ == "__main__":
    main()
