"""Fine-tune a model under structured sparsity, remove what became zero, prove nothing changed.

A run in Python: `discover` what can be removed, train with `RAMDA` over the `penalties` of that
structure, `identify` the channels that became zero, `remove` them, `verify` that nothing changed,
`save` the smaller model and `load` it again.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ramda_cli.export import load, save
    from ramda_cli.optimizers import RAMDA, Penalty, penalties
    from ramda_cli.regularizers import GroupLasso, GroupMCP
    from ramda_cli.structure import (
        DependencyGroup,
        Structure,
        Support,
        discover,
        identify,
        input_channel_structure,
        zero_,
    )
    from ramda_cli.surgery import RemovalPlan, remove
    from ramda_cli.verification import Proof, verify

__version__ = "0.1.0"

# Imported on first use, so that `ramda --help` does not wait for torch.
_HOME = {
    "DependencyGroup": "structure",
    "GroupLasso": "regularizers",
    "GroupMCP": "regularizers",
    "Penalty": "optimizers",
    "Proof": "verification",
    "RAMDA": "optimizers",
    "RemovalPlan": "surgery",
    "Structure": "structure",
    "Support": "structure",
    "discover": "structure",
    "identify": "structure",
    "input_channel_structure": "structure",
    "load": "export",
    "penalties": "optimizers",
    "remove": "surgery",
    "save": "export",
    "verify": "verification",
    "zero_": "structure",
}

__all__ = [  # noqa: RUF022  (in the order of use)
    "discover",
    "input_channel_structure",
    "zero_",
    "identify",
    "remove",
    "verify",
    "save",
    "load",
    "RAMDA",
    "Penalty",
    "penalties",
    "GroupLasso",
    "GroupMCP",
    "DependencyGroup",
    "Structure",
    "Support",
    "RemovalPlan",
    "Proof",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"ramda_cli.{_HOME[name]}"), name)
