"""Protects: an image that no machine could run is refused before anything is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.layouts import SparseLayer, write_layout
from vecache.errors import ImageError
from vecache.image.manifest import Descriptor
from vecache.image.open import open_image
from vecache.image.source import MAX_IMAGE_BYTES
from vecache.store.records import MAX_LAYERS

if TYPE_CHECKING:
    from pathlib import Path


def layers(number: int) -> list[SparseLayer]:
    return [SparseLayer(None, toc_offset=1 + i) for i in range(number)]


def test_more_layers_than_overlay_can_mount_are_refused(tmp_path: Path) -> None:
    write_layout(tmp_path, {"most": layers(MAX_LAYERS), "more": layers(MAX_LAYERS + 1)})
    assert len(open_image(f"oci:{tmp_path}:most")) == MAX_LAYERS
    with pytest.raises(ImageError, match="501 layers, but the overlay driver can mount 500"):
        open_image(f"oci:{tmp_path}:more")


def test_layers_larger_than_any_disk_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_layout(tmp_path, {"huge": layers(2)})
    original = Descriptor.__init__

    def enlarged(self: Descriptor, **values: object) -> None:
        if str(values["media_type"]).endswith("tar+zstd"):
            values["n_bytes"] = MAX_IMAGE_BYTES // 2 + 1
        original(self, **values)  # type: ignore[arg-type]

    monkeypatch.setattr(Descriptor, "__init__", enlarged)
    with pytest.raises(ImageError, match="more than any disk can hold"):
        open_image(f"oci:{tmp_path}:huge")
