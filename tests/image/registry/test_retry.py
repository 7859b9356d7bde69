"""Protects: interrupted requests are made again, patiently but not for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.image.registry.clock import FakeTime
from vecache.errors import RegistryError
from vecache.image.open import open_image
from vecache.image.registry.http import Deadline, RetryableError, parse_retry_after


def test_waits_double_and_the_attempts_end() -> None:
    time = FakeTime()

    def fail(_: Deadline) -> None:
        raise RetryableError("the server failed")

    with pytest.raises(RegistryError, match="host: the server failed; tried 4 times"):
        time.policy().run(fail, "host")
    assert time.waits == [0.5, 1.0, 2.0]


def test_a_host_that_cannot_be_resolved_is_not_tried_again() -> None:
    time = FakeTime()
    for tls_verify in (True, False):
        with pytest.raises(RegistryError, match=r"nowhere\.invalid.*host name cannot be resolved"):
            open_image("nowhere.invalid/x", retry=time.policy(), tls_verify=tls_verify)
    assert time.waits == []


def test_a_proxy_that_cannot_be_resolved_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    time = FakeTime()
    with pytest.raises(RegistryError, match="the name of the proxy cannot be resolved"):
        open_image("nowhere.invalid/x", retry=time.policy())
    assert time.waits == []


def test_success_ends_the_attempts() -> None:
    time = FakeTime()
    outcomes = iter([RetryableError("a"), RetryableError("b"), None])

    def act(_: Deadline) -> str:
        outcome = next(outcomes)
        if outcome is not None:
            raise outcome
        return "done"

    assert time.policy().run(act, "host") == "done"
    assert time.waits == [0.5, 1.0]


@pytest.mark.parametrize(("asked", "waited"), [(0.0, 0.0), (7.0, 7.0), (3600.0, 60.0)])
def test_retry_after_sets_the_wait_up_to_a_limit(asked: float, waited: float) -> None:
    time = FakeTime()

    def fail(_: Deadline) -> None:
        raise RetryableError("busy", asked)

    with pytest.raises(RegistryError):
        time.policy().run(fail, "host")
    assert time.waits == [waited] * 3


def test_no_wait_goes_past_the_deadline() -> None:
    time = FakeTime()

    def fail(_: Deadline) -> None:
        raise RetryableError("busy", 50.0)

    with pytest.raises(RegistryError, match="tried 2 times"):
        time.policy(total_seconds=80.0).run(fail, "host")
    assert time.waits == [50.0]


def test_a_deadline_that_is_past_is_an_error() -> None:
    time = FakeTime()
    deadline = Deadline(time.now, time.now() + 5)
    deadline.check("host")
    time.sleep(5)
    with pytest.raises(RegistryError, match="took too long"):
        deadline.check("host")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5.0),
        (" 120 ", 120.0),
        ("9" * 400, 21_600.0),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("9" * 5000, None),
        ("soon", None),
        ("", None),
        ("Thu, 01 Jan 1970 00:17:00 GMT", 20.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Thu, 01 Jan 99999 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(
    text: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 1000.0)
    assert parse_retry_after(text) == seconds


@given(st.text())
def test_any_retry_after_is_a_wait_or_nothing(text: str) -> None:
    seconds = parse_retry_after(text)
    assert seconds is None or seconds >= 0
