"""Pictures of arrays with labels: nobody here knows what a layer is. matplotlib is an extra."""

from importlib.util import find_spec

from vecache.errors import MissingExtraError

if find_spec("matplotlib") is None:  # said here once, before a module of this room asks for it
    raise MissingExtraError("pictures need matplotlib: pip install 'vecache[plot]'")
