"""Texts: tables and files of them, tokenised once, in batches as a task needs them."""

from ramda_cli.data.text.batches import TextBatches
from ramda_cli.data.text.build import build_texts

__all__ = ["TextBatches", "build_texts"]
