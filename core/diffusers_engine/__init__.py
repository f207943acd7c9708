"""The local engine, which runs a diffusers pipeline on a dedicated thread. No other part of core imports torch."""
