"""Comparing the smaller model with the trained one."""

from ramda_cli.verification.proof import Check, Proof, compare, verify

__all__ = ["Check", "Proof", "compare", "verify"]
