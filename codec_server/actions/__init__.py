"""Implementations of the commands.

A module is imported only when the module's command runs, so that the option --help responds quickly.
"""
