"""Protects: credentials are found where Podman and Docker keep them, and are never shown."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from vecache.errors import ConfigError
from vecache.image.name import parse_registry_name
from vecache.image.registry.access import Credentials
from vecache.image.registry.auth import (
    AuthFile,
    find_auth_files,
    find_credentials,
    run_helper,
)
from vecache.image.registry.login import parse_challenges

NAME = parse_registry_name("quay.io/team/app:1")


def entry(user: str = "user", password: str = "pass") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def look(tmp_path: Path, document: Any, image: str = "quay.io/team/app:1", **more: bool) -> Any:
    path = tmp_path / "auth.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return find_credentials([AuthFile(path, **more)], parse_registry_name(image))


def test_files_are_searched_in_the_order_of_podman_then_docker() -> None:
    environ = {"HOME": "/home/u", "XDG_RUNTIME_DIR": "/run/user/7"}
    assert [str(file.path) for file in find_auth_files(environ)] == [
        "/run/user/7/containers/auth.json",
        "/home/u/.config/containers/auth.json",
        "/home/u/.docker/config.json",
        "/home/u/.dockercfg",
    ]
    environ |= {"XDG_CONFIG_HOME": "/c", "DOCKER_CONFIG": "/d"}
    assert [str(file.path) for file in find_auth_files(environ)][1:3] == [
        "/c/containers/auth.json",
        "/d/config.json",
    ]
    del environ["XDG_RUNTIME_DIR"]
    assert str(find_auth_files(environ)[0].path).startswith("/run/containers/")
    environ["REGISTRY_AUTH_FILE"] = "/only"
    assert find_auth_files(environ) == [AuthFile(Path("/only"), is_required=True)]
    assert find_auth_files(environ, Path("/mine")) == [AuthFile(Path("/mine"), is_required=True)]


@pytest.mark.parametrize(
    ("keys", "user"),
    [
        (["quay.io", "quay.io/team", "quay.io/team/app"], "quay.io/team/app"),
        (["quay.io", "quay.io/team", "quay.io/team/other"], "quay.io/team"),
        (["quay.io", "quay.io/tea"], "quay.io"),
        (["https://quay.io/v1/"], "https://quay.io/v1/"),
        (["http://quay.io", "quay.io.evil"], "http://quay.io"),
        (["https://quay.io/v1/", "quay.io"], "quay.io"),
        (["quay.io:443", "io", "quay"], None),
        ([], None),
    ],
)
def test_the_most_specific_key_wins(keys: list[str], user: str | None, tmp_path: Path) -> None:
    found = look(tmp_path, {"auths": {key: entry(key.replace(":", ";")) for key in keys}})
    assert (found.username if found else None) == (user.replace(":", ";") if user else None)


@pytest.mark.parametrize(
    "key",
    [
        "docker.io",
        "https://index.docker.io/v1/",
        "index.docker.io",
        "registry-1.docker.io",
        "docker.io/library",
        "docker.io/library/debian",
    ],
)
def test_docker_hub_has_many_names(key: str, tmp_path: Path) -> None:
    assert look(tmp_path, {"auths": {key: entry()}}, "debian") == Credentials("user", "pass")


@pytest.mark.parametrize(
    ("document", "wanted"),
    [
        ({}, None),
        ({"auths": None}, None),
        ({"auths": {"quay.io": {}}}, None),
        ({"auths": {"quay.io": None}}, None),
        ({"auths": {"quay.io": {"auth": ""}}}, None),
        ({"auths": {"quay.io": entry("u", "a:b\0")}}, Credentials("u", "a:b")),
        ({"auths": {"quay.io": {"auth": base64.b64encode(b"no colon").decode()}}}, None),
        (
            {"auths": {"quay.io": {**entry("u", ""), "identitytoken": "tok"}}},
            Credentials("u", "", "tok"),
        ),
        ({"auths": {"quay.io": {"identitytoken": "tok"}}}, Credentials("", "", "tok")),
        ("", None),
        ("  \n", None),
    ],
)
def test_entries_are_decoded(document: Any, wanted: Credentials | None, tmp_path: Path) -> None:
    assert look(tmp_path, document) == wanted


def test_the_old_docker_file_has_its_entries_at_the_top(tmp_path: Path) -> None:
    assert look(tmp_path, {"quay.io": entry()}, is_dockercfg=True) == Credentials("user", "pass")
    assert look(tmp_path, {"https://quay.io/v1/": entry()}, is_dockercfg=True) is not None


def test_a_later_file_is_read_where_an_earlier_has_nothing(tmp_path: Path) -> None:
    (tmp_path / "one").write_text(json.dumps({"auths": {"other.io": entry()}}))
    (tmp_path / "two").write_text(json.dumps({"auths": {"quay.io": entry("second")}}))
    files = [AuthFile(tmp_path / name) for name in ("none", "one", "two")]
    found = find_credentials(files, NAME)
    assert found is not None
    assert found.username == "second"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "not JSON"),
        ("[]", "found an array, wanted an object"),
        ({"auths": []}, "auths: found an array, wanted an object"),
        (
            {"auths": {"quay.io": "c2VjcmV0OnNlY3JldA=="}},
            "quay.io: found a string, wanted an object",
        ),
        ({"auths": {"quay.io": {"auth": 5}}}, "auth: found an integer"),
        ({"auths": {"quay.io": {"auth": "secret!"}}}, "auth is not base64"),
        ({"auths": {"quay.io": {"auth": "/////w=="}}}, "auth is not base64"),
        ({"credHelpers": {"quay.io": "../../bin/sh"}}, "not the name of a credential helper"),
        ({"credHelpers": {"quay.io": "surely-missing"}}, "not in PATH"),
        ({"credsStore": "surely-missing"}, "docker-credential-surely-missing"),
    ],
)
def test_a_broken_auth_file_is_an_error_without_secrets(
    document: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        look(tmp_path, document)
    assert "secret" not in str(caught.value)
    assert "c2Vj" not in str(caught.value)


def test_a_named_auth_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such auth file"):
        find_credentials([AuthFile(tmp_path / "none", is_required=True)], NAME)
    with pytest.raises(ConfigError, match="Is a directory"):
        find_credentials([AuthFile(tmp_path)], NAME)


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in PATH, with a helper that runs whatever a test writes into it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder / "docker-credential-test"


def write_helper(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


ECHO = """read -r server; printf '{"Username":"%s","Secret":"s"}' "$server" """


def test_helpers_receive_the_name_of_the_registry(helper: Path, tmp_path: Path) -> None:
    write_helper(helper, ECHO)
    auths = {"quay.io": entry("from-file")}
    own = look(tmp_path, {"credHelpers": {"quay.io": "test"}, "auths": auths})
    assert own == Credentials("quay.io", "s")
    # The store of all comes last: Docker leaves an empty entry where it keeps the secret there.
    document = {"credsStore": "test", "auths": auths}
    assert look(tmp_path, document).username == "from-file"
    document["auths"] = {"quay.io": {}}
    assert look(tmp_path, document).username == "quay.io"
    assert look(tmp_path, document, "debian").username == "https://index.docker.io/v1/"


@pytest.mark.parametrize(
    ("helpers", "user"),
    [
        ((), "from-file"),
        (("containers-auth.json", "test"), "from-file"),
        (("test", "containers-auth.json"), "quay.io"),
        (("test",), "quay.io"),
        (("none", "containers-auth.json"), "from-file"),
        (("none",), None),
    ],
)
def test_helpers_of_registries_conf_are_asked_in_their_order(
    helpers: tuple[str, ...], user: str | None, helper: Path, tmp_path: Path
) -> None:
    write_helper(helper, ECHO)
    none = "echo credentials not found in native keychain; exit 1"
    write_helper(helper.with_name("docker-credential-none"), none)
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"auths": {"quay.io": entry("from-file")}}))
    found = find_credentials([AuthFile(path)], NAME, helpers)
    assert (found.username if found else None) == user
    if found is not None:
        source = path if user == "from-file" else "credential helper test"
        assert found.source == str(source)


@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        ("echo 'credentials not found in native keychain'; exit 1", None),
        ("""echo '{"Username":"","Secret":""}'""", None),
        ("""echo '{"Username":"<token>","Secret":"tok"}'""", Credentials("", "", "tok")),
        ("""cat >/dev/null; echo '{"Username":"u","Secret":"s"}'""", Credentials("u", "s")),
    ],
)
def test_a_helper_answers(helper: Path, script: str, wanted: Credentials | None) -> None:
    write_helper(helper, script)
    assert run_helper("test", "quay.io") == wanted


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo secret; echo secret >&2; exit 3", "failed with status 3 for quay.io"),
        ("echo secret", "not JSON"),
        ("""echo '{"Username": 5}'""", "Username: found an integer"),
        ("sleep 5", "no answer in 0.2 seconds"),
    ],
)
def test_a_helper_that_fails_is_an_error_without_secrets(
    helper: Path, script: str, message: str
) -> None:
    write_helper(helper, f"exec 2>/dev/null\n{script.replace('sleep', 'exec sleep')}")
    with pytest.raises(ConfigError, match=message) as caught:
        run_helper("test", "quay.io", timeout=0.2 if "sleep" in script else 10)
    assert "secret" not in str(caught.value)


def test_a_helper_that_cannot_be_run_is_an_error(helper: Path) -> None:
    helper.write_text("not executable")
    with pytest.raises(ConfigError, match=r"cannot be run|not in PATH"):
        run_helper("test", "quay.io")


def test_secrets_do_not_show() -> None:
    assert "hidden" not in repr(Credentials("user", "hidden", "hidden"))


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ([], []),
        ([""], []),
        (["Basic"], [("basic", {})]),
        (['BASIC Realm="a b"'], [("basic", {"realm": "a b"})]),
        (
            ['Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push"'],
            [
                (
                    "bearer",
                    {"realm": "https://a/t", "service": "s", "scope": "repository:a/b:pull,push"},
                )
            ],
        ),
        (['Bearer realm = "a\\"b\\\\c" , x=y'], [("bearer", {"realm": 'a"b\\c', "x": "y"})]),
        (
            ['Bearer realm="a", Basic realm="b"'],
            [("bearer", {"realm": "a"}), ("basic", {"realm": "b"})],
        ),
        (['Bearer realm="a"', "Basic"], [("bearer", {"realm": "a"}), ("basic", {})]),
        (['Bearer realm="a",realm="b"'], [("bearer", {"realm": "a"})]),
        (['realm="a"'], []),
        (['Bearer realm="a'], [("bearer", {})]),
        (["Negotiate", 'Basic realm="x"'], [("negotiate", {}), ("basic", {"realm": "x"})]),
    ],
)
def test_challenges_are_parsed(
    headers: list[str], wanted: list[tuple[str, dict[str, str]]]
) -> None:
    assert list(parse_challenges(headers).items()) == wanted
