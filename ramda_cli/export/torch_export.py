"""Write a model with `torch.export.save`, and run what was written.

Loading such a file may unpickle, so only a file of one's own making is loaded.
"""

from pathlib import Path
from zipfile import BadZipFile

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ramda_cli.errors import OutputError, first_line
from ramda_cli.export.calling import in_float32, in_order
from ramda_cli.export.silence import quiet
from ramda_cli.structure.export import export_graph, has_free_batch, smallest_example
from ramda_cli.tasks.inputs import ExampleInputs, batch_size, split_inputs


def export_torch(
    model: nn.Module, path: Path, example_inputs: ExampleInputs, *, fixed: bool = False
) -> None:
    """Write `model` as a `.pt2` file.

    Args:
        model: in fp32, on the CPU.
        path: where to write.
        example_inputs: as for `discover`, the batch first.
        fixed: whether only inputs of the example's sizes are taken; else the batch size is free.

    Raises:
        OutputError: the file cannot be written.
        StructureError: the model cannot be exported.
    """
    program = export_graph(model, in_order(model, in_float32(example_inputs)), fixed=fixed)
    try:
        with quiet():
            torch.export.save(program, path)
    except (RuntimeError, ValueError, OSError) as error:
        raise _failed("write", path, error) from error


class TorchExported:
    """A `.pt2` file that may be trusted, loaded.

    Attributes:
        batch: the only batch size that it takes; None where it is free.

    Raises:
        OutputError: torch does not load it.
    """

    def __init__(self, path: Path) -> None:
        try:
            with quiet():
                program = torch.export.load(path)
            self._module = program.module()
        except (RuntimeError, ValueError, OSError, LookupError, BadZipFile) as error:
            raise _failed("load", path, error) from error
        self.batch = None if has_free_batch(program) else batch_size(smallest_example(program))

    def on(self, inputs: ExampleInputs) -> list[Tensor]:
        """Return the output tensors in order; floating inputs become fp32."""
        args, kwargs = split_inputs(in_float32(inputs))
        with torch.no_grad():
            leaves = pytree.tree_leaves(self._module(*args, **kwargs))
        return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def _failed(what: str, path: Path, error: Exception) -> OutputError:
    return OutputError(f"cannot {what} {path}: {first_line(error)}", hint="choose another --format")
