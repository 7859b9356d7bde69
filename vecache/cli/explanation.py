"""Show where one path of each image comes from, whether all images have it or only some."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from vecache.cli.options import show
from vecache.errors import PathNotFoundError
from vecache.text import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from vecache.cli.images import BadImages
    from vecache.plan.image_plan import ImagePlan

__all__ = ["show_explanations"]

_SCHEMA = {"schema": "vecache.plan-explain/1"}


def show_explanations(plans: Sequence[ImagePlan], bad: BadImages, args: argparse.Namespace) -> bool:
    """Explain a path of each image, print which images do not have it, and return whether all do.

    Where there is only one image it is an error not to have it.
    """
    import pyarrow as pa

    from vecache.report.explain import explain
    from vecache.report.output import Report

    rows: list[dict[str, Any]] = []
    missing: list[dict[str, str]] = []
    for plan in plans:
        reference = plan.image.reference
        with bad.collect(reference):
            try:
                sentences = explain(plan, args.explain)
                rows.append({"image": reference, "path": args.explain, "explanation": sentences})
            except PathNotFoundError as error:
                missing.append({"image": reference, "error": str(error)})
    if missing and len(args.image) == 1:
        raise PathNotFoundError(missing[0]["error"])
    errors = [*bad.errors, *missing]
    named = [{**_SCHEMA, **row} for row in rows]
    is_single = len(args.image) == len(rows) == 1
    report = Report(
        text=lambda _: "\n".join(_lines(rows, with_name=len(args.image) > 1)),
        document=lambda: named[0] if is_single else {**_SCHEMA, "images": named, "errors": errors},
        table=lambda: pa.Table.from_pylist(rows, _columns()),
        lines=lambda: [*named, *({**_SCHEMA, **error} for error in errors)],
    )
    show(report, args)
    for each in missing:
        print(f"vecache: error: {printable(each['error'])}", file=sys.stderr)
    return not missing


def _lines(rows: Sequence[dict[str, Any]], *, with_name: bool) -> Iterator[str]:
    for row in rows:
        if with_name:
            yield f"{printable(row['image'])}:"
        yield from map(printable, row["explanation"])


def _columns() -> Any:
    import pyarrow as pa

    fields = {"image": pa.string(), "path": pa.string(), "explanation": pa.list_(pa.string())}
    return pa.schema(fields)
