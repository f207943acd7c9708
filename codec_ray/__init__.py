"""The engine on Ray Serve: one diffusers pipeline in each replica."""

import os

# A thread of Ray Serve would otherwise start Ray again when this process has disconnected from it. Ray reads the
# variable when it is imported.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
