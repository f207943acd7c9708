"""Captioned synthetic scenes: labels (`labels`), their captions (`captions`) and the renderer (`render`)."""
