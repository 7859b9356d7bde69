"""Registry replies: a list of tags, and a login challenge with the answer of its token server.

The first line of an input is the header, the rest is the body.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

from vecache.errors import VecacheError
from vecache.image.registry.access import Credentials
from vecache.image.registry.http import Deadline, RetryableError, RetryPolicy, parse_retry_after
from vecache.image.registry.login import Login
from vecache.image.registry.tags import list_tags

if TYPE_CHECKING:
    from collections.abc import Callable

TAG_LISTS = [
    b'</v2/a/b/tags/list?last=1.2&n=2>; rel="next"\n{"name":"a/b","tags":["1.1","1.2"]}',
    b'\n{"name":"a/b","tags":["latest",null,""]}',
    b'\n{"name":"a/b","tags":null}',
]
CHALLENGES = [
    b'Bearer realm="https://a.example/t",service="b",scope="a"\n{"token":"abc","expires_in":300}',
    b'Basic realm="c", Bearer realm="http://a.example:5000/t?x=1"\n{"access_token":"abc"}',
    b'Basic realm="c"\n{}',
]


class _Reply:
    """A response with a header and a body, for any request."""

    status = 200

    def __init__(self, data: bytes) -> None:
        first, _, self.body = data.partition(b"\n")
        self.line = first.decode("latin-1")

    def header(self, name: str) -> str:
        return self.line.strip() if name == "Link" else ""

    def read(self, n_bytes: int) -> bytes:
        return self.body[:n_bytes]

    def require_usable(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def read_tags(data: bytes) -> None:
    """List tags where each page is the same."""
    reply, policy = _Reply(data), RetryPolicy(n_attempts=1)

    def get(path: str, headers: object, consume: Callable[[Any], Any]) -> Any:
        return policy.run(lambda _: consume(reply), path)

    session: Any = SimpleNamespace(host="a.example", policy=policy, get=get)
    list_tags(session, "a/b")


def read_login(data: bytes) -> None:
    """Answer a challenge, without credentials, with a password and with a token."""
    reply = _Reply(data)
    parse_retry_after(reply.line)
    http: Any = SimpleNamespace(get=lambda *_: reply, request=lambda *_: reply)
    policy = RetryPolicy()
    errors = []
    for found in (None, Credentials("me", "secret"), Credentials("", "", "secret")):
        login = Login(http, lambda found=found: found, "repository:a/b:pull")  # type: ignore[misc]
        deadline = Deadline(policy.now, policy.now() + 60)
        try:
            login.respond("https://a.example/v2/", [reply.line], {}, deadline)
        except (RetryableError, VecacheError) as error:
            errors.append(error)
    assert not any("secret" in str(error) for error in errors)
    if errors:
        raise errors[0]
