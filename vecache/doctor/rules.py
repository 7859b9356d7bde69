"""List the rules that a sound store follows, and what to do where one is broken.

A rule is *wrong* where it is broken, or only a *hint*: what Podman sets right by itself, or what
nobody can say more about.

====  =====  ==========================================================================
rule         what is wanted
====  =====  ==========================================================================
1     wrong  a cache file has 3 hashes, and 10 bits of its bloom filter a tag
2     wrong  tags and digests of a cache file have the lengths of their algorithm
3     wrong  a cache file has whole tags
4     wrong  the sections of a cache file fill it
5     wrong  the tags of a cache file are in order
6     wrong  the digests of a cache file begin with the name of their algorithm
7     wrong  the bloom filter admits each tag: Podman finds no other
8     wrong  each tag has a location, and each location a name
9     wrong  the bloom filter is no fuller than the tags make it
10    wrong  a cache file can be read
11    hint   a cache file is of version 3: Podman ignores others
12    wrong  a cache file is what the TOC gives, byte for byte
13    hint   a cache file has tags: Podman writes an empty one again at every pull
14    hint   a layer with a TOC has a cache file
15    wrong  the TOC of a layer can be read, and gives a cache file
16    wrong  the layout of a layer can be read
20    wrong  the lists of layers and images can be read
21    wrong  the big data that a record lists is there
22    wrong  the big data that is there is listed
23    wrong  big data belongs to a listed layer or image
24    wrong  a listed layer has its folder of files
25    wrong  a folder of files belongs to a listed layer
26    hint   the store has the files of its layers
27    wrong  the layer below a layer is listed
28    wrong  the top layer of an image is listed
29    hint   a layer is complete
30    wrong  no temporary file is left behind
31    wrong  a cache in the user's folder is as it was written, and what its TOC gives
32    wrong  a file of the index on disk is as it was written
40    wrong  a file that a pull may reuse is there, and can be read
41    wrong  a file has the size of the TOC
42    wrong  a file and its chunks have the digests of the TOC
43    hint   no symbolic link is on the path of a file
====  =====  ==========================================================================

Rules 1 to 9 are those of `cache.validate`. Rules 40 to 43 are checked on request: all files are
read for them.

Source: containers/storage check.go Check, layers.go load, GarbageCollect.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

__all__ = ["Finding", "Remedy", "Rule"]


class Rule(IntEnum):
    """The number of a rule."""

    CACHE_FILTER_SIZE = 1
    CACHE_LENGTHS = 2
    CACHE_WHOLE_TAGS = 3
    CACHE_SECTIONS = 4
    CACHE_ORDER = 5
    CACHE_ALGORITHM = 6
    CACHE_FILTER = 7
    CACHE_LOCATIONS = 8
    CACHE_FILTER_FILL = 9
    CACHE_READABLE = 10
    CACHE_VERSION = 11
    CACHE_OF_TOC = 12
    CACHE_EMPTY = 13
    CACHE_MISSING = 14
    TOC = 15
    LAYOUT = 16
    LISTS = 20
    ITEM_MISSING = 21
    ITEM_UNLISTED = 22
    BIG_DATA_ORPHANED = 23
    FOLDER_MISSING = 24
    FOLDER_ORPHANED = 25
    FOLDERS = 26
    PARENT = 27
    TOP_LAYER = 28
    INCOMPLETE = 29
    LEFTOVER = 30
    KEPT_CACHE = 31
    INDEX = 32
    FILE_MISSING = 40
    FILE_SIZE = 41
    FILE_DIGEST = 42
    FILE_LINK = 43

    @property
    def is_hint(self) -> bool:
        """Whether it is not wrong where this rule is broken."""
        return self in _HINTS

    @property
    def wanted(self) -> str:
        """What a sound store has."""
        return _WANTED[self]


class Remedy(StrEnum):
    """What `mend` does for a finding."""

    BUILD = "build"
    LIST = "list"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Finding:
    """One place where a rule is broken."""

    rule: Rule
    found: str
    layer: str | None = None  # its id
    image: str | None = None  # its id
    path: str | None = None  # the file or folder, where there is one
    remedy: Remedy | None = None  # None where `mend` can do nothing

    @property
    def advice(self) -> str:
        """What to do."""
        if self.remedy is not None:
            return _REMEDIES[self.remedy]
        return _ADVICE.get(self.rule, _PULL)


_REMEDIES: Final = {
    Remedy.BUILD: "`vecache doctor --fix` builds it from the TOC, byte for byte as Podman does",
    Remedy.LIST: "`vecache doctor --fix` lists it",
    Remedy.REMOVE: "`vecache doctor --fix` removes it",
}
_HINTS: Final = frozenset(
    {
        Rule.CACHE_VERSION,
        Rule.CACHE_EMPTY,
        Rule.CACHE_MISSING,
        Rule.FOLDERS,
        Rule.INCOMPLETE,
        Rule.FILE_LINK,
    }
)
_WANTED: Final = {
    Rule.CACHE_FILTER_SIZE: "a cache file has 3 hashes, and 10 bits of its bloom filter a tag",
    Rule.CACHE_LENGTHS: "tags and digests of a cache file have the lengths of their algorithm",
    Rule.CACHE_WHOLE_TAGS: "a cache file has whole tags",
    Rule.CACHE_SECTIONS: "the sections of a cache file fill it",
    Rule.CACHE_ORDER: "the tags of a cache file are in order",
    Rule.CACHE_ALGORITHM: "the digests of a cache file begin with the name of their algorithm",
    Rule.CACHE_FILTER: "the bloom filter admits each tag: Podman finds no other",
    Rule.CACHE_LOCATIONS: "each tag has a location, and each location a name",
    Rule.CACHE_FILTER_FILL: "the bloom filter is no fuller than the tags make it",
    Rule.CACHE_READABLE: "a cache file can be read",
    Rule.CACHE_VERSION: "a cache file is of version 3: Podman ignores others",
    Rule.CACHE_OF_TOC: "a cache file is what the TOC gives, byte for byte",
    Rule.CACHE_EMPTY: "a cache file has tags: Podman writes an empty one again at every pull",
    Rule.CACHE_MISSING: "a layer with a TOC has a cache file",
    Rule.TOC: "the TOC of a layer can be read, and gives a cache file",
    Rule.LAYOUT: "the layout of a layer can be read",
    Rule.LISTS: "the lists of layers and images can be read",
    Rule.ITEM_MISSING: "the big data that a record lists is there",
    Rule.ITEM_UNLISTED: "the big data that is there is listed",
    Rule.BIG_DATA_ORPHANED: "big data belongs to a listed layer or image",
    Rule.FOLDER_MISSING: "a listed layer has its folder of files",
    Rule.FOLDER_ORPHANED: "a folder of files belongs to a listed layer",
    Rule.FOLDERS: "the store has the files of its layers",
    Rule.PARENT: "the layer below a layer is listed",
    Rule.TOP_LAYER: "the top layer of an image is listed",
    Rule.INCOMPLETE: "a layer is complete",
    Rule.LEFTOVER: "no temporary file is left behind",
    Rule.KEPT_CACHE: "a cache in the user's folder is as it was written, and what its TOC gives",
    Rule.INDEX: "a file of the index on disk is as it was written",
    Rule.FILE_MISSING: "a file that a pull may reuse is there, and can be read",
    Rule.FILE_SIZE: "a file has the size of the TOC",
    Rule.FILE_DIGEST: "a file and its chunks have the digests of the TOC",
    Rule.FILE_LINK: "no symbolic link is on the path of a file",
}
_PULL: Final = "pull the image again, after `podman rmi`"
_BY_HAND: Final = "nothing uses it: remove it while no Podman runs"
_NOT_NEEDED: Final = "make it readable, or remove it: whatever is missing is made again"
_ADVICE: Final = {
    Rule.CACHE_VERSION: "nothing: Podman builds it again at its next pull",
    Rule.CACHE_EMPTY: "nothing: the layer has no files to reuse",
    Rule.CACHE_MISSING: "nothing: Podman writes it at its next pull",
    Rule.LISTS: "where Podman cannot read it either: mend it by hand",
    Rule.ITEM_UNLISTED: "nothing: it is removed with its layer or image",
    Rule.BIG_DATA_ORPHANED: f"if no `imagestore` of its storage.conf lists it, {_BY_HAND}",
    # Without --quick it takes folders with other times for damage, and removes sound layers.
    Rule.FOLDER_ORPHANED: "`podman system check --quick --repair` removes it",
    Rule.FOLDERS: "nothing, where only the records were copied",
    Rule.INCOMPLETE: "nothing: Podman removes it when it next writes",
    Rule.LEFTOVER: _BY_HAND,
    Rule.KEPT_CACHE: _NOT_NEEDED,
    Rule.INDEX: _NOT_NEEDED,
    Rule.FILE_LINK: "nothing: such a file is not checked",
}
