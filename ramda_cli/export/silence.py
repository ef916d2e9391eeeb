"""Libraries that talk while they work."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet(level: int = logging.WARNING) -> Iterator[None]:
    """Keep a library's progress and warnings, and its log up to a level, off the terminal."""
    previous = logging.root.manager.disable
    logging.disable(level)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
