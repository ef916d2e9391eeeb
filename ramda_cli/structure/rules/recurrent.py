"""Recurrent layers: a hidden unit is its rows of all gates, its recurrent column and its output."""

from collections.abc import Sequence

import numpy as np

from ramda_cli.structure.concatenation import concatenate
from ramda_cli.structure.labels import Couplings, Layer, Value, along
from ramda_cli.structure.primitives import contract, mix_value
from ramda_cli.structure.rules.registry import Output, rule

_GATES = 4


@rule("lstm")
def lstm(
    couplings: Couplings, output: Output, x: Value, states: Sequence[Value],
    weights: Sequence[Value], has_biases: bool, num_layers: int, dropout: float, train: bool,
    bidirectional: bool, batch_first: bool,
) -> list[Value]:  # fmt: skip
    """Run an LSTM: weights (4 hidden, in), (4 hidden, hidden) and two biases, per direction.

    Both states have one size for all layers and directions, so a unit is the same position in all.
    """
    directions = 2 if bidirectional else 1
    per_direction = 4 if has_biases else 2
    if len(weights) != per_direction * directions * num_layers:
        raise NotImplementedError("an LSTM with projections")
    x = mix_value(couplings, x, [0, 1], "steps of a sequence")
    hidden = states[0].shape[2]
    unit = _unit(couplings, states, hidden)
    for number in range(num_layers):
        outputs = []
        for direction in range(directions):
            first = (number * directions + direction) * per_direction
            own = weights[first : first + per_direction]
            _gates(couplings, x, own, unit)
            shape = (*x.shape[:2], hidden)
            outputs.append(couplings.value(shape, [Layer(along(unit, 2, 3))]))
        x = outputs[0] if directions == 1 else concatenate(couplings, outputs, 2)
    final = [couplings.value(shape, [Layer(along(unit, 2, 3))]) for shape in output.shapes[1:]]
    return [x, *final]


@rule("lstm_cell")
def lstm_cell(
    couplings: Couplings, output: Output, x: Value, states: Sequence[Value], into: Value,
    recurrent: Value, *biases: Value | None,
) -> list[Value]:  # fmt: skip
    """Run one step of an LSTM: inputs (batch, in), both states (batch, hidden)."""
    unit = _unit(couplings, states, states[0].shape[1])
    _gates(couplings, x, [into, recurrent, *(bias for bias in biases if bias)], unit)
    return [couplings.value(shape, [Layer(along(unit, 1, 2))]) for shape in output.shapes]


def _unit(couplings: Couplings, states: Sequence[Value], hidden: int) -> np.ndarray:
    """Return a label per hidden unit, those of the states' last dimension."""
    unit = couplings.fresh(hidden)
    for state in states:
        last = state.ndim - 1
        mixed = mix_value(couplings, state, range(last), "layers or sequences of a recurrent state")
        layer = next((layer for layer in mixed.layers if last in layer.support), None)
        if layer is None:
            couplings.fix(unit, "the size of a recurrent state that cannot shrink")
        else:
            couplings.couple(layer.labels.ravel(), unit)
    return unit


def _gates(couplings: Couplings, x: Value, weights: Sequence[Value], unit: np.ndarray) -> None:
    """Couple the gates' rows with the units, and let input and recurrent weights be consumers."""
    into, recurrent, *biases = weights
    rows = np.tile(unit, _GATES)
    for tensor in (into, recurrent, *biases):
        layer = next((layer for layer in tensor.layers if 0 in layer.support), None)
        if layer is None:
            couplings.fix(unit, "a single channel is selected")
            continue
        couplings.couple(layer.labels.ravel(), rows)
    lead = "bt"[: x.ndim - 1]
    contract(couplings, [(x, lead + "i"), (into, "gi")], lead + "g", "a recurrent layer")
    before = couplings.value((1, 1, unit.size), [Layer(along(unit, 2, 3))])
    contract(couplings, [(before, "bti"), (recurrent, "gi")], "btg", "a recurrent layer")
