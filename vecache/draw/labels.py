"""How do labels fit beside narrow rows? Some of them are left out, evenly."""

from __future__ import annotations

__all__ = ["thinned"]


def thinned(n_labels: int, pitch: float, least: float) -> range:
    """Choose which rows get their label.

    Parameters
    ----------
    n_labels : int
        How many rows there are.
    pitch : float
        How far apart they are.
    least : float
        How far apart labels must be, in the same unit.

    Returns
    -------
    range
        All rows, or each second, third and so on.

    Examples
    --------
    >>> list(thinned(5, 0.3, 0.1)), list(thinned(5, 0.06, 0.1))
    ([0, 1, 2, 3, 4], [0, 2, 4])
    """
    step = max(1, -int(-least // pitch)) if pitch > 0 else 1
    return range(0, n_labels, step)
