"""Recordings with what is said in them."""

from ramda_cli.data.speech.build import build_speech

__all__ = ["build_speech"]
