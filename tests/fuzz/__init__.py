"""Fuzzing: any bytes give a result or an error of this package, in bounded time and memory."""

NAMES = (
    *("cache", "toc", "build", "blob", "archive", "records", "snapshot", "node", "index"),
    *("image", "snapshot-tree", "fleet-tree", "config", "auth", "blob-info", "http"),
    *("manifest", "tags", "login"),
)
