"""Tests of codec_golden."""
