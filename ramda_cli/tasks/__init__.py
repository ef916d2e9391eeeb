"""What models are for: which outputs count, the loss, the metric."""

from ramda_cli.tasks.classification import (
    FILL_MASK,
    GENERATIVE,
    IMAGE_CLASSIFICATION,
    PACKED,
    TEXT2TEXT_GENERATION,
    TEXT_CLASSIFICATION,
    TEXT_GENERATION,
    TOKEN_CLASSIFICATION,
    Classification,
)
from ramda_cli.tasks.embedding import EMBEDDING
from ramda_cli.tasks.masked_images import MASKED_IMAGE_MODELING
from ramda_cli.tasks.recurrent import (
    LANGUAGE_MODELING,
    Carried,
    is_recurrent,
    of_targets,
    without_targets,
)
from ramda_cli.tasks.regression import REGRESSION
from ramda_cli.tasks.speech import TEXT_TO_SPEECH
from ramda_cli.tasks.task import IGNORED, Meter, Metric, Task, call, counted

__all__ = [
    "EMBEDDING",
    "FILL_MASK",
    "GENERATIVE",
    "IGNORED",
    "IMAGE_CLASSIFICATION",
    "LANGUAGE_MODELING",
    "MASKED_IMAGE_MODELING",
    "PACKED",
    "REGRESSION",
    "TEXT2TEXT_GENERATION",
    "TEXT_CLASSIFICATION",
    "TEXT_GENERATION",
    "TEXT_TO_SPEECH",
    "TOKEN_CLASSIFICATION",
    "Carried",
    "Classification",
    "Meter",
    "Metric",
    "Task",
    "call",
    "counted",
    "is_recurrent",
    "of_targets",
    "without_targets",
]
