"""Find the image or the layer of a store that a name, an id or a digest refers to.

An image is looked up as Podman looks up local ones. The first rule that matches decides:

1. a whole id (64 digits, with or without `sha256:`), or the digest of a manifest;
2. a full name; a short one as `localhost/NAME`, then as `docker.io/[library/]NAME`. `:latest` is
   added where there is no tag, and a tag before a digest is ignored;
3. the beginning of an id, three digits or more;
4. for short names: the end of a full name, such as `small/base` or `base`.

A layer is looked up by its id, one of its names, or the digest of its tar, TOC or blob, with or
without `sha256:`; or by their beginning, where an id comes before a digest. Blobs that the layers'
records do not have are looked for in the manifests of the images.

If several match, the error lists them; if none does, it lists what is similar.

`registries.conf` is not read, so there are no aliases and no search registries.

Source: containers/common libimage/runtime.go LookupImage; distribution/reference normalize.go.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING

from vecache.errors import ImageError, ImageNotFoundError, LayerNotFoundError, StoreError
from vecache.store.names import find_blobs, layer_chains
from vecache.text import count

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from vecache.store.records import ImageRecord, LayerRecord

__all__ = ["find_image", "find_layer", "find_layers", "find_present", "has_manifest"]

_MIN_PREFIX_LENGTH = 3
_MAX_LISTED = 5
_MAX_COMPARED = 10_000  # 0.2 s
_MAY_BE_BLOB = re.compile(r"(?:\w+:)?[0-9a-f]{6,}$", re.ASCII)  # for it manifests are read


def find_image(images: Sequence[ImageRecord], name: str) -> ImageRecord:
    """Find the image that a name, an id or a digest refers to."""
    repository, tag, digest = _split_name(name)
    bare = name.removeprefix("sha256:")
    if re.fullmatch("[0-9a-f]{64}", bare):
        found = [i for i in images if i.id == bare] or [
            i for i in images if has_manifest(i, f"sha256:{bare}")
        ]
        return _require_one(found[:1], images, name)
    for full in _full_repositories(repository):
        for image in images:
            if _has_name(image, full, tag, digest):
                return image
    by_id = [i for i in images if len(bare) >= _MIN_PREFIX_LENGTH and i.id.startswith(bare)]
    if by_id or not _is_short(repository):
        return _require_one(by_id, images, name)
    ends = [i for i in images if _has_name(i, repository, tag, digest, is_end=True)]
    return _require_one(ends, images, name)


def find_layer(
    layers: Sequence[LayerRecord], name: str, images: Sequence[ImageRecord] = ()
) -> LayerRecord:
    """Find the layer that an id, a name or a digest refers to."""
    found = find_layers(layers, name, images)
    if len(found) > 1:
        raise StoreError(
            f"layer {name!r:.100}: the digest of {len(found)} layers ({_listed(found)}); "
            "use the id of one"
        )
    return found[0]


def find_layers(
    layers: Sequence[LayerRecord], name: str, images: Sequence[ImageRecord] = ()
) -> list[LayerRecord]:
    """Find the layers that an id, a name or a digest refers to: several only of one digest."""
    named = [layer for layer in layers if name in layer.names]
    if named:
        return named[:1]
    wanted = name.removeprefix("sha256:")
    found = _begin_with(wanted, _digests(layers))
    if not found and _MAY_BE_BLOB.match(wanted):
        found = _begin_with(wanted, find_blobs(layers, images))
    if not found:
        raise LayerNotFoundError(_no_layer(layers, name, images))
    if len(found) > 1:
        several = list({each.key: each for some in found.values() for each in some}.values())
        if len(several) > 1:
            raise StoreError(
                f"layer {name!r:.100}: matches {len(several)} layers ({_listed(several)}); "
                "use more of the id"
            )
        return several
    ((text, same),) = found.items()
    return [each for each in same if each.id == text] or same


def find_present(
    layers: Sequence[LayerRecord], images: Sequence[ImageRecord], names: Collection[str]
) -> frozenset[str]:
    """Return the ids of the layers that are named, or that a named image has."""
    known = {layer.id for layer in layers}
    found = known.intersection(names)
    for name in names:
        if name in known:
            continue
        try:
            found.update(layer.id for layer in find_layers(layers, name, images))
        except LayerNotFoundError as no_layer:
            try:
                image = find_image(images, name)
            except ImageNotFoundError as error:
                no_image = str(error).partition(": ")[2]
                raise LayerNotFoundError(f"{no_layer}; as an image: {no_image}") from None
            by_key = {layer.key: layer.id for layer in layers}
            ((_, keys),) = layer_chains(layers, [image])
            found.update(by_key[key] for key in keys)
    return frozenset(found)


def _digests(layers: Iterable[LayerRecord]) -> Iterator[tuple[str, LayerRecord]]:
    for layer in layers:
        yield layer.id, layer
        for digest in (layer.diff_digest, layer.compressed_diff_digest, layer.toc_digest):
            if digest is not None:
                yield digest, layer


def _begin_with(
    wanted: str, digests: Iterable[tuple[str, LayerRecord]]
) -> dict[str, list[LayerRecord]]:
    """Return the layers of the digest that is wanted, or of each that begins so."""
    found: dict[str, list[LayerRecord]] = {}
    for digest, layer in digests:
        text = digest.removeprefix("sha256:")
        if wanted and text.startswith(wanted):
            same = found.setdefault(text, [])
            if layer not in same:
                same.append(layer)
    return {wanted: found[wanted]} if wanted in found else found


def _no_layer(layers: Sequence[LayerRecord], name: str, images: Sequence[ImageRecord]) -> str:
    """Return the message for a name that no layer has."""
    there_are = count(len(layers), "layer")
    message = f"layer {name!r:.100}: none of the store's {there_are} has this id, digest or name"
    wanted = name.removeprefix("sha256:")[:64]
    if re.fullmatch("[0-9a-f]{6,}", wanted):
        known = dict.fromkeys(
            digest.removeprefix("sha256:")[: len(wanted)]
            for digest, _ in chain(_digests(layers), find_blobs(layers, images))
        )
        import difflib  # noqa: PLC0415 - 1 ms, for a message

        similar = difflib.get_close_matches(wanted, list(known)[:_MAX_COMPARED], n=3, cutoff=0.8)
        if similar:
            return f"{message}; similar: {', '.join(similar)}"
    return f"{message}; `vecache layers` lists them"


def _listed(layers: Sequence[LayerRecord]) -> str:
    more = ", …" if len(layers) > _MAX_LISTED else ""
    return ", ".join(layer.id[:16] for layer in layers[:_MAX_LISTED]) + more


def _require_one(
    found: Sequence[ImageRecord], images: Sequence[ImageRecord], name: str
) -> ImageRecord:
    """Return the only image that was found, or raise an error that lists what there is."""
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(image.names[0] if image.names else image.id[:16] for image in found[:5])
        raise ImageError(f"image {name!r}: matches {len(found)} images ({listed}); use a full name")
    hint = "podman images lists them" if images else "the store has no images"
    suggestions = _similar_names(images, name)
    if suggestions:
        hint = f"similar names: {', '.join(suggestions)}"
    raise ImageNotFoundError(f"image {name!r}: not in the store; {hint}")


def _similar_names(images: Sequence[ImageRecord], name: str) -> list[str]:
    """Return up to three full names that are similar to the name, whole or in their last part."""
    known: dict[str, str] = {}
    for full in (full for image in images for full in image.names):
        last = full.rpartition("/")[2]
        for form in (full, last, last.partition(":")[0]):
            known.setdefault(form, full)
    import difflib  # noqa: PLC0415 - 1 ms, for a message

    similar = difflib.get_close_matches(name, known, n=3)
    return list(dict.fromkeys(known[form] for form in similar))


def _split_name(name: str) -> tuple[str, str, str]:
    """Split a name into repository, tag (`latest` where none is given) and digest."""
    rest, _, digest = name.partition("@")
    repository, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:  # the colon of a port
        repository, tag = rest, "latest"
    return repository, tag, digest


def _is_short(repository: str) -> bool:
    """Return whether a repository has no host of a registry."""
    host, slash, _ = repository.partition("/")
    return not slash or not (host == "localhost" or "." in host or ":" in host)


def _full_repositories(repository: str) -> list[str]:
    """Return the full repositories that a name may stand for, the first one preferred."""
    if _is_short(repository):
        library = "" if "/" in repository else "library/"
        return [f"localhost/{repository}", f"docker.io/{library}{repository}"]
    host, _, path = repository.partition("/")
    if host in ("docker.io", "index.docker.io"):
        return [repository, f"docker.io/{path if '/' in path else f'library/{path}'}"]
    return [repository]


def _has_name(
    image: ImageRecord, repository: str, tag: str, digest: str, *, is_end: bool = False
) -> bool:
    """Return whether one of an image's names is this repository, with this tag or digest."""
    if digest and not has_manifest(image, digest):
        return False
    for name in image.names:
        found, found_tag, found_digest = _split_name(name)
        if found != repository and not (is_end and found.endswith(f"/{repository}")):
            continue
        if digest or (found_tag == tag and not found_digest):
            return True
    return False


def has_manifest(image: ImageRecord, digest: str) -> bool:
    """Return whether an image has a manifest with this digest."""
    return digest == image.digest or f"manifest-{digest}" in image.big_data_names
