"""Captioned scenes: what a picture shows (`labels`), its words (`captions`), its pixels (`render`)."""
