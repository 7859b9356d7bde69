"""Connections to registries, each watched: shut down when the time of its request is over.

A timeout of a socket begins anew with each packet, so a server that sends a byte of a header now
and then, or `100 Continue` for ever, would never be timed out. A `Watch` does not depend on what is
received: a timer shuts the connection down, and whatever reads from it sees its end.

Only the resolution of host names is not watched; the system's resolver has limits of its own.
"""

from __future__ import annotations

import os
import socket
import ssl
from base64 import b64encode
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from threading import Lock, Timer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from vecache.errors import ConfigError, RegistryError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Watch", "open_manager", "watching"]

_MAX_CONNECTIONS = 8  # to one host; urllib3 logs a warning for each connection beyond


class Watch:
    """A timer for one request that shuts its connection down; close it when the request is over."""

    def __init__(self, seconds: float) -> None:
        self.is_over = False
        self._socket: socket.socket | None = None
        self._lock = Lock()
        self._timer = self._start(seconds)

    def add(self, descriptor: int) -> None:
        """Watch a connection in place of the one before."""
        # A descriptor of its own: TLS takes a socket over, and urllib3 closes it while it is read.
        duplicate = socket.socket(fileno=os.dup(descriptor))
        with self._lock:
            previous, self._socket = self._socket, duplicate
            if self.is_over:
                _shut_down(duplicate)
        if previous is not None:
            previous.close()

    def restart(self, seconds: float) -> None:
        """Start the time anew."""
        self._timer.cancel()
        self._timer = self._start(seconds)

    def close(self) -> None:
        """Stop watching; the connection can be used again."""
        self._timer.cancel()
        with self._lock:
            previous, self._socket = self._socket, None
        if previous is not None:
            previous.close()

    def _start(self, seconds: float) -> Timer:
        timer = Timer(max(0.0, seconds), self._end)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:
            raise RegistryError("the system has no more threads, wanted one a request") from None
        return timer

    def _end(self) -> None:
        with self._lock:
            self.is_over = True
            if self._socket is not None:
                _shut_down(self._socket)


def _shut_down(connection: socket.socket) -> None:
    with suppress(OSError):  # the peer has ended it already
        connection.shutdown(socket.SHUT_RDWR)


_WATCH: ContextVar[Watch] = ContextVar("watch")  # urllib3 opens connections deep inside a request


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Let `watch` shut down the connection that is used in a `with`."""
    token = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(token)


class _Connection(HTTPConnection):
    """A connection that is watched while it is opened and while it is used."""

    def _new_conn(self) -> socket.socket:
        """Connect to the first address that answers, as urllib3's own method does."""
        # That one gives each address the whole timeout, and a name may have thousands.
        watch = _WATCH.get()
        failure = OSError("the name has no address")
        for family, kind, protocol, _, address in self._find_addresses():
            try:
                return self._connect(watch, socket.socket(family, kind, protocol), address)
            except OSError as error:
                failure = error
            if watch.is_over:
                break
        if isinstance(failure, TimeoutError) or watch.is_over:
            raise urllib3.exceptions.ConnectTimeoutError(self, "timed out") from failure
        raise urllib3.exceptions.NewConnectionError(self, str(failure)) from failure

    def _find_addresses(self) -> list[tuple[Any, ...]]:
        family = socket.AF_UNSPEC if urllib3.util.connection.HAS_IPV6 else socket.AF_INET
        name = self._dns_host.strip("[]")
        try:
            return list(socket.getaddrinfo(name, self.port, family, socket.SOCK_STREAM))
        except socket.gaierror as error:
            raise urllib3.exceptions.NameResolutionError(self.host, self, error) from error

    def _connect(self, watch: Watch, connection: socket.socket, address: Any) -> socket.socket:
        try:
            for option in self.socket_options or ():
                connection.setsockopt(*option)
            connection.settimeout(self.timeout)
            watch.add(connection.fileno())
            connection.connect(address)
        except BaseException:
            connection.close()
            raise
        return connection

    def request(self, *args: Any, **options: Any) -> None:
        """Send a request, on an open connection too."""
        if self.sock is not None:  # of a request before, or just opened and watched already
            _WATCH.get().add(self.sock.fileno())
        super().request(*args, **options)


class _TlsConnection(_Connection, HTTPSConnection):
    """The same with TLS."""


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _UnverifiedPool(_TlsPool):
    """Connections without a warning for each: the caller turned verification off."""

    # `warnings.catch_warnings` around a request would not do: it is not safe with threads.
    def _validate_conn(self, conn: Any) -> None:
        if conn.is_closed:
            conn.connect()


def open_manager(
    folder: str | None, proxy: str | None, *, with_client: bool, tls_verify: bool
) -> urllib3.PoolManager:
    """Open connections with the authorities in a folder, the client's own certificate, a proxy."""
    if tls_verify:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        for path in sorted(Path(folder).iterdir()) if folder else ():
            if path.suffix == ".crt":  # a further authority
                context.load_verify_locations(path)
            elif path.suffix == ".cert" and with_client:  # the client's
                context.load_cert_chain(path, path.with_suffix(".key"))
    except OSError as error:  # ssl.SSLError too
        raise ConfigError(f"{folder}: a certificate cannot be read: {error}") from error
    manager = urllib3.PoolManager(ssl_context=context, maxsize=_MAX_CONNECTIONS)
    if proxy is not None:
        login = unquote(urllib3.util.parse_url(proxy).auth or "").encode()
        headers = {"Proxy-Authorization": f"Basic {b64encode(login).decode()}"} if login else None
        manager = urllib3.ProxyManager(
            proxy, proxy_headers=headers, ssl_context=context, maxsize=_MAX_CONNECTIONS
        )
    tls_pool = _TlsPool if tls_verify else _UnverifiedPool
    manager.pool_classes_by_scheme = {"http": _Pool, "https": tls_pool}
    return manager
