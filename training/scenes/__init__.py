"""Procedural captioned scenes: what is in a picture (`labels`), its words (`captions`), its pixels (`render`)."""
