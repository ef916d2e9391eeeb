"""What models are for: which outputs count, the loss, the metric."""

from ramda_cli.tasks.classification import (
    FILL_MASK,
    IMAGE_CLASSIFICATION,
    TEXT2TEXT_GENERATION,
    TEXT_CLASSIFICATION,
    TEXT_GENERATION,
    TOKEN_CLASSIFICATION,
)
from ramda_cli.tasks.embedding import EMBEDDING
from ramda_cli.tasks.regression import REGRESSION
from ramda_cli.tasks.task import IGNORED, Meter, Metric, Task, call

__all__ = [
    "EMBEDDING",
    "FILL_MASK",
    "IGNORED",
    "IMAGE_CLASSIFICATION",
    "REGRESSION",
    "TEXT2TEXT_GENERATION",
    "TEXT_CLASSIFICATION",
    "TEXT_GENERATION",
    "TOKEN_CLASSIFICATION",
    "Meter",
    "Metric",
    "Task",
    "call",
]
