"""Which settings of a transformers configuration say which sizes, and the ones that say others.

Sizes are linear in the settings. Which a setting says is seen by building the class, without
memory, with another value of it.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ramda_cli.errors import MODEL_FAILURES, ModelError, first_line
from ramda_cli.export.silence import quiet
from ramda_cli.models.building import build_module
from ramda_cli.models.loaded import ModelSource

Floats = npt.NDArray[np.float64]

_SIZES = (
    "intermediate_size", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "hidden_dim", "n_inner",
    "ffn_hidden_size", "moe_intermediate_size", "d_ff", "num_key_value_heads",
    "num_attention_heads", "num_heads",
)  # fmt: skip
"""Settings of transformers' configurations that say one width for every layer."""

_RATIOS = ("mlp_ratio",)
"""Those that say it as a multiple of another one."""

_HEAD_SIZES = ("head_dim", "d_kv")
"""Names for the size of a head, of which a configuration has one or none."""

_ANY_SIZE = 16
_LARGEST_SIZE = 1_000_000


def fitted_source(source: ModelSource, smaller: Mapping[str, Tensor]) -> ModelSource:
    """Return the source with every setting that says a width set to the smaller one.

    Sizes are linear in the settings. Which sizes a setting says is seen by building the class,
    without memory, with twice its value; the settings that give the smaller sizes solve a system.
    """
    source = _explicit(source)
    dense = _sizes(shapes_of(source))
    wanted = _sizes({name: tensor.shape for name, tensor in smaller.items()})
    keys, growth = [], []
    for key in (*_SIZES, *_RATIOS):
        value = source.arguments.get(key)
        if type(value) is int or (type(value) is float and key in _RATIOS):
            grown = _sizes_with(source, key, 2 * value)
            if grown is not None and grown.shape == dense.shape and (grown != dense).any():
                keys.append(key)
                growth.append((grown - dense) / value)
    if not keys or wanted.shape != dense.shape:
        return source
    values = [source.arguments[key] for key in keys]
    solved = _solved(values, np.stack(growth, axis=1), wanted - dense)
    settings = {**source.arguments, **dict(zip(keys, solved, strict=True))}
    return ModelSource(source.kind, source.name, settings)


def dimensions_of_settings(source: ModelSource) -> dict[tuple[str, int], frozenset[str]]:
    """Return the settings that a tensor's dimension follows; what follows none is left out.

    Args:
        source: of a transformers class.

    Raises:
        ModelError: it cannot be built.
    """
    source = _explicit(source)
    dense = shapes_of(source)
    found: dict[tuple[str, int], set[str]] = {}
    for key in (*_SIZES, *_RATIOS):
        value = source.arguments.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        grown = _shapes_with(source, key, 2 * value)
        for name, shape in (grown or {}).items():
            for dim, (old, new) in enumerate(zip(dense.get(name, shape), shape, strict=False)):
                if old != new:
                    found.setdefault((name, dim), set()).add(key)
    return {dimension: frozenset(keys) for dimension, keys in found.items()}


def _explicit(source: ModelSource) -> ModelSource:
    """Return the source with the widths written out that the class would derive from others.

    With fewer heads, for one, `hidden_size / num_attention_heads` is not the size of a head.
    """
    dense = _sizes(shapes_of(source))
    settings = dict(source.arguments)
    unsaid = [key for key in _SIZES if settings.get(key, 0) is None]
    if all(settings.get(key) is None for key in _HEAD_SIZES):
        unsaid.append("head_dim")
    for key in unsaid:
        small, large = (_sizes_with(source, key, size) for size in (_ANY_SIZE, 2 * _ANY_SIZE))
        if small is None or large is None or not small.shape == large.shape == dense.shape:
            continue
        growth = (large - small) / _ANY_SIZE
        places = growth != 0
        sizes = _ANY_SIZE + (dense - small)[places] / growth[places]
        if sizes.size and (sizes == sizes[0]).all() and sizes[0] == round(sizes[0]) > 0:
            settings[key] = round(sizes[0])
    return ModelSource(source.kind, source.name, settings)


def _solved(
    values: Sequence[int | float], growth: Floats, change: npt.NDArray[np.int64]
) -> list[int | float]:
    """Return the values of settings that change sizes as wanted, and dense ones where none do.

    Args:
        values: of the settings.
        growth: of each size per unit of each setting, shape (sizes, settings).
        change: that is wanted of each size.
    """
    steps = np.linalg.lstsq(growth, change, rcond=None)[0]
    solved = []
    for setting, (value, step) in enumerate(zip(values, steps, strict=True)):
        exact = Fraction(value + step).limit_denominator(_LARGEST_SIZE)
        its = growth[:, setting] != 0
        explains = np.allclose(growth[its] @ steps, change[its], rtol=0, atol=1e-6)
        takes = isinstance(value, float) or exact.denominator == 1
        right = explains and takes and 0 < exact < value
        solved.append(_at_least(exact, type(value)) if right else value)
    return solved


def _at_least(exact: Fraction, kind: type) -> int | float:
    """Return the smallest number that is not below: a class rounds what it multiplies down."""
    if kind is int:
        return int(exact)
    nearest = float(exact)
    return nearest if Fraction(nearest) >= exact else math.nextafter(nearest, math.inf)


def _sizes_with(source: ModelSource, key: str, value: int | float) -> npt.NDArray[np.int64] | None:
    shapes = _shapes_with(source, key, value)
    return None if shapes is None else _sizes(shapes)


def _shapes_with(source: ModelSource, key: str, value: int | float) -> dict[str, torch.Size] | None:
    """Return the shapes of the class with another value of one setting, if it takes that."""
    changed = ModelSource(source.kind, source.name, {**source.arguments, key: value})
    try:
        with quiet(logging.ERROR):
            return shapes_of(changed)
    except ModelError:
        return None  # for one, a width need not be a multiple of twice the heads


def _sizes(shapes: Mapping[str, torch.Size]) -> npt.NDArray[np.int64]:
    """Return every size of every tensor, in the order of the tensors."""
    return np.array([size for shape in shapes.values() for size in shape], dtype=np.int64)


def shapes_of(source: ModelSource) -> dict[str, torch.Size]:
    """Return the shapes of the class, built without memory.

    Raises:
        ModelError: it cannot be built.
    """
    try:
        with torch.device("meta"):
            state = build_module(source).state_dict()
    except MODEL_FAILURES as error:
        raise ModelError(
            f"{source.name} cannot be built with smaller widths: {first_line(error)}",
            hint="--layout dense keeps the dense shapes, with zeros, and loads everywhere",
        ) from error
    return {name: tensor.shape for name, tensor in state.items()}
