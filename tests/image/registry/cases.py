"""What the tests of the client share: one image, one login, and simple rules for the server."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from tests.image.registry.server import Registry, Reply, Request
from tests.image.samples import (
    TOC,
    estargz_layer,
    make_image,
    plain_layer,
    zstd_layer,
)
from vecache.image.name import parse_registry_name
from vecache.image.open import find_endpoints, open_image
from vecache.image.registry.access import Access

if TYPE_CHECKING:
    from pathlib import Path

    from tests.image.registry.clock import FakeTime
    from tests.image.registry.server import Rule
    from vecache.image.model import Image
    from vecache.image.registry.client import RegistryImage

LAYERS = [zstd_layer(), estargz_layer(), plain_layer()]
SAMPLE = make_image(LAYERS)
CONFIG = json.loads(SAMPLE.manifest)["config"]["digest"]
SECRET = "hunter2"


def connect(name: str, **access: Any) -> RegistryImage:
    """Return the image at the one endpoint of a name in a registry."""
    (image,) = find_endpoints(parse_registry_name(name), Access.of(tls_verify=False, **access))
    return image


def read_all(registry: Registry, time: FakeTime, **options: Any) -> Image:
    options.setdefault("retry", time.policy())
    image = open_image(registry.reference, tls_verify=False, **options)
    for layer in image.layers:
        if layer.toc_format:
            assert layer.toc.n_bytes == len(TOC)
    return image


def write_login(path: Path, registry: Registry, **entry: str) -> Path:
    packed = base64.b64encode(f"user:{SECRET}".encode()).decode()
    auths = {registry.address: entry or {"auth": packed}}
    path.write_text(json.dumps({"auths": auths}))
    return path


def only(kind: str, reply: Reply) -> Rule:
    """Give this reply to manifests, blobs, ranges of blobs, or everything."""

    def rule(request: Request) -> Reply | None:
        fits = {
            "manifest": request.is_manifest,
            "config": request.path.endswith(CONFIG),
            "range": request.range is not None,
            "all": request.path != "/v2/",
        }
        return reply if fits[kind] else None

    return rule


def require_basic(request: Request) -> Reply | None:
    packed = base64.b64encode(f"user:{SECRET}".encode()).decode()
    if request.headers.get("authorization") == f"Basic {packed}":
        return None
    return Reply(401, {"WWW-Authenticate": 'Basic realm="test"'})
