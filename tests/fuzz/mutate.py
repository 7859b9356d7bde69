"""Change inputs at random: bits, numbers, runs, pieces of others, values in JSON, and the size."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

MAX_BYTES = 1 << 16
_NESTED = "the nested part"
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63)
_WORDS = (
    *(b"-1", b"9223372036854775807", b"1e999", b"null", b"true", b"{", b"}", b"[", b"]", b'"'),
    *(b",", b":", b"\\u0000", b"\\ud800", b"../", b"/", b"\0", b"\n", b"\xff", b"sha256:", b"="),
)

_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 0.5, 1e300, 2**31, 2**63 - 1, 2**63, -(2**63), 10**30),
    *(
        "",
        "a",
        "/",
        "..",
        "../a",
        "\0",
        "\ud800",
        "\xe9",
        "a" * 300,
        "sha256:" + "0" * 64,
        "1:2:3:1",
    ),
    *("2026-01-31T12:00:00Z", "0001-01-01T00:00:00+23:59", [], {}, [None], {"": ""}),
)


def mutate(random: random.Random, seeds: Sequence[bytes], json_share: float = 0.5) -> bytes:
    """Return one of the seeds with one to eight changes, of its JSON in a share of all cases."""
    seed = random.choice(seeds)
    if random.random() < json_share and (changed := mutate_json(random, seed)) is not None:
        return changed
    data = bytearray(seed)
    for _ in range(random.choice((1, 1, 1, 2, 4, 8))):
        _change(random, data, seeds)
    return bytes(data[: max(MAX_BYTES, *map(len, seeds))])


def mutate_json(random: random.Random, data: bytes) -> bytes | None:
    """Change one to three values of a JSON document, alone or after a line; None if it is none."""
    head, end, body = data.partition(b"\n")
    for before, text in ((b"", data), (head + end, body)):
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            continue
        with suppress(TypeError):  # nothing is left in it
            for _ in range(random.choice((1, 1, 2, 3))):
                _change_value(random, document)
        return before + _dump(random, document)
    return None


def enlarge(random: random.Random, data: bytes) -> bytes:
    """Repeat or nest a part of an input, up to some megabytes."""
    n_bytes = 1 << random.randrange(16, 23)
    try:
        document = json.loads(data)
        container, key = _choose(random, document)
    except (ValueError, RecursionError, TypeError):
        at = random.randrange(len(data) + 1)
        part = data[at : at + random.choice((1, 2, 4, 8, 64, 1024))]
        return data[:at] + part * (n_bytes // max(1, len(part))) + data[at:]
    value = container[key]
    n_times = n_bytes // (len(json.dumps(value)) + 12 + len(str(key)))
    if random.randrange(4) == 0:
        container[key] = _NESTED
        opened, closed = random.choice(((b"[", b"]"), (b'{"a":', b"}")))
        n_times = random.choice((100, 10_000, n_bytes // len(opened)))
        nested = opened * n_times + b"0" + closed * n_times
        return _dump(random, document).replace(f'"{_NESTED}"'.encode(), nested)
    if isinstance(value, str | list):
        container[key] = value * max(1, n_bytes // max(1, len(json.dumps(value))))
    elif isinstance(container, list):
        container[key:key] = [value] * n_times
    else:
        container |= {f"{key}{n}": value for n in range(n_times)}
    return _dump(random, document)


def _dump(random: random.Random, document: Any) -> bytes:
    separators = random.choice((None, (",", ":")))  # the second as Go writes it
    return json.dumps(document, separators=separators).encode()


def _choose(random: random.Random, document: Any) -> tuple[Any, Any]:
    """Choose a place in a document: anywhere, or down from the top, which finds small parts."""
    slots: list[tuple[Any, Any]] = []
    rest = [document]
    if random.randrange(2):
        while isinstance(rest[-1], dict | list) and rest[-1]:
            found = rest[-1]
            slots.append(
                (
                    found,
                    random.choice(list(found) if isinstance(found, dict) else range(len(found))),
                )
            )
            rest.append(found[slots[-1][1]])
    else:
        while rest:
            found = rest.pop()
            if isinstance(found, dict | list):
                keys = found if isinstance(found, dict) else range(len(found))
                slots += [(found, key) for key in keys]
                rest += found.values() if isinstance(found, dict) else found
    if not slots:
        raise TypeError("nothing in it")
    return random.choice(slots)


def _change_value(random: random.Random, document: Any) -> None:
    container, key = _choose(random, document)
    match random.randrange(6):
        case 0:
            del container[key]
        case 1:
            other, other_key = _choose(random, document)
            container[key] = json.loads(json.dumps(other[other_key]))
        case 2 if isinstance(container, list):
            container.append(container[key])
        case 3:
            container[key] = copy.deepcopy(random.choice(_VALUES))  # or the next change is in it
        case _:
            alike = [each for each in _VALUES if type(each) is type(container[key])]
            container[key] = copy.deepcopy(random.choice(alike or _VALUES))


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
