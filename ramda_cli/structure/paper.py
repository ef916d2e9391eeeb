"""The paper's groups: the input channels of one tensor at a time.

Conv1d and Conv2d weights reduce all dimensions but 1, Linear and LSTM weights dimension 0; norms,
biases and embeddings are not regularized (Huang and Lee, NeurIPS 2024, experiments).
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np
from torch import nn

from ramda_cli.structure.discover import Structure
from ramda_cli.structure.groups import DependencyGroup, ParameterSlice

_INPUT_DIM = 1


def input_channel_structure(model: nn.Module, *, keep: Sequence[str] = ()) -> Structure:
    """Return one group per weight: its input channels, coupled to nothing.

    Args:
        model: left as it is.
        keep: globs of weights that have none.
    """
    groups = []
    for name, module in model.named_modules():
        if not isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear, nn.LSTM, nn.LSTMCell)):
            continue
        for parameter_name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim < 2 or parameter.shape[_INPUT_DIM] < 2:
                continue
            channels = parameter.shape[_INPUT_DIM]
            indices = np.arange(channels, dtype=np.int64).reshape(channels, 1)
            qualified = f"{name}.{parameter_name}" if name else parameter_name
            if any(fnmatchcase(qualified, pattern) for pattern in keep):
                continue
            part = ParameterSlice(qualified, _INPUT_DIM, indices)
            groups.append(DependencyGroup(qualified, channels, (part,), (part,)))
    return Structure(tuple(groups))
