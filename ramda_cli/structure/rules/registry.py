"""The table of operator rules."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from ramda_cli.structure.labels import Couplings, Shape, Value


@dataclass(frozen=True)
class Output:
    """What is known of an operation's result before its rule runs.

    Attributes:
        shapes: of each output tensor.
        is_float: of each, whether its elements are floating-point numbers.
    """

    shapes: tuple[Shape, ...]
    is_float: tuple[bool, ...]

    @property
    def shape(self) -> Shape:
        """Shape of the first output."""
        return self.shapes[0]


Rule = Callable[..., Value | list[Value]]
"""Called as `rule(couplings, output, *arguments)`, the arguments named as in the operator's schema,
tensors replaced by `Value`s. Returns a value for each output."""

RULES: dict[str, Rule] = {}

_Rule = TypeVar("_Rule", bound=Rule)


def rule(*operators: str) -> Callable[[_Rule], _Rule]:
    """Register a function as the rule of these operators, named without namespace or overload."""

    def register(function: _Rule) -> _Rule:
        for operator in operators:
            if operator in RULES:
                raise ValueError(f"{operator} has two rules")
            RULES[operator] = function
        return function

    return register


def unlabelled(couplings: Couplings, output: Output, *values: Any, why: str) -> list[Value]:
    """Fix every channel of the arguments and return outputs that remember why."""
    for value in values:
        if isinstance(value, Value):
            couplings.fix_value(value, why)
        elif isinstance(value, (list, tuple)):
            unlabelled(couplings, output, *value, why=why)
    return [couplings.fixed_value(shape, why) for shape in output.shapes]
