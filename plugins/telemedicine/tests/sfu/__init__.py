"""Tests of the media server."""
