"""A graph program as JSON, and back: only known, side-effect-free operators are accepted."""

import math
import operator
from collections.abc import Mapping
from typing import Any

import torch

from ramda_cli.errors import FileFormatError
from ramda_cli.structure.rules import RULES
from ramda_cli.structure.trace import operator_name
from ramda_cli.surgery.program import GraphProgram, Operation, Reference, references

_NUMBER_OPERATORS = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "neg": operator.neg,
    "getitem": operator.getitem,
}
_SETTINGS = {
    "dtype": torch.dtype,
    "memory_format": torch.memory_format,
    "layout": torch.layout,
}
_PURE_TAGS = {torch.Tag.core, torch.Tag.pointwise, torch.Tag.reduction}


def program_to_json(program: GraphProgram) -> dict[str, Any]:
    """Return a JSON document that `program_from_json` reads.

    Raises:
        FileFormatError: an operation of the model cannot be written.
    """
    return {
        "inputs": list(program.inputs),
        "keywords": list(program.keywords),
        "tensors": dict(program.tensors),
        "operations": [
            [o.name, _target_name(o.target), _encode(list(o.args)), _encode(dict(o.kwargs))]
            for o in program.operations
        ],
        "output": _encode(program.output),
    }


def program_from_json(document: Any) -> GraphProgram:
    """Read a program from an untrusted document.

    Raises:
        FileFormatError: it is malformed or names an operator that is not allowed.
    """
    try:
        inputs = tuple(_name(name) for name in document["inputs"])
        tensors = {_name(k): _name(v) for k, v in document["tensors"].items()}
        operations = tuple(_operation(entry) for entry in document["operations"])
        keywords = tuple(_name(name) for name in document["keywords"])
        program = GraphProgram(inputs, tensors, operations, _decode(document["output"]), keywords)
        _check_order(program)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _malformed(f"its graph cannot be read ({error})") from error
    return program


def _check_order(program: GraphProgram) -> None:
    """Refuse a program that reads what is not there yet, or computes a result twice."""
    if not program.inputs:
        raise ValueError("no input")
    known = {*program.inputs, *program.tensors}
    if len(known) < len(program.inputs) + len(program.tensors):
        raise ValueError("an input or tensor is there twice")
    for operation in program.operations:
        missing = set(references([operation.args, operation.kwargs])) - known
        if missing or operation.name in known:
            raise ValueError(f"{operation.name} is there twice or reads what is not there yet")
        known.add(operation.name)
    if not set(references(program.output)) <= known:
        raise ValueError("the output is not computed")


def _operation(entry: Any) -> Operation:
    name, target, args, kwargs = entry
    decoded = _decode(kwargs)
    if not isinstance(decoded, dict):
        raise ValueError(f"keyword arguments of {name}")
    return Operation(_name(name), _target(_name(target)), tuple(_decode(args)), decoded)


def _target_name(target: Any) -> str:
    if isinstance(target, torch._ops.OpOverload):
        if not _is_allowed(target):
            raise FileFormatError(
                f"the model uses {target}, which the file format does not hold",
                hint="only models of ATen operators without side effects can be saved",
            )
        return str(target)
    name = getattr(target, "__name__", "")
    if _NUMBER_OPERATORS.get(name) is not target:
        raise FileFormatError(f"the model computes a size by {target}, which cannot be saved")
    return name


def _target(name: str) -> Any:
    if name in _NUMBER_OPERATORS:
        return _NUMBER_OPERATORS[name]
    namespace, _, rest = name.partition(".")
    operator_, _, overload = rest.partition(".")
    packet = getattr(torch.ops.aten, operator_, None) if namespace == "aten" else None
    target = getattr(packet, overload, None) if packet is not None else None
    if not isinstance(target, torch._ops.OpOverload) or not _is_allowed(target):
        raise ValueError(f"operator {name!r}")
    return target


def _is_allowed(target: torch._ops.OpOverload) -> bool:
    if target.namespace != "aten" or target._schema.is_mutable:
        return False
    name = operator_name(target)
    return name in RULES or name == "sym_size" or bool(_PURE_TAGS & set(target.tags))


def _encode(value: Any) -> Any:
    if isinstance(value, Reference):
        return {"ref": value.name}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [_encode(item) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_encode(item) for item in value]}
    if isinstance(value, Mapping):
        return {"dict": {str(key): _encode(item) for key, item in value.items()}}
    if isinstance(value, torch.device):
        return {"device": value.type}
    for key, kind in _SETTINGS.items():
        if isinstance(value, kind):
            return {key: str(value).removeprefix("torch.")}
    raise FileFormatError(f"the model passes {value!r} to an operator, which cannot be saved")


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((key, content),) = value.items()
    if key == "ref":
        return Reference(_name(content))
    if key == "float":
        return float(content)
    if key == "tuple":
        return tuple(_decode(item) for item in content)
    if key == "dict":
        return {_name(name): _decode(item) for name, item in content.items()}
    if key == "device":
        return torch.device("cpu")  # a placeholder: a graph model runs where its input is
    setting = getattr(torch, _name(content), None) if key in _SETTINGS else None
    if setting is None or not isinstance(setting, _SETTINGS[key]):
        raise ValueError(f"value {value!r}")
    return setting


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a name")
    return value


def _malformed(what: str) -> FileFormatError:
    return FileFormatError(
        f"the file is damaged: {what}", hint="copy it again, or write it again with `ramda prune`"
    )
