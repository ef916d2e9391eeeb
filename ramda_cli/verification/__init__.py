"""Comparing the smaller model with the trained one."""

from ramda_cli.verification.probing import check_probe
from ramda_cli.verification.proof import Check, Proof, compare, verify

__all__ = ["Check", "Proof", "check_probe", "compare", "verify"]
