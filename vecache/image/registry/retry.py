"""When to ask again, how long to wait, and when to stop.

A request that was interrupted (a connection that failed or broke, a server that is too busy) is
made again after a wait that doubles each time, or after what the server asks for in `Retry-After`,
but never for longer than a cap. All attempts together have a deadline, and reading a body looks at
the same deadline, so a server that sends one byte at a time ends too.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

from vecache.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Clock", "Deadline", "InterruptedRequestError", "RetryPolicy", "parse_retry_after"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Clock:
    """Time, so that tests need not wait for it.

    Attributes
    ----------
    now : callable
        Seconds that only go up.
    wall : callable
        Seconds since 1970, to compare with a date that a server sends.
    sleep : callable
        Waits so many seconds.
    """

    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


class InterruptedRequestError(Exception):
    """A request that may go well the next time; never leaves this package.

    Parameters
    ----------
    reason : str
        What happened, fit to be shown.
    retry_after : float, optional
        Seconds that the server asks for.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        self.reason = reason
        self.retry_after = retry_after
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment at which to give up.

    Attributes
    ----------
    clock : Clock
        What tells the time.
    end : float
        On that clock.
    """

    clock: Clock
    end: float

    def left(self) -> float:
        """Count the seconds until then; negative when it is past."""
        return self.end - self.clock.now()

    def check(self, where: str) -> None:
        """Raise RegistryError if it is past."""
        if self.left() <= 0:
            raise RegistryError(f"{where}: gave up, it took too long; try again later")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient to be.

    Attributes
    ----------
    n_attempts : int
        How often to ask at most.
    first_wait, longest_wait : float
        Seconds before the second attempt, and before any.
    total_seconds : float
        For all attempts of one request together, its body included.
    clock : Clock
        What tells the time and waits.
    """

    n_attempts: int = 4
    first_wait: float = 0.5
    longest_wait: float = 60.0
    total_seconds: float = 600.0
    clock: Clock = field(default_factory=Clock)

    def run(self, action: Callable[[Deadline], T], where: str) -> T:
        """Do something until it goes well.

        Parameters
        ----------
        action : callable
            Takes the deadline; raises InterruptedRequestError if it may be tried again.
        where : str
            What is asked, for messages.

        Returns
        -------
        object
            What the action returned.

        Raises
        ------
        RegistryError
            If it never went well.
        """
        deadline = Deadline(self.clock, self.clock.now() + self.total_seconds)
        reason = ""
        for attempt in range(self.n_attempts):
            try:
                return action(deadline)
            except InterruptedRequestError as error:
                reason = error.reason
                wait = self._wait(attempt, error.retry_after)
            if attempt + 1 < self.n_attempts:
                if wait >= deadline.left():
                    break
                self.clock.sleep(wait)
        raise RegistryError(f"{where}: {reason}; asked {attempt + 1} times, try again later")

    def _wait(self, attempt: int, retry_after: float | None) -> float:
        wait = self.first_wait * 2**attempt if retry_after is None else retry_after
        return min(wait, self.longest_wait)


def parse_retry_after(text: str | None, wall: float) -> float | None:
    """Read a `Retry-After` header.

    Parameters
    ----------
    text : str or None
        Seconds, or an HTTP date.
    wall : float
        Seconds since 1970 now.

    Returns
    -------
    float or None
        Seconds to wait, not negative; None if there is no header or it makes no sense.

    Examples
    --------
    >>> parse_retry_after("7", 0.0), parse_retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 30.0)
    (7.0, 30.0)
    """
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - wall)
    except (ValueError, OverflowError):
        return None
