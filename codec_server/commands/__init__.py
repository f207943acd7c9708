"""Flags and help texts of the commands of `codec-diffusers`. Each command has its own module.

The modules of the commands import only typer and the settings. Each command is implemented in a module of
codec_server.actions. The implementation is imported only when the command runs, so that --help does not import large
libraries.
"""
