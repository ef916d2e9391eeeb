"""The rows of sizes and of accuracy, the same in every form of the report."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ramda_cli.report.document import Accuracy, Size, Sizes
from ramda_cli.report.formatting import count, measured, percent, share_of, size_bytes

_SIZES: Final[tuple[tuple[str, str, Callable[[float], str]], ...]] = (
    ("MACs", "macs", count),
    ("parameters", "params", count),
    ("channels", "channels", count),
    ("safetensors", "bytes", size_bytes),
)


@dataclass(frozen=True)
class SizeRow:
    """One size of two models, as text; `share` is the second's over the first's."""

    label: str
    first: str
    second: str
    share: float

    @property
    def left(self) -> str:
        """The share as a percentage."""
        return percent(self.share)


def size_rows(size: Sizes) -> list[SizeRow]:
    """Return every size, dense first and pruned second."""
    return paired_sizes(size.dense, size.pruned)


def paired_sizes(first: Size, second: Size) -> list[SizeRow]:
    """Return every size of two models."""
    rows = []
    for label, name, shown in _SIZES:
        a, b = getattr(first, name), getattr(second, name)
        rows.append(SizeRow(label, shown(a), shown(b), share_of(b, a)))
    return rows


def accuracy_rows(accuracy: Accuracy | None) -> list[tuple[str, str]]:
    """Return the metric along the run; what was not measured has no row."""
    if accuracy is None:
        return []
    values = (
        ("pretrained, before training", accuracy.dense),
        ("trained, before the removal", accuracy.before_removal),
        ("after the removal", accuracy.after_removal),
        ("trained further", accuracy.recovered),
        ("reloaded from the file", accuracy.reloaded),
        ("ONNX Runtime", accuracy.onnx),
    )
    share = accuracy.is_share
    return [(label, measured(v, is_share=share)) for label, v in values if v is not None]
