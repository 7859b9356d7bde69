"""A store that images are pulled into, one layer after the other, in the steps of the Go code.

Stands on nothing of `vecache`. A layer of an image is a dict: `blob`, `diff_id`, and for one with a
TOC `toc` (its digest), `kind` ("zstd:chunked" or "estargz") and `has_split`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any


@dataclass
class OracleLayer:
    """A record of layers.json."""

    id: str
    parent: str
    diff: str = ""
    compressed: str = ""
    toc: str = ""
    has_toc: bool = False  # the item of big data, which makes a cache


@dataclass
class OracleStore:
    """storageImageDestination and the store below it."""

    partial: bool
    insecure: bool
    convert: bool
    layers: list[OracleLayer] = field(default_factory=list)
    blob_pairs: dict[str, str] = field(default_factory=dict)  # the blob-info cache
    toc_pairs: dict[str, str] = field(default_factory=dict)

    def pull(self, image: list[dict[str, Any]]) -> list[str]:
        """Pull an image; return what happened to each layer."""
        self._diff_of: dict[int, str] = {}
        self._toc_of: dict[int, str] = {}
        self._blob_diffs: dict[str, str] = {}
        self._outputs: dict[int, OracleLayer] = {}
        self._files: set[str] = set()
        states, parent = [], ""
        for index, layer in enumerate(image):
            state = "present"
            if not self._try_reusing(index, layer):
                state = self._put_partial(index, layer) or self._put_blob(layer)
            states.append(state)
            parent = self._commit(index, layer, parent)
        return states

    def _by(self, name: str, digest: str) -> list[OracleLayer]:
        return [layer for layer in self.layers if digest and getattr(layer, name) == digest]

    def _try_reusing(self, index: int, layer: dict[str, Any]) -> bool:
        blob, toc = layer["blob"], layer.get("toc")
        if blob in self._files:
            return True
        if self._by("diff", blob):
            self._blob_diffs[blob] = blob
            return True
        if found := self._by("compressed", blob):
            self._blob_diffs[blob] = found[0].diff
            return True
        known = self.blob_pairs.get(blob, "")
        if known and self._by("diff", known):
            self._blob_diffs[blob] = known
            return True
        if toc is None:
            return False
        known = self.toc_pairs.get(toc, "")
        if known and self._by("diff", known):
            self._diff_of[index] = known
            return True
        if found := self._by("toc", toc):
            if diff := known or found[0].diff:
                self._diff_of[index] = diff
            self._toc_of[index] = toc
            return True
        return False

    def _put_partial(self, index: int, layer: dict[str, Any]) -> str:
        if not self.partial:
            return ""
        output = OracleLayer("", "", has_toc=True)
        is_enough = self.insecure or (layer.get("kind") == "zstd:chunked" and layer["has_split"])
        if "toc" in layer and is_enough:
            output.toc = self._toc_of[index] = layer["toc"]
            if not self.insecure:
                output.diff = self._diff_of[index] = layer["diff_id"]
                self.toc_pairs[layer["toc"]] = layer["diff_id"]
            elif known := self.toc_pairs.get(layer["toc"]):
                self._diff_of[index] = known
            self._outputs[index] = output
            return "partial"
        if self.convert:
            output.diff = self._diff_of[index] = layer["diff_id"]
            output.compressed = layer["blob"]
            self._blob_diffs[layer["blob"]] = layer["diff_id"]
            self.blob_pairs[layer["blob"]] = layer["diff_id"]
            self._outputs[index] = output
            return "whole"
        return ""

    def _put_blob(self, layer: dict[str, Any]) -> str:
        self._blob_diffs[layer["blob"]] = layer["diff_id"]
        self._files.add(layer["blob"])
        self.blob_pairs[layer["blob"]] = layer["diff_id"]
        return "whole"

    def _commit(self, index: int, layer: dict[str, Any], parent: str) -> str:
        diff, toc, blob = self._trusted(index, layer["blob"])
        part = diff.partition(":")[2] or f"@TOC={toc.partition(':')[2]}"
        layer_id = part
        if parent or not diff:
            layer_id = hashlib.sha256(f"{parent}+{part}".encode()).hexdigest()
        if not self._by("id", layer_id):
            self.layers.append(self._create(index, OracleLayer(layer_id, parent, diff), toc, blob))
        return layer_id

    def _trusted(self, index: int, blob: str) -> tuple[str, str, str]:
        """The diff-id, or nothing where the TOC identifies the layer; TOC and blob if trusted."""
        diff, toc = self._diff_of.get(index, ""), self._toc_of.get(index, "")
        other = self._blob_diffs.get(blob, "")
        if other and not diff and not toc:
            return other, "", blob
        return diff, toc, blob if diff and other == diff else ""

    def _create(self, index: int, new: OracleLayer, toc: str, blob: str) -> OracleLayer:
        if output := self._outputs.get(index):
            new.toc, new.compressed, new.has_toc = output.toc, output.compressed, output.has_toc
            return new
        if blob and blob in self._files:
            new.compressed = blob
            return new
        found = self._by("diff", new.diff) or self._by("toc", toc) or self._by("compressed", blob)
        source = found[0]
        is_of_blob = blob and source.compressed == blob
        new.diff = new.diff or source.diff
        new.compressed = blob if is_of_blob else ""  # else the diff-id once more
        return new
