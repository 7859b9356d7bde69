"""Fuzzing: any bytes give a result or an error of this package, in bounded time and memory."""

NAMES = (
    *("cache", "toc", "blob", "archive", "records", "snapshot", "node", "index"),
    *("manifest", "tags", "login"),
)
