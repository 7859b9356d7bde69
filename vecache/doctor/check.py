"""Check a store: run all rules, and drop what is about layers that are gone meanwhile.

Podman may run at the same time. The lists and folders are read under its locks, caches and files
without, since they take longer than a pull should wait. A layer that is removed while it is checked
looks broken, so findings about what is no longer listed are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vecache.doctor.caches import check_layer
from vecache.doctor.drift import check_files
from vecache.doctor.kept import check_built, check_kept
from vecache.doctor.records import check_records
from vecache.doctor.rules import Rule
from vecache.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vecache.doctor.rules import Finding
    from vecache.store.graphroot import Store
    from vecache.store.records import LayerRecord

__all__ = ["Diagnosis", "check_contents", "diagnose", "require_files"]


@dataclass(slots=True)
class Diagnosis:
    """What was checked, and what was found."""

    store: Store
    findings: list[Finding] = field(default_factory=list)
    n_layers: int = 0
    n_tocs: int = 0
    n_caches: int = 0
    n_images: int = 0
    # Files that were hashed; None where that was not asked for.
    n_files: int | None = None
    n_file_bytes: int | None = None

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
        if found.has_toc and not found.has_cache:
            result.findings += check_built(layer, cache_folder)
        result.n_tocs += found.has_toc
        result.n_caches += found.has_cache
        if progress is not None:
            progress(number, len(layers))
    result.findings = _drop_removed(store, result.findings)
    return result


def require_files(store: Store) -> None:
    """Raise unless the files of layers can be here."""
    if store.snapshot is not None:
        raise StoreError(
            f"{store.title}: a copy without the files of layers: run `vecache doctor --deep` on "
            f"{store.snapshot.host}"
        )


def check_contents(result: Diagnosis, progress: Callable[[int], object] | None = None) -> None:
    """Hash the files of all layers too; `progress` gets the bytes that were read."""
    require_files(result.store)
    result.n_files = result.n_file_bytes = 0
    if any(finding.rule is Rule.LISTS for finding in result.findings):
        return
    for layer in own_layers(result.store):
        found = check_files(layer, progress)
        result.findings += found.findings
        result.n_files += found.n_files
        result.n_file_bytes += found.n_bytes
    result.findings = _drop_removed(result.store, result.findings)


def own_layers(store: Store) -> list[LayerRecord]:
    """Return the layers that the graph root lists itself, in store order."""
    return [layer for layer in store.layers() if layer.store_root == store.root]


def _drop_removed(store: Store, findings: list[Finding]) -> list[Finding]:
    """Return the findings by rule, without those of layers and images that are gone."""
    there = {layer.id for layer in store.layers()} | {image.id for image in store.images()}
    left = [
        finding
        for finding in findings
        if finding.rule is Rule.INCOMPLETE or {finding.layer, finding.image} - {None} <= there
    ]
    return sorted(left, key=lambda finding: finding.rule)
