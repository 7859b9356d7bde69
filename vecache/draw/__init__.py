"""Pictures of arrays with labels. Nothing here depends on layers. matplotlib is an extra."""

from importlib.util import find_spec

from vecache.errors import MissingExtraError

if find_spec("matplotlib") is None:  # checked once, before any module here imports it
    raise MissingExtraError("pictures need matplotlib: pip install 'vecache[plot]'")
