"""The local engine: a diffusers pipeline on its own thread. The only room that imports diffusers."""
