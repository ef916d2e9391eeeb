"""Comparing a copy or an export of a model with the outputs that its file holds."""

from collections.abc import Callable

from torch import Tensor

from ramda_cli.export.probe import Probe
from ramda_cli.tasks.inputs import ExampleInputs, batch_size
from ramda_cli.verification.proof import Check


def check_probe(
    name: str,
    probe: Probe,
    run: Callable[[ExampleInputs], list[Tensor]],
    *,
    dtype: str,
    relative_tolerance: float,
) -> Check:
    """Run something on the inputs of a probe and compare with its outputs.

    Args:
        name: of what is run.
        probe: from the file.
        run: gives the output tensors in order.
        dtype: in which it computes.
        relative_tolerance: per largest output.
    """
    inputs = probe.inputs()
    difference = probe.difference(run(inputs))
    return Check(name, dtype, batch_size(inputs), difference, probe.scale, relative_tolerance)
