"""The commands of `codec-diffusers`, one module each: their flags and help texts.

These modules import only typer and the settings. What a command does is in codec_server.actions, which the command
imports when it runs, so that --help does not wait for libraries that it does not need.
"""
