"""Random layers, sound and unsound, that share digests and key prefixes more often than chance."""

from __future__ import annotations

import hashlib
import struct

from hypothesis import strategies as st

from tests.oracle import pack_rows

N_DIGESTS = 24


def pool(length: int) -> list[bytes]:
    """Packed digests; some share their first 8, 16 or 31 bytes, some end in NUL."""
    prefix = {32: b"sha256:", 48: b"sha384:", 64: b"sha512:"}[length]
    raws = [hashlib.sha512(bytes([i])).digest()[:length] for i in range(N_DIGESTS)]
    for i in range(0, N_DIGESTS, 3):
        shared = (8, 16, 31)[i % 9 // 3]
        raws[i + 1] = raws[i][:shared] + raws[i + 1][shared:]
        raws[i + 2] = raws[i + 2][:-1] + b"\0"
    return [prefix + raw for raw in raws]


POOL = pool(32)
POOLS = {32: POOL, 48: pool(48), 64: pool(64)}


@st.composite
def cache_files(draw: st.DrawFn, *, sound: bool = False) -> bytes:
    """One cache file over the pool of digests."""
    length = 32 if sound else draw(st.sampled_from([32, 32, 32, 32, 48, 64]))
    row = st.tuples(
        st.sampled_from(POOLS[length]),
        st.sampled_from([b"etc/hosts", b"bin/sh", b"caf\xe9", b"a" * 70]),
        st.sampled_from([0, 0, 1, 300, 2**40, 2**63 + 5]),
        st.sampled_from([0, 5, 70_000]),
    )
    rows = draw(st.lists(row, max_size=30))
    if sound:
        return pack_rows(rows)
    pointers = st.tuples(
        st.sampled_from([0, 1, 10**6, 2**64 - 1]), st.sampled_from([0, 1, 3, 2**64 - 1])
    ).map(lambda pair: struct.pack("<QQ", *pair))
    wrong = draw(st.dictionaries(st.integers(0, 29), pointers, max_size=2))
    spoiled = draw(st.sets(st.sampled_from(POOLS[length]), max_size=2))
    return pack_rows(
        rows,
        digest_len=7 + length,
        padding=draw(st.sampled_from([0, 0, 5])),
        is_sorted=draw(st.sampled_from([True, True, False])),
        n_hashes=draw(st.sampled_from([3, 3, 3, 0, 1, 9, 50])),
        pointers=wrong,
        not_in_bloom=spoiled,
    )


def queries() -> st.SearchStrategy[list[bytes]]:
    """Packed digests of all three algorithms, some in no layer."""
    strange = [b"sha256:" + bytes(32), b"sha256:" + b"\xff" * 32, b"sha384:" + bytes(48)]
    return st.lists(
        st.sampled_from([*POOLS[32], *POOLS[32], *POOLS[48], *POOLS[64], *strange]), max_size=40
    )


def as_text(packed: bytes) -> str:
    """`algorithm:hex` of a packed digest."""
    return packed[:7].decode() + packed[7:].hex()
