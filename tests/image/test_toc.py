"""Protects: a TOC is read where annotations say, checked before use, and bounded in size."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden import GOLDEN_SMALL, golden_toc, layer_ids, pulls
from tests.image.samples import (
    TOC,
    Layer,
    compress_zstd,
    digest_of,
    estargz_layer,
    footer,
    plain_layer,
    toc_member,
    zstd_layer,
)
from vecache.errors import ImageError, TocError, VecacheError
from vecache.image.manifest import Descriptor
from vecache.image.open import open_image
from vecache.image.toc import (
    FOOTER_BYTES,
    TocReader,
    decompress_zstd,
    find_toc,
    parse_footer,
    read_toc,
    unpack_toc,
)
from vecache.toc.files import TocFormat
from vecache.toc.parse import MAX_TOC_BYTES


@dataclass
class Bytes:
    """A blob in memory that remembers what was read of it."""

    data: bytes
    n_bytes: int
    reads: list[tuple[int, int]]
    where: str = "blob"

    def read(self, offset: int, n_bytes: int) -> bytes:
        self.reads.append((offset, n_bytes))
        return self.data[offset : offset + n_bytes]


@dataclass
class Sparse:
    """A blob that is all end."""

    n_bytes: int
    end: bytes
    where: str = "blob"

    def read(self, offset: int, n_bytes: int) -> bytes:
        assert offset + n_bytes == self.n_bytes
        return self.end[-n_bytes:]


def find(layer: Layer, n_bytes: int | None = None) -> tuple[TocReader | None, Bytes]:
    size = len(layer.blob) if n_bytes is None else n_bytes
    blob = Bytes(layer.blob, size, [])
    described = Descriptor(
        digest_of(layer.blob), size, "", layer.annotations, where="the manifest: layers[0]"
    )
    return find_toc(described, blob), blob


def reader_of(layer: Layer) -> tuple[TocReader, Bytes]:
    reader, blob = find(layer)
    assert reader is not None
    return reader, blob


def test_a_zstd_toc_costs_one_range() -> None:
    reader, blob = reader_of(zstd_layer())
    n_packed = len(compress_zstd(TOC))
    assert reader.toc_format is TocFormat.ZSTD_CHUNKED
    assert (reader.offset(), reader.wire_bytes()) == (100, n_packed + len(b"tar-split"))
    assert blob.reads == []
    assert read_toc(reader) == TOC
    assert blob.reads == [(100, n_packed)]


def test_an_estargz_toc_costs_two_ranges_and_the_footer_only_once() -> None:
    layer = estargz_layer()
    reader, blob = reader_of(layer)
    assert reader.toc_format is TocFormat.ESTARGZ
    assert blob.reads == []
    assert read_toc(reader) == TOC
    start, end = reader.offset(), len(layer.blob)
    assert reader.wire_bytes() == end - start
    assert blob.reads == [(end - 51, 51), (start, end - 51 - start)]


def test_a_layer_without_annotations_has_no_toc() -> None:
    assert find(plain_layer())[0] is None


def test_both_kinds_on_one_layer_are_an_error() -> None:
    both = {**zstd_layer().annotations, **estargz_layer().annotations}
    with pytest.raises(ImageError, match="both zstd:chunked and eStargz"):
        find(Layer(b"", both))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"manifest": ""}, "wanted 4 numbers"),
        ({"manifest": "1:2:3"}, "wanted 4 numbers"),
        ({"manifest": "1:2:3:1:5"}, "wanted 4 numbers"),
        ({"manifest": "-1:2:3:1"}, "wanted 4 numbers"),
        ({"manifest": "1:2:3:1 "}, "wanted 4 numbers"),
        ({"manifest": "1:+2:3:1"}, "wanted 4 numbers"),
        ({"manifest": "1:²:3:1"}, "wanted 4 numbers"),
        ({"manifest": f"{10**30}:2:3:1"}, "wanted 4 numbers"),
        ({"manifest": "1:2:3:0"}, "a TOC of type 0"),
        ({"manifest": "1:2:3:2"}, "a TOC of type 2"),
        ({"manifest": "1:0:3:1"}, "a TOC of 0 bytes"),
        ({"manifest": "1:2:0:1"}, "0 uncompressed"),
        ({"manifest": "9999999999:2:3:1"}, "ends at byte 10,000,000,001"),
        ({"tarsplit": "1:2"}, "wanted 3 numbers"),
        ({"tarsplit": "1:9999999:3"}, "tarsplit-position ends at byte"),
        ({"checksum": "sha256:0"}, "manifest-checksum: 'sha256:0' is not a digest"),
    ],
)
def test_malformed_positions_are_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(VecacheError, match=message) as caught:
        find(zstd_layer(changes=changes))
    assert "layers[0]" in str(caught.value)


@pytest.mark.parametrize("n_bytes", [(MAX_TOC_BYTES + 1, 3), (2, MAX_TOC_BYTES + 1)])
def test_a_toc_that_is_too_large_is_none(n_bytes: tuple[int, int]) -> None:
    """Podman would not hold it in memory, and takes the whole layer."""
    compressed, uncompressed = n_bytes
    layer = zstd_layer(changes={"manifest": f"0:{compressed}:{uncompressed}:1"})
    assert find(layer, n_bytes=2 * MAX_TOC_BYTES)[0] is None


def test_positions_may_be_missing_only_for_the_tar_split() -> None:
    layer = zstd_layer()
    positions = {name: text for name, text in layer.annotations.items() if "tarsplit" not in name}
    reader, _ = reader_of(Layer(layer.blob, positions))
    assert reader.wire_bytes() == len(compress_zstd(TOC))
    zero, _ = reader_of(
        zstd_layer(changes={"tarsplit": "0:9:9"})
    )  # upstream takes offset 0 as "none"
    assert zero.wire_bytes() == len(compress_zstd(TOC))
    checksum_only = {name: text for name, text in positions.items() if "position" not in name}
    with pytest.raises(ImageError, match="manifest-position is missing"):
        find(Layer(layer.blob, checksum_only))


def test_the_compressed_toc_is_hashed_before_it_is_decompressed() -> None:
    layer = zstd_layer()
    spoiled = bytearray(layer.blob)
    spoiled[100] ^= 0xFF  # the magic number: a decompressor would complain about that
    reader, _ = reader_of(Layer(bytes(spoiled), layer.annotations))
    with pytest.raises(TocError, match="with the digest"):
        read_toc(reader)


@pytest.mark.parametrize(
    ("packed", "n_bytes", "message"),
    [
        (compress_zstd(bytes(1 << 28)), 1000, "more than 1,000 bytes"),
        (compress_zstd(bytes(1000)), 999, "more than 999 bytes"),
        (compress_zstd(bytes(1000)), 1001, "1,000 bytes uncompressed, the manifest says 1,001"),
        (compress_zstd(bytes(1000)) + compress_zstd(b"x"), 1000, "more than 1,000 bytes"),
        (compress_zstd(b"abc" * 1000)[:-4], 3000, "damaged|bytes uncompressed"),
        (b"no zstd at all", 10, "damaged zstd"),
        (b"", 10, "damaged|0 bytes"),
    ],
    ids=["bomb", "longer", "shorter", "two frames", "cut", "rubbish", "nothing"],
)
def test_a_frame_must_have_the_stated_length(packed: bytes, n_bytes: int, message: str) -> None:
    with pytest.raises(TocError, match=message):
        decompress_zstd(packed, n_bytes, "the TOC")


@given(st.binary(max_size=80))
def test_any_frame_raises_only_toc_errors(packed: bytes) -> None:
    with pytest.raises(TocError):
        decompress_zstd(b"\x28\xb5\x2f\xfd" + packed, 10_000, "the TOC")


GOOD_FOOTER = footer(0x1234)


@pytest.mark.parametrize(
    ("offset", "new"),
    [
        (0, b"\x00"),  # gzip magic
        (2, b"\x00"),  # method
        (3, b"\x00"),  # no extra field
        (10, b"\x1b"),  # length of the extra field
        (12, b"XX"),  # subfield's name
        (14, b"\x17"),  # subfield's length
        (16, b"g"),  # not hex
        (16, b" "),
        (16, b"+"),
        (32, b"stargz"),
        (38, b"\x00"),  # not the last block
        (43, b"\x01"),  # checksum of nothing
        (50, b"\x01"),
    ],
)
def test_a_footer_is_parsed_strictly(offset: int, new: bytes) -> None:
    spoiled = GOOD_FOOTER[:offset] + new + GOOD_FOOTER[offset + len(new) :]
    with pytest.raises(ImageError, match="not an eStargz footer"):
        parse_footer(spoiled, "blob")
    assert parse_footer(GOOD_FOOTER, "blob") == 0x1234


def test_a_footer_may_have_any_time_and_system() -> None:
    spoiled = GOOD_FOOTER[:4] + b"\n23456" + GOOD_FOOTER[10:]
    assert parse_footer(spoiled, "blob") == 0x1234


@pytest.mark.parametrize("start", [10**9, 2**64 - 1])
def test_a_footer_that_points_outside_is_refused(start: int) -> None:
    reader, _ = reader_of(estargz_layer(tail=footer(start)))
    with pytest.raises(ImageError, match="the footer puts the TOC at byte"):
        reader.offset()


def test_a_blob_that_is_too_small_or_whose_toc_is_too_large_is_refused() -> None:
    small, _ = reader_of(Layer(bytes(FOOTER_BYTES), estargz_layer().annotations))
    with pytest.raises(ImageError, match="too few"):
        small.offset()
    size = MAX_TOC_BYTES + 52
    described = Descriptor(digest_of(b""), size, "", estargz_layer().annotations)
    large = find_toc(described, Sparse(size, footer(0)))
    assert large is not None
    with pytest.raises(ImageError, match="no longer than"):
        large.offset()


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (toc_member(b"x" * 10, size=MAX_TOC_BYTES + 1), "wanted a file of 1 to"),
        (toc_member(b"x" * 10, size=0), "wanted a file"),
        (toc_member(b"x" * 10, size=5000), "ends after 1,536 of 5,000"),
        (toc_member(b"x", type=b"5"), "wanted a file"),
        (toc_member(b"x", type=b"x"), "wanted a file"),
        (gzip.compress(bytes(2000)), "damaged gzip or tar"),
        (gzip.compress(b"short"), "damaged gzip or tar"),
        (gzip.compress(b""), "damaged gzip or tar"),
        (b"no gzip", "damaged gzip or tar"),
        (b"", "damaged gzip or tar"),
        (zlib.compress(bytes(2000)), "damaged gzip or tar"),
        (toc_member(TOC)[:40], "damaged gzip or tar"),
    ],
)
def test_a_toc_member_must_hold_one_file(member: bytes, message: str) -> None:
    with pytest.raises(TocError, match=message):
        unpack_toc(member, "the TOC")


def test_an_estargz_bomb_is_not_unpacked_past_the_stated_size() -> None:
    bomb = toc_member(bytes(1 << 25), size=100)
    assert len(unpack_toc(bomb, "the TOC")) == 100


def test_the_uncompressed_toc_is_hashed() -> None:
    reader, _ = reader_of(estargz_layer(member=toc_member(TOC + b" ")))
    with pytest.raises(TocError, match="with the digest"):
        read_toc(reader)


@given(st.binary(max_size=100))
def test_any_member_raises_only_toc_errors(data: bytes) -> None:
    for member in (data, gzip.compress(data), b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + data):
        with pytest.raises(TocError):
            unpack_toc(member, "the TOC")


@pytest.mark.parametrize(("folder", "store"), [("oci", "dir"), ("oci-estargz", "estargz")])
def test_tocs_of_golden_blobs_are_what_podman_stored(folder: str, store: str) -> None:
    ranges = {
        pull["blob"]: pull["toc_range"] for pull in pulls(GOLDEN_SMALL) if pull["store"] == store
    }
    stored = [golden_toc(store, layer) for layer in layer_ids(store)]
    seen = []
    for tag in ("base", "app1", "other", "dirs", "app2"):
        for layer in open_image(f"oci:{GOLDEN_SMALL}/{folder}:{tag}").layers:
            assert layer.reader is not None
            toc = read_toc(layer.reader)
            assert toc in stored
            assert layer.toc.n_bytes == len(toc)
            first, last = (int(number) for number in ranges[layer.blob].split("-"))
            assert layer.toc_offset == first
            if layer.toc_format is TocFormat.ESTARGZ:
                assert layer.toc_bytes == last + 1 - first + FOOTER_BYTES
            seen.append(toc)
    assert set(seen) == set(stored)
    assert all(json.loads(toc)["version"] == 1 for toc in stored)
