"""The JSON documents of plans, as `vecache plan --json` prints them.

Scripts read them: keys are never renamed. Ranges are inclusive, as in HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vecache.plan.files import Action
from vecache.report.excluded import unread_documents

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vecache.plan.image_plan import ImagePlan
    from vecache.plan.layer_plan import LayerPlan

__all__ = ["plan_document", "plans_document"]

_SUMS = ("total_bytes", "missing_bytes", "fetch_bytes", "toc_bytes", "requests")


def plan_document(plan: ImagePlan) -> dict[str, Any]:
    """Describe the plan of one image; `store` is None for layers that came from no store."""
    cache = plan.layers[0].cache if plan.layers else plan.cache_after
    store = cache.store
    return {
        "schema": "vecache.plan/1",
        "image": plan.image.reference,
        "store": None if store is None else str(store.path),
        "options": {
            "reflink": plan.options.reflink,
            "hard_links": plan.options.hard_links,
            "layout": str(plan.options.layout),
            "parallel": plan.options.parallel,
        },
        **{name: getattr(plan, name) for name in _SUMS},
        "missing_bounds": list(plan.missing_bounds),
        "fetch_bounds": list(plan.fetch_bounds),
        "whole_layers": plan.whole_layers,
        "whole_bytes": plan.whole_bytes,
        "excluded": unread_documents(cache.excluded),
        "layers": [_layer_document(layer) for layer in plan.layers],
        "best": {
            "missing_bytes": plan.best.missing_bytes,
            "gap": dict(plan.best.excess),
            "unread": [{"layer": each.id, "reason": each.reason} for each in plan.best.unread],
        },
    }


def plans_document(plans: Sequence[ImagePlan]) -> dict[str, Any]:
    """Describe the plans of several images, with the sums of the five figures."""
    sums = {name: sum(getattr(plan, name) for plan in plans) for name in _SUMS}
    return {"images": [plan_document(plan) for plan in plans], **sums}


def _layer_document(plan: LayerPlan) -> dict[str, Any]:
    layer = plan.layer
    return {
        "blob": layer.blob,
        "diff_id": layer.diff_id,
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
            "reused": plan.count_files(Action.REUSED),
            "fetched": plan.count_files(Action.FETCHED),
            "empty": plan.count_files(Action.EMPTY),
        },
        "chunks": {
            "reused": plan.count_chunks(Action.REUSED),
            "fetched": plan.count_chunks(Action.FETCHED),
            "holes": plan.count_chunks(Action.HOLE),
        },
    }
