"""Texts: tables and files of them, tokenised once, in batches as a task needs them."""

from ramda_cli.data.text.batches import TextBatches
from ramda_cli.data.text.build import build_texts
from ramda_cli.data.text.segments import build_segments

__all__ = ["TextBatches", "build_segments", "build_texts"]
