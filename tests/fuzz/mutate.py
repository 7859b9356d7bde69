"""Change sound inputs at random: bits, numbers, runs, and pieces of other inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

MAX_BYTES = 1 << 16
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63)
_WORDS = (
    *(b"-1", b"9223372036854775807", b"1e999", b"null", b"true", b"{", b"}", b"[", b"]", b'"'),
    *(b",", b":", b"\\u0000", b"\\ud800", b"../", b"/", b"\0", b"\n", b"\xff", b"sha256:", b"="),
)


def mutate(random: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Return one of the seeds with one to eight changes."""
    data = bytearray(random.choice(seeds))
    for _ in range(random.choice((1, 1, 1, 2, 4, 8))):
        _change(random, data, seeds)
    return bytes(data[: max(MAX_BYTES, *map(len, seeds))])


def _change(random: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    at = random.randrange(len(data) + 1)
    end = min(len(data), at + random.choice((0, 1, 2, 4, 8, 64, 1024)))
    match random.randrange(7):
        case 0 if at < len(data):
            data[at] ^= 1 << random.randrange(8)
        case 1:
            width = random.choice((1, 2, 4, 8))
            number = random.choice(_NUMBERS) % (1 << 8 * width)
            data[at : at + width] = number.to_bytes(width, "little")
        case 2:
            data[at:end] = random.choice(_WORDS)
        case 3:
            data[at:end] = data[at:end] * random.choice((0, 2, 2, 50))
        case 4:
            del data[at:]
        case 5:
            data[at:at] = random.randbytes(random.choice((1, 4, 16)))
        case _:
            other = random.choice(seeds)
            start = random.randrange(len(other) + 1)
            data[at:end] = other[start : start + random.choice((4, 32, 512))]
