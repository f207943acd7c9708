"""The commands of `codec-diffusers`, one module each: their flags and help texts.

The modules of the commands import only typer and the settings. Each command is implemented by a module of
codec_server.actions, which is imported when the command runs, so that --help does not import large libraries.
"""
