"""Find which layers and images go from each class of nodes, by the rules of Podman.

What goes from a node is what `sharing/removal.py` finds for its store alone. Nodes with the same
records and the same grain are one class, and are looked at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from vecache.errors import ImageError, LayerNotFoundError, StoreError
from vecache.sharing.removal import find_named, find_removed
from vecache.sharing.sources import stored_images

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from vecache.fleet.contents import LayerKey
    from vecache.sharing.contents import Grain
    from vecache.sharing.members import ContentImage
    from vecache.store.graphroot import Store
    from vecache.store.records import ImageRecord, LayerRecord

__all__ = ["Gone", "NodeRecords", "find_gone", "require_found"]

# By what names are looked up, and what is shown; not where records are.
_LAYER_FIELDS = attrgetter(
    "id",
    "parent",
    "names",
    "diff_digest",
    "compressed_diff_digest",
    "toc_digest",
    "diff_size",
)
_IMAGE_FIELDS = attrgetter("id", "digest", "names", "big_data_names")


@dataclass(frozen=True, slots=True)
class NodeRecords:
    """The records of a node, which decide what goes."""

    records: tuple[LayerRecord, ...]
    keys: tuple[LayerKey, ...]  # of the same layers
    images: tuple[ContentImage, ...]
    additional_ids: frozenset[str]  # of layers and images in an additional store
    grain: Grain  # at which layers of the node share
    shares: bool  # whether they share blocks or files at all

    @classmethod
    def of(
        cls, store: Store, layers: Sequence[tuple[LayerKey, LayerRecord]], grain: Grain | None
    ) -> NodeRecords:
        """Read the images of a node; its settings decide the grain where none is given."""
        settings = store.pull_settings()
        records = tuple(record for _, record in layers)
        images = tuple(stored_images(store))
        listed: list[LayerRecord | ImageRecord] = [*records, *(each.record for each in images)]
        return cls(
            records=records,
            keys=tuple(key for key, _ in layers),
            images=images,
            additional_ids=frozenset(
                each.id for each in listed if each.store_root in store.additional_stores
            ),
            grain=grain or ("chunk" if settings.reflink else "file"),
            shares=settings.reflink or settings.hard_links,
        )

    @property
    def class_key(self) -> Hashable:
        """What is equal for nodes on which the same goes, and frees the same."""
        return (
            self.keys,
            tuple(map(_LAYER_FIELDS, self.records)),
            tuple((_IMAGE_FIELDS(each.record), each.layer_ids) for each in self.images),
            self.additional_ids,
            self.grain,
            self.shares,
        )


@dataclass(frozen=True, slots=True)
class Gone:
    """What goes from the nodes of a class."""

    layer_ids: frozenset[str]
    images: tuple[ContentImage, ...]
    remaining: Mapping[str, str]  # ids of the layers of named images that remain -> reason
    missing: Mapping[str, str]  # names that nothing here has -> what to say
    problems: Mapping[str, str]  # names that remove nothing, though something may have them

    def is_missing(self, name: str) -> bool:
        """Return whether a name removes nothing."""
        return name in self.missing or name in self.problems


def find_gone(node: NodeRecords, names: Sequence[str]) -> Gone:
    """Find what goes from a node with these names, those that it has."""
    found: list[str] = []
    missing: dict[str, str] = {}
    problems: dict[str, str] = {}
    for name in names:
        try:
            find_named(node, [name])
        except LayerNotFoundError as error:
            missing[name] = str(error)
        except (ImageError, StoreError) as error:  # ambiguous, or in an additional store
            problems[name] = str(error)
        else:
            found.append(name)
    layer_ids, images, remaining = find_removed(node, found)
    return Gone(frozenset(layer_ids), images, remaining, missing, problems)


def require_found(gone: Sequence[Gone], names: Sequence[str]) -> None:
    """Raise unless each name is of something on at least one class of nodes."""
    for name in names:
        if not all(each.is_missing(name) for each in gone):
            continue
        for each in gone:
            if name in each.problems:
                raise StoreError(f"on all nodes that may have it: {each.problems[name]}")
        messages = [each.missing[name] for each in gone]
        message = next((each for each in messages if "similar names" in each), None)
        reason = message or next(iter(messages), f"{name!r:.100}: the fleet has no nodes")
        raise LayerNotFoundError(f"on no node: {reason}")
