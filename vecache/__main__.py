"""Run the command line as `vecache` or `python -m vecache`, and end it quietly on Ctrl-C.

From the first line here on an interrupt ends the program with exit code 130 and without a message.
So this module imports next to nothing before it sets a handler, and the package itself nothing.
What is left is the start of Python, the first 10 to 20 ms: an interrupt ends in a traceback of
`site` or `runpy` there, and in the exit code 1 or death by the signal.

1. While modules are imported there is nothing to clean up: the process ends at once.
2. While a verb runs, KeyboardInterrupt is raised, and temporary files are removed on its way. What
   is interrupted may turn it into another error, or print a warning: stderr goes nowhere from then
   on, and the exit code is 130 whatever happens.
3. When the verb is done, an interrupt comes too late and is ignored.
"""

import os
import sys

# What `signal` is made of; that one takes 4 ms more, which would not be covered.
from _signal import (  # type: ignore[import-not-found]
    SIG_DFL,
    SIG_IGN,
    SIGINT,
    default_int_handler,
    getsignal,
    signal,
)

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def _exit_at_once(*_: object) -> None:
    os._exit(_INTERRUPTED)


if getsignal(SIGINT) is default_int_handler:  # not ignored, as it is in a script's background job
    signal(SIGINT, _exit_at_once)


class _Interrupt:
    """A handler that raises KeyboardInterrupt, silences stderr and remembers both."""

    has_come = False

    def __call__(self, *_: object) -> None:
        self.has_come = True
        try:
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the end of the process
        finally:
            raise KeyboardInterrupt


def main() -> int:
    """Run the command line of this process."""
    from vecache.cli.main import main as run  # noqa: PLC0415 - the handler comes first

    if getsignal(SIGINT) is not _exit_at_once:
        return run()
    interrupt = _Interrupt()
    try:
        signal(SIGINT, interrupt)
        code = run()
        signal(SIGINT, SIG_IGN)
    except KeyboardInterrupt:  # before or after `run` could catch it
        code = _INTERRUPTED
    if not interrupt.has_come:
        return code
    signal(SIGINT, SIG_DFL)  # threads may still have work: a second interrupt does not wait
    return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
