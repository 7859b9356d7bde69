"""Protects: images are named as Skopeo names them, and anything else is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden import GOLDEN_SMALL
from vecache.digest import is_digest
from vecache.errors import ImageNameError
from vecache.image.name import (
    ImageName,
    PathName,
    RegistryName,
    ShortName,
    StoreName,
    Transport,
    parse_image_name,
    parse_registry_name,
)
from vecache.image.open import open_image

DIGEST = "sha256:" + "ab" * 32
SMALL = GOLDEN_SMALL.resolve()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("oci:images:app", PathName(Transport.OCI, Path("images"), "app")),
        ("oci-archive:/tmp/x.tar", PathName(Transport.OCI_ARCHIVE, Path("/tmp/x.tar"))),
        ("dir:/srv/a:b", PathName(Transport.DIR, Path("/srv/a:b"))),
        ("docker://quay.io/a/b:1", RegistryName("quay.io", "a/b", "1")),
        ("quay.io/a/b:1", RegistryName("quay.io", "a/b", "1")),
        ("docker.io/debian", RegistryName("docker.io", "library/debian", "latest")),
        ("localhost/a", RegistryName("localhost", "a", "latest")),
        ("mirror:5000/a:1", RegistryName("mirror:5000", "a", "1")),
        (f"[::1]:5000/a@{DIGEST}", RegistryName("[::1]:5000", "a", DIGEST)),
        ("debian", ShortName("debian", "latest")),
        ("library/debian:12", ShortName("library/debian", "12")),
        ("localhost:5000", ShortName("localhost", "5000")),
        (f"debian@{DIGEST}", ShortName("debian", DIGEST)),
        ("containers-storage:[overlay@/x]app", StoreName(Path("/x"), "app")),
        ("dir:5000/a", PathName(Transport.DIR, Path("5000/a"))),  # as Skopeo takes it
    ],
)
def test_each_transport_has_its_own_kind_of_name(text: str, name: ImageName) -> None:
    assert parse_image_name(text) == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no transport; wanted one of oci:DIR"),
        ("./a", "no transport; wanted one of oci:DIR"),
        ("../a/b:1", "no transport; wanted one of oci:DIR"),
        ("/missing.d/a", "no transport; wanted one of oci:DIR"),
        ("quay.io/A", "not a repository"),
        ("docker-daemon:app", "cannot be pulled in part; .*skopeo copy .*docker-daemon:app oci:"),
        ("docker-archive:a.tar", "docker-archive has whole layers without a table of contents"),
        ("ostree:x", r"unsupported transport 'ostree'; wanted.* oci:DIR.*containers-storage:NAME"),
        ("https://quay.io/a", "unknown transport 'https'"),
        ("oci-archve:images/a.tar", "unknown transport 'oci-archve'"),
        ("debian:12:a", "not a tag"),
        ("a b", "not a repository"),
        ("Debian", "not a repository"),
        ("ab" * 32, "image's ID"),
        ("docker:quay.io/a", "two slashes"),
        ("docker://", "no name after docker:"),
        ("oci:", "no name after oci:"),
        ("dir:a\0b", "no name after dir:"),
    ],
)
def test_a_malformed_name_is_refused_with_advice(text: str, message: str) -> None:
    with pytest.raises(ImageNameError, match=message) as caught:
        parse_image_name(text)
    assert caught.value.exit_code == 2  # wrong usage


def test_a_tag_follows_the_first_colon_that_leaves_an_existing_path(tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()
    (tmp_path / "c").mkdir()
    for text, path, tag in [
        (f"{tmp_path}/c:reg.io/x:1", tmp_path / "c", "reg.io/x:1"),
        (f"{tmp_path}/a:b:tag", tmp_path / "a:b", "tag"),
        (f"{tmp_path}/a:b", tmp_path / "a:b", ""),
        ("missing:a:b", Path("missing"), "a:b"),
        ("missing", Path("missing"), ""),
    ]:
        assert parse_image_name(f"oci:{text}") == PathName(Transport.OCI, path, tag)


@pytest.mark.parametrize(
    ("text", "full", "host"),
    [
        ("debian", "docker.io/library/debian:latest", "registry-1.docker.io"),
        ("a/b:1.0", "docker.io/a/b:1.0", "registry-1.docker.io"),
        ("index.docker.io/x", "docker.io/library/x:latest", "registry-1.docker.io"),
        ("docker.io/x", "docker.io/library/x:latest", "registry-1.docker.io"),
        ("localhost/x", "localhost/x:latest", "localhost"),
        ("localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000"),
        ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000"),
        ("Upper/x", "Upper/x:latest", "Upper"),
        (f"quay.io/a/b/c@{DIGEST}", f"quay.io/a/b/c@{DIGEST}", "quay.io"),
    ],
)
def test_registry_names_are_completed(text: str, full: str, host: str) -> None:
    name = parse_registry_name(text)
    assert (str(name), name.host) == (full, host)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("quay.io/A/b", "not a repository"),
        ("quay.io/a//b", "not a repository"),
        ("quay.io/a..b", "not a repository"),
        ("quay.io/../../etc", "not a repository"),
        ("quay.io/a b", "not a repository"),
        ("quay.io/a:b/c", "not a repository"),
        ("quay.io/" + "a" * 250, "not a repository"),
        ("quay.io/a:", "not a tag"),
        ("quay.io/a:" + "t" * 129, "not a tag"),
        ("quay.io/a:.x", "not a tag"),
        ("quay.io/a:x\n", "not a tag"),
        ("quay.io/a@sha256:12", "not a digest"),
        (f"quay.io/a:1@{DIGEST}", "both a tag and a digest"),
        ("us er@host.io/a", "not a digest"),
        ("host.io:port/a", "not a host"),
        ("-a.io/a", "not a host"),
        ("ab" * 32, "image's ID"),
    ],
)
def test_a_malformed_registry_name_is_refused(text: str, message: str) -> None:
    with pytest.raises(ImageNameError, match=message):
        parse_registry_name(text)


@given(st.text(alphabet="ab.:/@-_[]LS0\n é", max_size=30))
def test_any_text_is_a_complete_name_or_an_error(text: str) -> None:
    try:
        name = parse_registry_name(text)
    except ImageNameError:
        return
    assert parse_registry_name(str(name)) == name
    assert is_digest(name.version) == name.is_pinned


@pytest.mark.parametrize(
    ("text", "root", "name"),
    [
        ("app:1", None, "app:1"),
        ("[overlay@/srv/a b]app", "/srv/a b", "app"),
        ("[/srv/s]app", "/srv/s", "app"),
        ("[overlay@/s+/run/s:a=b,c=d]localhost:5000/app", "/s", "localhost:5000/app"),
        ("@" + "ab" * 32, None, "ab" * 32),
        ("[overlay@/s]app@" + "ab" * 32, "/s", "ab" * 32),
        (f"app@{DIGEST}", None, f"app@{DIGEST}"),
    ],
)
def test_store_names_may_say_which_store(text: str, root: str | None, name: str) -> None:
    parsed = parse_image_name(f"containers-storage:{text}")
    assert parsed == StoreName(Path(root) if root else None, name)


@pytest.mark.parametrize("text", ["[overlay@/s]", "[overlay@/s", "[overlay@rel]x", "[]x", "@"])
def test_a_malformed_store_name_is_refused(text: str) -> None:
    with pytest.raises(ImageNameError):
        parse_image_name(f"containers-storage:{text}")


@pytest.mark.parametrize(
    ("path", "suggestion"),
    [
        (SMALL / "oci", f"oci:{SMALL}/oci"),
        (SMALL / "stores" / "dir", f"containers-storage:[overlay@{SMALL}/stores/dir]NAME"),
        (SMALL / "pulls.jsonl", f"oci-archive:{SMALL}/pulls.jsonl"),
    ],
)
def test_for_a_path_the_error_says_how_to_name_the_image(path: Path, suggestion: str) -> None:
    for given_path in (path, str(path)):
        with pytest.raises(ImageNameError, match="a path without a transport; for") as e:
            open_image(given_path)  # type: ignore[arg-type]
        assert suggestion in str(e.value)


def test_a_folder_without_an_image_is_no_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "debian").mkdir()
    monkeypatch.chdir(tmp_path)
    assert parse_image_name("debian") == ShortName("debian", "latest")


def test_for_a_dir_folder_too(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").touch()
    with pytest.raises(ImageNameError, match=f"for the image in this folder, dir:{tmp_path}"):
        parse_image_name(str(tmp_path))


def test_only_text_names_an_image() -> None:
    with pytest.raises(TypeError, match="reference: found int, wanted text such as 'oci:DIR:TAG'"):
        open_image(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="tls_verify: found 'false', wanted True or False"):
        open_image(f"oci:{SMALL}/oci:app2", tls_verify="false")  # type: ignore[arg-type]
