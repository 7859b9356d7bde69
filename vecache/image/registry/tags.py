"""List the tags of a repository in a registry.

    GET /v2/NAME/tags/list      {"name": NAME, "tags": [TAG, ...]}

A long list comes in pages. The `Link` header of each names the next one; of its URL only path and
query count, as in Podman, so no other host is ever asked. Registries order tags as they like, and
some list null, or an empty text: what is not a tag is left out, and of equal tags all but one.

A list ends with an error after MAX_TAGS tags or MAX_PAGES pages, where a page is named twice, and
once it takes longer than the time for one request with its retries.

Source: opencontainers/distribution-spec spec.md "Listing Tags"; containers/image
docker/docker_image.go GetRepositoryTags.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from vecache.errors import RegistryError
from vecache.image.name import is_tag
from vecache.image.registry.client import read_document
from vecache.image.registry.http import Deadline
from vecache.json_fields import kind_name, parse_fields

if TYPE_CHECKING:
    from vecache.image.registry.client import RegistrySession
    from vecache.image.registry.http import Response

__all__ = ["MAX_PAGES", "MAX_TAGS", "list_tags"]

MAX_TAGS = 100_000
"""Most tags of one repository, about 100 bytes each."""

MAX_PAGES = 2_000
"""Most pages of one list; registries send 50 to 1,000 tags in each."""

_LINK = re.compile(r"<([^<>]*)>([^<]*)")
_RELATION = re.compile(r';\s*rel\s*=\s*"?([^";,]*)', re.IGNORECASE)
_PATH = re.compile(r"/v2/[!-~]{1,4000}")


def list_tags(session: RegistrySession, repository: str) -> tuple[str, ...]:
    """Return the tags of a repository, in the registry's order."""
    where = f"{session.host}/{repository}: list of tags"
    policy = session.policy
    deadline = Deadline(policy.now, policy.now() + policy.total_seconds)
    tags: dict[str, None] = {}
    path = f"{repository}/tags/list"
    seen: set[str] = set()
    while path:
        seen.add(path)
        deadline.check(where)
        found, path = _read_page(session, path, where)
        tags |= dict.fromkeys(found)
        if len(tags) > MAX_TAGS or len(seen) > MAX_PAGES or path in seen:
            problem = f"found more than {MAX_TAGS:,} tags or {MAX_PAGES:,} pages"
            if path in seen:
                problem = "the registry sends the same page again and again"
            raise RegistryError(f"{where}: {problem}; name the tags instead: TAG,TAG")
    return tuple(tags)


def _read_page(session: RegistrySession, path: str, where: str) -> tuple[list[str], str]:
    """Return the tags of one page, and the path of the next one below `/v2/`; empty if none."""

    def consume(response: Response) -> tuple[bytes, str]:
        return read_document(response, where), response.header("Link")

    data, link = session.get(path, {}, consume)
    listed = parse_fields(data, where, RegistryError).values.get("tags")
    if listed is None:  # of a repository that has none
        listed = []
    if not isinstance(listed, list):
        raise RegistryError(f"{where}: tags: found {kind_name(listed)}, wanted an array")
    tags = [tag for tag in listed if isinstance(tag, str) and is_tag(tag)]
    return tags, _next_path(path, link, where)


def _next_path(path: str, header: str, where: str) -> str:
    """Return the path that a `Link` header names, relative to this one."""
    for url, parameters in _LINK.findall(header):
        relation = _RELATION.search(parameters)
        if relation is not None and relation[1].strip().lower() != "next":
            continue
        try:
            target = urlsplit(urljoin(f"/v2/{path}", url))
        except ValueError:
            break
        found = target.path + (f"?{target.query}" if target.query else "")
        if not _PATH.fullmatch(found):
            break
        return str(found.removeprefix("/v2/"))
    else:
        return ""
    raise RegistryError(f"{where}: the next page is {url[:100]!r}, wanted a path below /v2/")
