"""Show which images would be removed to free so many bytes: as text and as a JSON document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vecache.report.terminal import Column, count, human_bytes, render_facts, render_table
from vecache.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vecache.report.terminal import Screen
    from vecache.sharing.free import RemovalOrder
    from vecache.sharing.members import ContentImage
    from vecache.sharing.removal import Removal

__all__ = ["free_document", "free_table", "free_text"]


def free_table(order: RemovalOrder, removal: Removal, fetch: Sequence[int | None]) -> Any:
    """Return the steps with what new pulls would cost; `removal` is that of all images of `order`.

    `fetch` is the bytes over the network for each image of `removal`.
    """
    import pyarrow as pa  # noqa: PLC0415 - `vecache rm --help` does without

    costs = zip(removal.images, removal.pull_bytes.tolist(), fetch, strict=True)
    again = {image.id: cost for image, *cost in costs}
    table = order.to_arrow()
    for column, name in enumerate(("pull_bytes", "fetch_bytes")):
        values = [again[image.id][column] for image in order.images]
        table = table.append_column(name, pa.array(values, pa.int64()))
    return table


def free_document(
    order: RemovalOrder, table: Any, in_use: Sequence[ContentImage] | None
) -> dict[str, Any]:
    """Return what `--free` adds to the document of a removal."""
    return {
        "wanted_bytes": order.wanted_bytes,
        "is_enough": order.is_enough,
        "steps": table.to_pylist(),
        "in_use": None if in_use is None else [image.label for image in in_use],
    }


def free_text(
    order: RemovalOrder,
    table: Any,
    in_use: Sequence[ContentImage] | None,
    facts: Sequence[tuple[str, str]],
    screen: Screen,
) -> str:
    """Write what goes, step by step."""
    parts = [_summary(order), render_facts([*facts, _in_use(in_use)], screen)]
    if len(order):
        parts.append(_steps(table.to_pylist(), screen))
    return "\n\n".join(parts)


def _summary(order: RemovalOrder) -> str:
    images = f"{len(order):,} of {count(len(order.contents.images), 'image')}"
    freed, wanted = human_bytes(order.total_bytes), human_bytes(order.wanted_bytes)
    if order.is_enough:
        return f"Nothing is removed. {images} would go, to free {freed}: {wanted} were asked for."
    return f"Nothing is removed. {wanted} are out of reach: {images} could go, and free {freed}."


def _in_use(in_use: Sequence[ContentImage] | None) -> tuple[str, str]:
    if in_use is None:
        return "In use", "not known: this store does not list its containers"
    if not in_use:
        return "In use", "no image, by the containers that the store lists"
    names = ", ".join(printable(image.label) for image in in_use)
    return "In use", f"{count(len(in_use), 'image')} of containers, left out: {names}"


def _steps(steps: Sequence[dict[str, Any]], screen: Screen) -> str:
    figures = {
        "ALONE": "alone_bytes",
        "ADDS": "added_bytes",
        "FREED": "freed_bytes",
        "AGAIN": "pull_bytes",
        "FETCH": "fetch_bytes",
    }
    rows = (
        (
            step["step"],
            printable(step["image"]),
            *(human_bytes(step[name]) for name in figures.values()),
        )
        for step in steps
    )
    columns = (
        Column("STEP", "right"),
        Column("IMAGE", truncate="start"),
        *(Column(title, "right") for title in figures),
    )
    title = screen.paint("Images that go", "bold")
    note = "ADDS is what one frees besides those above it, AGAIN a new pull of it alone"
    return f"{title}; {note}:\n{render_table(columns, rows, screen)}"
