"""Errors a user can cause and can mend, each with the exit code of the command that meets it.

Anything else that escapes is a bug in this package and keeps its traceback.
"""

MODEL_FAILURES = (
    ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip
"""What building or running a model may raise whose sizes and arguments come from a file."""


class RamdaError(Exception):
    """Base class. The message says what is wrong; `hint` says what to do next."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(RamdaError):
    """The configuration file, a flag or an override is not valid."""

    exit_code = 2


class ModelError(RamdaError):
    """The model or its weights cannot be found, read or matched."""


class DataError(RamdaError):
    """The data set cannot be found, read or matched to the model."""


class StructureError(RamdaError):
    """The model cannot be exported, or nothing in it can be removed."""


class TrainingError(RamdaError):
    """Training cannot go on, for example because the loss is not finite."""


class BenchError(RamdaError):
    """A model cannot be run or timed as asked."""


class OutputError(RamdaError):
    """A file cannot be written, or the output directory is not free."""


class FileFormatError(RamdaError):
    """A file is not one that this version of RAMDA can read safely."""


class TargetError(RamdaError):
    """The requested size cannot be reached, or was not."""

    exit_code = 3


class GateError(RamdaError):
    """A pruned model does not hold what was demanded of it."""

    exit_code = 3


class EquivalenceError(RamdaError):
    """The smaller model does not compute the same function as the trained one."""

    exit_code = 3


class Interrupted(RamdaError):  # noqa: N818  (an interruption is not an error in itself)
    """The user stopped the run; what was saved is named in the message."""

    exit_code = 130


def first_line(error: BaseException) -> str:
    """Return the first line of what an exception says, its name where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
