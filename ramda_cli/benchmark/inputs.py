"""Batches of any size from a few example inputs."""

from torch import Tensor
from torch.utils import _pytree as pytree

from ramda_cli.errors import BenchError
from ramda_cli.structure.export import with_batch
from ramda_cli.tasks.inputs import ExampleInputs

_MOST_BYTES = 2**31
"""Inputs are described by an untrusted file."""


def batch_of(example_inputs: ExampleInputs, size: int) -> ExampleInputs:
    """Return `size` inputs: the examples, again and again. Dimension 0 of a tensor is the batch.

    Raises:
        BenchError: they take more than 2 GiB.
    """
    leaves = pytree.tree_leaves(example_inputs)
    needed = sum(size * t[0].nbytes for t in leaves if isinstance(t, Tensor) and t.ndim > 0)
    if needed > _MOST_BYTES:
        raise BenchError(
            f"{size} inputs take {needed / 2**30:.1f} GiB", hint="give a smaller --batch-size"
        )
    return with_batch(example_inputs, size)
