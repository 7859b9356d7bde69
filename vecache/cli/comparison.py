"""The options of verbs that compare layers, images or nodes: the grain, and the metric shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecache.cli.options import UsageError, is_picture
from vecache.report.overlap import METRICS

if TYPE_CHECKING:
    import argparse

__all__ = ["add_comparison", "check_metric"]

_DRAWN_METRICS = ("jaccard", "containment")


def add_comparison(parser: argparse.ArgumentParser) -> None:
    """Add `--grain` and `--metric`."""
    parser.add_argument(
        "--grain",
        choices=("file", "chunk"),
        default="file",
        help="compare whole files or chunks (default: file)",
    )
    parser.add_argument(
        "--metric",
        choices=tuple(METRICS),
        help="what the table shows (default: bytes), or a heatmap (default: jaccard)",
    )


def check_metric(args: argparse.Namespace) -> None:
    """Refuse `--metric` where it would do nothing."""
    if args.metric is None:
        return
    if is_picture(args):
        if args.metric not in _DRAWN_METRICS:
            wanted = " or ".join(_DRAWN_METRICS)
            raise UsageError(f"--metric: found {args.metric!r}, but a heatmap shows {wanted}")
    elif args.output is not None or args.json or args.jsonl:
        raise UsageError("--metric does nothing here: it chooses what the table or a heatmap shows")
