"""Connections: TLS with the right certificates, and the proxy that the environment names.

Certificates for one registry are found where Podman looks: `HOST:PORT/*.crt` under a `certs.d`
folder adds to the authorities trusted for it, `*.cert` with `*.key` is what it is shown.

Source: containers/image docker/docker_client.go dockerCertDir, pkg/tlsclientconfig.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vecache.errors import ConfigError, ImageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import urllib3

__all__ = ["Pools", "certificate_folders", "find_proxy"]


@dataclass(frozen=True)
class Pools:
    """The connections of one client, by origin, kept open between requests.

    Attributes
    ----------
    tls_verify : bool
        Whether a server must prove who it is.
    certificates : tuple of Path
        The `certs.d` folders, the one to look into first first.
    environ : mapping of str to str
        Where proxies are named.
    """

    tls_verify: bool
    certificates: tuple[Path, ...]
    environ: Mapping[str, str]
    _managers: dict[str, urllib3.PoolManager] = field(default_factory=dict, repr=False)

    def manager(self, url: str) -> urllib3.PoolManager:
        """Give the connections to a URL's host.

        Parameters
        ----------
        url : str
            With scheme and host.

        Returns
        -------
        urllib3.PoolManager
            Made when first asked for.

        Raises
        ------
        ImageError
            If urllib3 is not installed.
        ConfigError
            If a certificate cannot be read.
        """
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self._managers:
            self._managers[origin] = self._connect(url, parts.netloc)
        return self._managers[origin]

    def _connect(self, url: str, host: str) -> urllib3.PoolManager:
        try:
            import urllib3  # noqa: PLC0415 - an extra, and slow to import
        except ImportError:
            raise ImageError(
                "reading from a registry needs urllib3: pip install 'vecache[registry]'"
            ) from None

        context = _tls_context(self.certificates, host, tls_verify=self.tls_verify)
        proxy = find_proxy(url, self.environ)
        if proxy is None:
            return urllib3.PoolManager(ssl_context=context)
        user = urlsplit(proxy)
        headers = None
        if user.username:
            login = f"{user.username}:{user.password or ''}"
            headers = urllib3.util.make_headers(proxy_basic_auth=login)
        return urllib3.ProxyManager(proxy, ssl_context=context, proxy_headers=headers)


def certificate_folders(home: Path) -> tuple[Path, ...]:
    """List the `certs.d` folders of a user, in Podman's order."""
    return (
        home / ".config/containers/certs.d",
        Path("/etc/containers/certs.d"),
        Path("/etc/docker/certs.d"),
    )


def find_proxy(url: str, environ: Mapping[str, str]) -> str | None:
    """Find the proxy for a URL as Go programs do.

    Parameters
    ----------
    url : str
        Where to connect to.
    environ : mapping of str to str
        `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, in capitals or small.

    Returns
    -------
    str or None
        The proxy's URL; None to connect directly, as to this machine always.

    Examples
    --------
    >>> find_proxy("https://quay.io/v2/", {"https_proxy": "proxy:3128", "NO_PROXY": ".lan"})
    'http://proxy:3128'
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    name = f"{parts.scheme}_proxy"
    proxy = environ.get(name.upper()) or environ.get(name)
    if not proxy or _is_loopback(host):
        return None
    for rule in (environ.get("NO_PROXY") or environ.get("no_proxy") or "").split(","):
        domain = rule.strip().lower().lstrip("*").lstrip(".")
        if rule.strip() == "*" or (domain and (host == domain or host.endswith(f".{domain}"))):
            return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tls_context(folders: tuple[Path, ...], host: str, *, tls_verify: bool) -> ssl.SSLContext:
    if tls_verify:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    folder = next((each / host for each in folders if (each / host).is_dir()), None)
    if folder is None:
        return context
    try:
        for authority in sorted(folder.glob("*.crt")):
            context.load_verify_locations(cafile=authority)
        for own in sorted(folder.glob("*.cert")):
            context.load_cert_chain(own, own.with_suffix(".key"))
    except OSError as error:  # ssl.SSLError too
        raise ConfigError(f"{folder}: a certificate cannot be read: {error}") from error
    return context
