"""The JSON documents of plans, as `vecache plan --json` prints them.

Scripts read them: keys are never renamed. Ranges are inclusive, as in HTTP. What is not known is
null: the bytes, files and chunks of a layer that is fetched whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecache.plan.files import Action
from vecache.plan.layer_plan import LayerState
from vecache.report.excluded import unread_documents

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vecache.plan.image_plan import ImagePlan
    from vecache.plan.layer_plan import LayerPlan
    from vecache.plan.options import PlanOptions

__all__ = ["options_document", "plan_document", "plan_lines", "plans_document"]

_SCHEMA = "vecache.plan/1"
_SUMS = ("total_bytes", "missing_bytes", "fetch_bytes", "toc_bytes", "requests")
_WHOLE = ("whole_layers", "whole_bytes")
_FILES = {"reused": Action.REUSED, "fetched": Action.FETCHED, "empty": Action.EMPTY}
_CHUNKS = {"reused": Action.REUSED, "fetched": Action.FETCHED, "holes": Action.HOLE}
_BOUNDS = ("missing_bounds", "fetch_bounds")


def plan_document(plan: ImagePlan) -> dict[str, Any]:
    """Describe the plan of one image; `store` is None for layers that came from no store."""
    cache = plan.layers[0].cache if plan.layers else plan.cache_after
    store = cache.store
    return {
        "schema": _SCHEMA,
        "image": plan.image.reference,
        "read_from": plan.image.read_from or None,  # a name in a registry
        "store": None if store is None else str(store.path),
        "options": options_document(plan.options),
        **{name: getattr(plan, name) for name in _SUMS},
        **{name: list(getattr(plan, name)) for name in _BOUNDS},
        **{name: getattr(plan, name) for name in _WHOLE},
        # A layer that an earlier pull has converted was not unreadable: nobody can know its TOC.
        "excluded": unread_documents(
            each for each in cache.excluded if each.record.store_root != Path()
        ),
        "layers": [_layer_document(layer) for layer in plan.layers],
        "best": {
            "missing_bytes": plan.best.missing_bytes,
            "gap": dict(plan.best.excess),
            "unread": [{"layer": each.id, "reason": each.reason} for each in plan.best.unread],
        },
    }


def options_document(options: PlanOptions) -> dict[str, Any]:
    """Describe how a pull is made."""
    return {
        "reflink": options.reflink,
        "hard_links": options.hard_links,
        "layout": str(options.layout),
        "parallel": options.parallel,
    }


def plans_document(
    plans: Sequence[ImagePlan], errors: Sequence[dict[str, str]] = ()
) -> dict[str, Any]:
    """Describe the plans of several images, with the sums of their figures.

    `errors` has image and error of those that are in no sum.
    """
    bounds = {
        name: [sum(getattr(plan, name)[end] for plan in plans) for end in (0, 1)]
        for name in _BOUNDS
    }
    return {
        "schema": _SCHEMA,
        "images": [plan_document(plan) for plan in plans],
        "errors": list(errors),
        **{name: sum(getattr(plan, name) for plan in plans) for name in _SUMS},
        **bounds,
        **{name: sum(getattr(plan, name) for plan in plans) for name in _WHOLE},
    }


def plan_lines(
    plans: Sequence[ImagePlan], errors: Sequence[dict[str, str]] = ()
) -> list[dict[str, Any]]:
    """Return one document for each image, planned or not."""
    return [
        *map(plan_document, plans),
        *({"schema": _SCHEMA, **error} for error in errors),
    ]


def _layer_document(plan: LayerPlan) -> dict[str, Any]:
    layer = plan.layer
    is_known = plan.state is not LayerState.WHOLE
    return {
        "blob": layer.blob,
        "diff_id": layer.diff_id,
        "created_by": plan.created_by or None,
        "toc": None if layer.toc_format is None else str(layer.toc_format),
        "state": str(plan.state),
        "total_bytes": plan.total_bytes,
        "missing_bytes": plan.missing_bytes,
        "fetch_bytes": plan.fetch_bytes,
        "slack_bytes": plan.slack_bytes,
        "toc_bytes": plan.toc_bytes,
        "ranges": plan.ranges.tolist(),
        "requests": plan.requests,
        "files": {
            name: plan.count_files(action) if is_known else None for name, action in _FILES.items()
        },
        "chunks": {
            name: plan.count_chunks(action) if is_known else None
            for name, action in _CHUNKS.items()
        },
        "warnings": list(plan.warnings),
    }
