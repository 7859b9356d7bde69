"""`python -m bench.peers`: measure, print the tables, and write them where asked."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

from bench.peers.kinds import KINDS
from bench.peers.report import render
from bench.peers.run import Plan, Size, run_all

_UNITS = {"k": 10**3, "M": 10**6}
_MAX_LAYER_TAGS = 1_800_000  # the original refuses more than 100 MB of tags in a layer
_CURVE_TAGS = (10**4, 10**5)
_CURVE_LAYERS = 100


def _main() -> None:
    options = _parse()
    plan = Plan(
        sizes=_sizes(options.tags, options.layers, has_curves=options.curves),
        peers=options.peers,
        minutes=options.minutes,
        rounds=options.rounds,
        is_real=options.real,
        go_root=options.go,
        folder=options.folder,
    )
    report = run_all(plan)
    command = shlex.join(["python", "-m", "bench.peers", *sys.argv[1:]])
    report["command"] = command
    sys.stdout.write(
        json.dumps(report, indent=1) + "\n"
        if options.json
        else render(report, command, is_markdown=False)
    )
    if options.json_file:
        options.json_file.write_text(json.dumps(report, indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(render(report, command, is_markdown=True))
    if options.plot:
        from bench.peers.curves import draw_curves  # noqa: PLC0415 - needs matplotlib

        for path in draw_curves(report, options.plot):
            sys.stderr.write(f"{path}\n")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers",
        description="Time look-ups of vecache and its peers on the same data; see bench/README.md.",
    )
    add = parser.add_argument
    add("--tags", type=_numbers, default=_numbers("1M,10M"), metavar="LIST",
        help="tags of the synthetic stores, such as 1M,10M (default) or 100M")  # fmt: skip
    add("--layers", type=_numbers, default=_numbers("10,1000"), metavar="LIST",
        help="numbers of layers of each (default 10,1000)")  # fmt: skip
    add("--peers", type=_peers, default=tuple(KINDS), metavar="LIST",
        help=f"some of {', '.join(KINDS)}")  # fmt: skip
    add("--minutes", type=float, default=10.0, help="what does not fit is left out (default 10)")
    add("--rounds", type=int, default=1,
        help="measure all peers of a size so often, in turn, and take the fastest")  # fmt: skip
    add("--json", action="store_true", help="print JSON instead of tables")
    add("--json-file", type=Path, metavar="FILE", help="write the JSON there too")
    add("--markdown", type=Path, metavar="FILE", help="write the tables as Markdown")
    add("--plot", type=Path, metavar="DIR", help="write the two growth curves as PNG")
    add("--curves", action=argparse.BooleanOptionalAction, default=True,
        help="measure the further sizes of the curves")  # fmt: skip
    add("--real", action=argparse.BooleanOptionalAction, default=True,
        help="measure the layers of real images, where they are")  # fmt: skip
    add("--go", type=Path, default=Path("/"), metavar="ROOT",
        help="folder below which the Debian packages of the Go original are installed")  # fmt: skip
    add("--folder", type=Path, metavar="DIR", help="where to put the data, 90 bytes a tag twice")
    return parser.parse_args()


def _numbers(text: str) -> tuple[int, ...]:
    """Read `1M,200k,10`."""
    try:
        return tuple(
            int(part[:-1]) * _UNITS[part[-1]] if part[-1:] in _UNITS else int(part)
            for part in text.split(",")
        )
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}, wanted such as 1M,10M") from None


def _peers(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(KINDS):
        raise argparse.ArgumentTypeError(f"no peer {', '.join(sorted(unknown))}")
    return names


def _sizes(tags: tuple[int, ...], layers: tuple[int, ...], *, has_curves: bool) -> list[Size]:
    def size(n_tags: int, n_layers: int, *sets: str) -> Size:
        n_queries = min(max(200_000, n_tags // 10), 10**6)
        n_layers = max(n_layers, -(-n_tags // _MAX_LAYER_TAGS))
        return Size(n_tags, n_layers, n_queries, *([sets] if sets else []))

    sizes = [size(n_tags, n_layers) for n_tags in tags for n_layers in layers]
    if has_curves:
        more = [size(n_tags, layers[0], "half") for n_tags in _CURVE_TAGS]
        more.append(size(tags[0], _CURVE_LAYERS, "half"))
        measured = {(one.n_tags, one.n_layers) for one in sizes}
        sizes += [one for one in more if (one.n_tags, one.n_layers) not in measured]
    return sorted(sizes, key=lambda one: (one.n_tags, one.n_layers))  # the quick ones first


if __name__ == "__main__":
    _main()
