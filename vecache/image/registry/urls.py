"""What URLs mean and how they are shown: origin, proxy, and a form without secrets."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address
from urllib.request import getproxies, proxy_bypass

import urllib3

from vecache.errors import ConfigError

__all__ = ["find_proxy", "parse_origin", "show_url"]


def find_proxy(url: str) -> str | None:
    """Return the proxy that the environment names for an http or https URL, if any."""
    scheme, host, port = parse_origin(url) or ("", "", 0)
    proxies = getproxies()
    proxy = proxies.get(scheme)
    if not proxy or proxy_bypass(f"{host}:{port}"):
        return None
    # Two rules of Go's net/http, and so of Podman: `*.quay.io` in NO_PROXY, none for loopback.
    rules = (rule.strip() for rule in proxies.get("no", "").split(","))
    if any(rule.startswith("*.") and host.endswith(rule[1:]) for rule in rules):
        return None
    with suppress(ValueError):
        host = "localhost" if ip_address(host.strip("[]")).is_loopback else host
    if host == "localhost":
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if parse_origin(proxy) is None:
        raise ConfigError(f"{show_url(proxy)}: not the URL of an http or https proxy")
    return proxy


def parse_origin(url: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port of an http or https URL; None for anything else."""
    # The parser of the library that connects: urllib.parse finds another host in
    # `https://evil\@registry/`, and secrets for the one would go to the other.
    try:
        scheme, _, host, port, *_ = urllib3.util.parse_url(url)
    except urllib3.exceptions.LocationParseError:
        return None
    default = {"http": 80, "https": 443}.get(scheme or "")
    return (scheme, host, port or default) if scheme and host and default else None


def show_url(url: str) -> str:
    """Return a URL for messages: without user, query and fragment, where secrets may be."""
    try:
        parts = urllib3.util.parse_url(url)
    except urllib3.exceptions.LocationParseError:
        return "a malformed URL"
    return ascii(parts._replace(auth=None, query=None, fragment=None).url)[1:-1][:300]
