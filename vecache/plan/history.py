"""The figures of a series of images: what each costs a node that has another one of them.

Made by `vecache.plan.series.history`. About 160 bytes for each pull and 120 for each of its layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import pyarrow as pa

from vecache.arrays import ArrowExport
from vecache.plan.best import Cause
from vecache.plan.layer_plan import LayerState
from vecache.text import count, html_table, short_labels

if TYPE_CHECKING:
    from vecache.arrays import F64, I64
    from vecache.draw.picture import Picture
    from vecache.plan.options import PlanOptions

__all__ = ["BOUNDS", "EXCESS", "FIGURES", "LAYER", "NOTHING", "PULL", "STATES", "After", "History"]

After: TypeAlias = Literal["nothing", "previous", "first"]
"""What the node has: nothing, the image before in the series, or the first one."""

NOTHING = -1
"""The field `after` where the node has nothing."""

STATES = tuple(LayerState)

EXCESS = {f"excess_{cause}": cause for cause in Cause}
"""Field of a figure -> the cause of these bytes."""

FIGURES = (
    *("total_bytes", "missing_bytes", "fetch_bytes", "slack_bytes", "toc_bytes", "requests"),
    *("best_missing_bytes", *EXCESS),
)
"""Of layers and of pulls: those of a plan, then those of `ImagePlan.best`."""

BOUNDS = ("least_missing_bytes", "most_missing_bytes", "least_fetch_bytes", "most_fetch_bytes")

PULL = np.dtype(
    [
        *((name, np.int32) for name in ("image", "after", *map(str, STATES))),
        *((name, np.int64) for name in (*FIGURES, *BOUNDS, "whole_bytes")),
    ]
)
LAYER = np.dtype(
    [
        *((name, np.int32) for name in ("image", "after", "layer", "blob")),
        ("state", np.uint8),
        *((name, np.int64) for name in FIGURES),
    ]
)


@dataclass(frozen=True, eq=False, repr=False)
class History(ArrowExport):
    """What each image of a series costs nodes that have another one of them.

    Attributes
    ----------
    images : tuple of str, n of them
        References, in the order of the series.
    options : PlanOptions
        How each node pulls.
    blobs : tuple of str
        Digests of all layers.
    pulls : (n_pulls,) structured
        Figures of each pull, ordered by `image` (its index), then by `after`, the index of the
        image that the node has, or -1. `present`, `partial` and `whole` count layers.
    layers : (n_layers,) structured
        The same for each layer of each pull; `blob` is an index in `blobs`, and `state` 0 for
        present, 1 for partial, 2 for whole. Bytes that are not known, as a layer comes whole, are
        0. Absurd sizes end at what 64 bits hold.

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> names = ("base", "app1", "app2")
    >>> images = [vecache.open_image(f"containers-storage:{name}", store=store) for name in names]
    >>> found = vecache.history(images)
    >>> found.figures("fetch_bytes", "nothing").tolist(), found.figures("fetch_bytes").tolist()
    ([609652, 1244366, 1060910], [609652, 618301, 914264])
    """

    images: tuple[str, ...]
    options: PlanOptions
    blobs: tuple[str, ...]
    pulls: Any
    layers: Any

    def figures(self, name: str, after: After = "previous") -> I64:
        """Return one figure of each image.

        Parameters
        ----------
        name : str
            A field of `pulls`, such as "fetch_bytes".
        after : {"nothing", "previous", "first"}
            What the node has. The first image always comes to a node that has nothing.

        Returns
        -------
        (n,) int64
            In the order of the series.

        Raises
        ------
        ValueError
            If there is no such figure, or `after` is none of the three.
        """
        values: I64 = self._field(name)[self.rows(after)].astype(np.int64)
        return values

    def matrix(self, name: str) -> I64:
        """Return one figure of each image on a node that has any one of the others.

        Parameters
        ----------
        name : str
            A field of `pulls`, such as "fetch_bytes".

        Returns
        -------
        (n, n) int64
            The row is the image that is pulled, the column what the node has; on the diagonal the
            node has nothing.

        Raises
        ------
        ValueError
            If there is no such figure, or the history was made without `between`.
        """
        if not self.is_between:
            raise ValueError("matrix: only a history made with between=True has all pairs")
        values = np.zeros((len(self), len(self)), np.int64)
        image, after = self.pulls["image"], self.pulls["after"]
        values[image, np.where(after == NOTHING, image, after)] = self._field(name)
        return values

    def saved(self, after: After = "previous") -> F64:
        """Return what each image need not fetch, as a share of what a node with nothing fetches.

        Parameters
        ----------
        after : {"nothing", "previous", "first"}
            What the node has.

        Returns
        -------
        (n,) float64
            1 where no data is fetched, 0 where a node with nothing would fetch none either.

        Raises
        ------
        ValueError
            If `after` is none of the three.
        """
        return _saved(self.figures("fetch_bytes", after), self.figures("fetch_bytes", "nothing"))

    def rows(self, after: After) -> I64:
        """Find the pull of each image on the same kind of node.

        Parameters
        ----------
        after : {"nothing", "previous", "first"}
            What the node has.

        Returns
        -------
        (n,) int64
            Rows of `pulls`.

        Raises
        ------
        ValueError
            If `after` is none of the three.
        """
        if after not in get_args(After):
            raise ValueError(f"after: found {after!r}, wanted 'nothing', 'previous' or 'first'")
        image = np.arange(len(self))
        has = {"nothing": image * 0 + NOTHING, "previous": image - 1, "first": image * 0}[after]
        has[:1] = NOTHING
        n = len(self) + 1
        keys = self.pulls["image"].astype(np.int64) * n + self.pulls["after"] + 1
        rows: I64 = np.searchsorted(keys, image * n + has + 1)
        return rows

    @property
    def is_between(self) -> bool:
        """Whether each image was planned on nodes that have any one of the others."""
        return len(self.pulls) == len(self) ** 2

    def to_arrow(self) -> Any:
        """Export every layer of every pull.

        Returns
        -------
        pyarrow.Table
            `image` and `after` (references; null where the node has nothing) and their indices
            `image_no` and `after_no`, `layer` from 1, `blob`, `state`, and the figures; what is not
            known of a layer that comes whole is null.
        """
        layers, names = self.layers, pa.array(self.images, pa.string())
        after = pa.array(layers["after"], mask=layers["after"] == NOTHING)
        is_whole = layers["state"] == STATES.index(LayerState.WHOLE)
        unknown = {"total_bytes", "missing_bytes", "best_missing_bytes", *EXCESS}
        states = pa.array(list(map(str, STATES)))
        return pa.table(
            {
                "image": pa.DictionaryArray.from_arrays(pa.array(layers["image"]), names),
                "after": pa.DictionaryArray.from_arrays(after, names),
                "image_no": layers["image"],
                "after_no": after,
                "layer": layers["layer"],
                "blob": pa.DictionaryArray.from_arrays(
                    pa.array(layers["blob"]), pa.array(self.blobs, pa.string())
                ),
                "state": pa.DictionaryArray.from_arrays(
                    pa.array(layers["state"].astype(np.int32)), states
                ),
                **{
                    name: pa.array(layers[name], mask=is_whole if name in unknown else None)
                    for name in FIGURES
                },
            }
        )

    def plot(self, shown: Literal["curve", "heatmap"] = "curve") -> Picture:
        """Draw how reuse decays over the series, or what every image saves after every other.

        Parameters
        ----------
        shown : {"curve", "heatmap"}
            The heat map needs a history made with `between`.

        Returns
        -------
        Picture
            Shows itself in a notebook; `save` writes SVG or PNG.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        ValueError
            If `shown` is neither, or the history has no pairs for a heat map.
        """
        if shown == "heatmap":
            return self._plot_heatmap()
        if shown != "curve":
            raise ValueError(f"shown: found {shown!r}, wanted 'curve' or 'heatmap'")
        from vecache.draw.series import series_curve  # noqa: PLC0415 - matplotlib is an extra

        return series_curve(
            {f"after {after}": self.figures("fetch_bytes", after) for after in get_args(After)},
            {
                "best possible": self.figures("best_missing_bytes"),
                **{str(cause): self.figures(name) for name, cause in EXCESS.items()},
            },
            {str(state): self.figures(str(state)) for state in STATES},
            self.images,
            title="What each image fetches, by what the node has",
            note="Below, after the previous one: bytes missing, by cause; and layers, by state.",
        )

    def _plot_heatmap(self) -> Picture:
        fetched = self.matrix("fetch_bytes")
        from vecache.draw.heatmap import heatmap  # noqa: PLC0415 - as above

        alone = fetched.diagonal()
        share = np.clip(_saved(fetched, np.broadcast_to(alone[:, None], fetched.shape)), 0, 1)
        return heatmap(
            share,
            1 - (share + share.T) / 2,
            alone,
            self.images,
            title=f"What {len(self):,} images save after one another",
            note="Per cent of the row's bytes that a node with the column's image need not fetch.",
        )

    def _field(self, name: str) -> Any:
        names = list(PULL.fields or ())[2:]  # without `image` and `after`
        if name not in names:
            raise ValueError(f"name: found {name!r}, wanted one of {', '.join(names)}")
        return self.pulls[name]

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        fetched = sum(self.figures("fetch_bytes").tolist())
        alone = sum(self.figures("fetch_bytes", "nothing").tolist())
        return (
            f"<History: {count(len(self), 'image')}, {fetched:,} bytes to fetch one after another, "
            f"{alone:,} if each came to a node that has nothing>"
        )

    def _repr_html_(self) -> str:
        titles = ("image", *map(str, STATES), "after nothing", "after previous", "after first")
        columns = [
            *(self.figures(str(state)).tolist() for state in STATES),
            *(self.figures("fetch_bytes", after).tolist() for after in get_args(After)),
        ]
        rows = zip(short_labels(self.images), *columns, strict=True)
        return html_table(repr(self)[1:-1], titles, rows, n_rows=len(self))


def _saved(fetched: I64, alone: I64) -> F64:
    share: F64 = np.divide(alone - fetched, alone, out=np.zeros(alone.shape), where=alone != 0)
    return share
