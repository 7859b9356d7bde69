"""Protects: options for registries are the same in all verbs that open images."""

from __future__ import annotations

import getpass
import io
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.golden import GOLDEN_SMALL
from tests.image.registry.cases import SAMPLE, SECRET, only, require_basic
from tests.image.registry.server import Registry, Reply, serve
from tests.report.test_terminal import Terminal
from vecache.cli.main import main
from vecache.image.registry.http import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator

STORE = str(GOLDEN_SMALL / "stores" / "dir")
VERBS = ("plan", "gather", "history")


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serve(Registry(SAMPLE)) as running:
        yield running


def words_for(verb: str, reference: str, *more: str) -> list[str]:
    """A command line of a verb; `history` needs two images, and has no store."""
    if verb == "history":
        return [verb, reference, f"oci:{GOLDEN_SMALL}/oci:app1", *more]
    return [verb, reference, "--store", STORE, *more]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("option", ["--tls-verify=false", "--tls-verify=no", "--tls-verify false"])
def test_plain_http_is_allowed_in_both_forms(verb: str, option: str, registry: Registry) -> None:
    assert main(words_for(verb, registry.reference, *option.split())) == 0


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("option", ["--tls-verify", "--tls-verify=true", "--retry-times=0"])
def test_plain_http_is_refused_by_default(
    verb: str, option: str, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words_for(verb, registry.reference, option)) == 3
    assert "TLS failed" in capsys.readouterr().err


def test_an_image_after_a_bare_option_is_not_its_value(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--tls-verify", registry.reference, "--store", STORE]) == 3
    assert "TLS failed" in capsys.readouterr().err
    assert main(["plan", "--tls-verify", "false", registry.reference, "--store", STORE]) == 0


@pytest.mark.parametrize("verb", VERBS)
def test_a_login_is_taken_and_never_shown(
    verb: str, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.rules = [require_basic]
    words = words_for(verb, registry.reference, "--tls-verify=false", "--creds")
    assert main([*words, f"user:{SECRET}"]) == 0
    assert main([*words, "user:mis:typed"]) == 3
    shown = capsys.readouterr()
    assert "the login of user 'user' from credentials (--creds) is wrong" in shown.err
    assert "typed" not in shown.err + shown.out


def test_a_password_is_asked_on_a_terminal(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.rules = [require_basic]
    words = words_for("plan", registry.reference, "--tls-verify=false", "--creds", "user")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(words) == 2
    assert "found no password, and no terminal to ask" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", Terminal())
    prompts: list[str] = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return SECRET

    monkeypatch.setattr(getpass, "getpass", ask)
    assert main(words) == 0
    assert prompts == ["Password for user: "]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.io/x", "b.io/x", "--creds", "u:p"], "--creds is for one registry; found a.io, b.io"),
        (["a.io/x", "debian", "--creds", "u:p"], "found a.io, debian:latest; use --authfile"),
        (["a.io/x", "--creds", ":p"], "--creds: found no user"),
        (["a.io/x", "--retry-times", "-1"], "wanted a whole number"),
        (["a.io/x", "--tls-verify=maybe"], "found 'maybe', wanted true or false"),
        (["debian"], "no transport and no host, and no registry for it in "),
    ],
)
def test_wrong_usage(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *words, "--store", STORE]) == 2
    assert message in capsys.readouterr().err


def test_retries_are_counted_as_the_option_says(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waits: list[float] = []
    policy = partial(RetryPolicy, sleep=waits.append)
    monkeypatch.setattr("vecache.image.registry.http.RetryPolicy", policy)
    registry.rules = [only("manifest", Reply(503))]
    for n_retries in (0, 2):
        words = words_for("plan", registry.reference, "--tls-verify=false")
        registry.requests.clear()
        assert main([*words, "--retry-times", str(n_retries)]) == 3
        assert len(registry.paths()) == n_retries + 1
        assert "the server failed, status 503" in capsys.readouterr().err
    assert waits == [0.5, 1.0]


@pytest.mark.parametrize("verb", ["plan", "gather"])
def test_options_that_do_nothing_are_said_to(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"authfile": "x", "creds": "u:p", "cert-dir": "x", "retry-times": "1"}
    words = [f"--{name}={value}" for name, value in options.items()]
    assert main(words_for(verb, f"oci:{GOLDEN_SMALL}/oci:app1", *words)) == 0
    err = capsys.readouterr().err
    assert all(f"--{name} does nothing here" in err for name in options)
    assert "--tls-verify" not in err
