"""Say what is waited for, once that takes longer than a second: a lock, a registry, a retry.

The logger `vecache.waiting` gets it, at level INFO. The command line shows it on a terminal; from
Python `logging.basicConfig(level="INFO")` does.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
from threading import Timer
from typing import TYPE_CHECKING

from vecache.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LOGGER", "waiting"]

LOGGER = logging.getLogger("vecache.waiting")

_SECONDS = 1.0


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Log that `what` is waited for, if that takes longer than a second."""
    if not LOGGER.isEnabledFor(logging.INFO):
        yield
        return
    timer = Timer(_SECONDS, LOGGER.info, ("waiting for %s", printable(what)))
    timer.daemon = True
    with suppress(RuntimeError):  # the system has no more threads
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
