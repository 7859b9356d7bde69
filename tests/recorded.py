"""Golden pulls of images of several layers, as OCI layouts and graph roots.

`layered` and `presence` keep of each image the figures of its manifest and its TOCs as compressed
frames, and of each store its records. A frame in a sparse file at the offset of the annotation is
all that a plan reads of a blob.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tests.golden import DATA, GOLDEN_SMALL, pulls
from tests.layouts import write_index, write_manifest
from vecache.store.bigdata import LAYER_DATA_KEY, TOC_KEY, big_data_file_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_CHECKSUM = "io.github.containers.zstd-chunked.manifest-checksum"
_POSITION = "io.github.containers.zstd-chunked.manifest-position"


class RecordedPulls:
    """One folder of golden pulls; layouts and stores are written below `scratch`."""

    def __init__(self, name: str, scratch: Path) -> None:
        self.folder = DATA / name
        self.scratch = scratch

    @cached_property
    def images(self) -> dict[str, list[dict[str, Any]]]:
        images: dict[str, list[dict[str, Any]]] = json.loads(
            (self.folder / "images.json").read_text()
        )
        return images

    @cached_property
    def _frames(self) -> dict[str, Path]:
        """Files of compressed TOCs, by digest."""
        return {
            "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest(): path
            for path in (self.folder / "layers").glob("*.toc.zst")
        }

    def reference(self, image: str) -> str:
        """Write an image as an OCI layout, once, and return its reference."""
        if image.startswith("est/"):  # the small images as eStargz
            return f"oci:{GOLDEN_SMALL / 'oci-estargz'}:{image[4:]}"
        folder = self.scratch / "oci" / image.replace("/", "-").replace(":", "-")
        if not folder.exists():
            blobs = folder / "blobs" / "sha256"
            blobs.mkdir(parents=True)
            for layer in self.images[image]:
                with (blobs / layer["blob"][7:]).open("wb") as file:
                    if _POSITION in layer["annotations"]:
                        file.seek(int(layer["annotations"][_POSITION].split(":")[0]))
                        file.write(self._frames[layer["annotations"][_CHECKSUM]].read_bytes())
                    file.truncate(layer["size"])
            manifest = write_manifest(
                blobs,
                [layer["diff_id"] for layer in self.images[image]],
                [
                    {
                        "mediaType": layer.get(
                            "media", "application/vnd.oci.image.layer.v1.tar+zstd"
                        ),
                        "digest": layer["blob"],
                        "size": layer["size"],
                        "annotations": layer["annotations"],
                    }
                    for layer in self.images[image]
                ],
            )
            write_index(folder, {"x": manifest})
        return f"oci:{folder}:x"

    def store(
        self, name: str, before: Sequence[str] | int | None, *, is_flat: bool = False
    ) -> Path:
        """Write a graph root with some of a store's layers: by id, the first N, or all."""
        records = json.loads((self.folder / "stores" / f"{name}.layers.json").read_text())
        if isinstance(before, int):
            records = records[:before]
        elif before is not None:
            by_id = {record["id"]: record for record in records}
            records = [by_id[layer] for layer in before]
        state = hashlib.sha256(json.dumps([name, records]).encode()).hexdigest()[:12]
        root = self.scratch / "stores" / f"{name}-{state}"
        if root.exists():
            return root
        layers = root / "overlay-layers"
        layers.mkdir(parents=True)
        for record in records:
            self._write_layer(layers / record["id"], record, is_flat)
        (layers / "layers.json").write_text(json.dumps(records))
        (layers / "layers.lock").touch()
        (root / "overlay-images").mkdir()
        (root / "overlay-images" / "images.json").write_text("[]")
        return root

    def _write_layer(self, folder: Path, record: dict[str, Any], is_flat: bool) -> None:
        folder.mkdir()
        named = record.pop("_toc", None)
        layout = record.pop("_format", int(is_flat))
        record.pop("_cache", None)
        if TOC_KEY not in record.get("big-data-names", ()):
            return
        frame = self.folder / "layers" / named if named else self._frames[record["toc-digest"]]
        with pa.CompressedInputStream(pa.BufferReader(frame.read_bytes()), "zstd") as stream:
            (folder / big_data_file_name(TOC_KEY)).write_bytes(stream.read())
        (folder / big_data_file_name(LAYER_DATA_KEY)).write_text(f'{{"format":{layout}}}')

    @property
    def pulls(self) -> list[dict[str, Any]]:
        return pulls(self.folder)
