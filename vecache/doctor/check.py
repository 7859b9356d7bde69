"""Check a store: run all rules, and drop what is about layers that are gone meanwhile.

Podman may run at the same time. The lists and folders are read under its locks, caches and files
without, since they take longer than a pull should wait. A layer that is removed while it is checked
looks broken, so findings about what is no longer listed are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vecache.doctor.caches import check_layer
from vecache.doctor.kept import check_kept
from vecache.doctor.records import check_records
from vecache.doctor.rules import Rule

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vecache.doctor.rules import Finding
    from vecache.store.graphroot import Store
    from vecache.store.records import LayerRecord

__all__ = ["Diagnosis", "diagnose"]


@dataclass(slots=True)
class Diagnosis:
    """What was checked, and what was found."""

    store: Store
    findings: list[Finding] = field(default_factory=list)
    n_layers: int = 0
    n_tocs: int = 0
    n_caches: int = 0
    n_images: int = 0

    @property
    def wrong(self) -> list[Finding]:
        """The findings that are not only hints."""
        return [finding for finding in self.findings if not finding.rule.is_hint]

    @property
    def hints(self) -> list[Finding]:
        """The findings that are only hints."""
        return [finding for finding in self.findings if finding.rule.is_hint]


def diagnose(
    store: Store, cache_folder: Path, progress: Callable[[int, int], object] | None = None
) -> Diagnosis:
    """Check a store and the user's cache folder; `progress` gets layers done, and layers in all."""
    result = Diagnosis(store)
    result.findings += check_kept(store, cache_folder)
    result.findings += check_records(store)
    if any(finding.rule is Rule.LISTS for finding in result.findings):
        return result
    layers = own_layers(store)
    result.n_layers = len(layers)
    result.n_images = sum(
        image.store_root not in store.additional_stores for image in store.images()
    )
    for number, layer in enumerate(layers, 1):
        found = check_layer(layer)
        result.findings += found.findings
        result.n_tocs += found.has_toc
        result.n_caches += found.has_cache
        if progress is not None:
            progress(number, len(layers))
    result.findings = sorted(
        _drop_removed(store, result.findings), key=lambda finding: finding.rule
    )
    return result


def own_layers(store: Store) -> list[LayerRecord]:
    """Return the layers that the graph root lists itself, in store order."""
    return [layer for layer in store.layers() if layer.store_root == store.root]


def _drop_removed(store: Store, findings: list[Finding]) -> list[Finding]:
    there = {layer.id for layer in store.layers()} | {image.id for image in store.images()}
    return [
        finding
        for finding in findings
        if finding.rule is Rule.INCOMPLETE or {finding.layer, finding.image} - {None} <= there
    ]
