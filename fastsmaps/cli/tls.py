"""TLS for a server, with certificates that can be replaced while it runs."""

from __future__ import annotations

import os
import ssl

import fastsmaps
from fastsmaps.cli.output import print_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from typing import NoReturn


class Tls:
    """Wraps connections in TLS 1.2 or later, with the standard library's ssl.

    `certificate` and `key` are PEM files; with `client_ca`, only clients with a certificate that it
    signed are answered. Files that changed are read again at the next connection. If they cannot be
    used, for instance because only one of two has been replaced yet, the last ones stay in use.
    Raises fastsmaps.Error if the files cannot be used at first.
    """

    def __init__(self, certificate: str, key: str, client_ca: str | None = None) -> None:
        self._certificate, self._key, self._client_ca = certificate, key, client_ca
        self._files = [file for file in (certificate, key, client_ca) if file is not None]
        self._signature = self._signatures()
        try:
            self._context = self._load()
        except OSError as error:
            raise fastsmaps.Error(self._problem(error)) from None

    def wrap(self, connection: socket.socket) -> ssl.SSLSocket:
        """Return the connection wrapped, before its handshake: that waits for the client."""
        signature = self._signatures()
        if signature != self._signature:
            self._signature = signature
            try:
                self._context = self._load()
            except OSError as error:
                print_error(f"{self._problem(error)}; the previous files stay in use")
        return self._context.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        )

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self._client_ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._certificate, self._key, _no_password)
        if self._client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _signatures(self) -> Sequence[tuple[int, ...] | None]:
        """Return what changes when a file does, even if it is replaced by a link (Kubernetes)."""
        return [_signature(file) for file in self._files]

    def _problem(self, error: OSError) -> str:
        return f"cannot use {', '.join(self._files)} for TLS: {error.strerror or error}"


def _signature(file: str) -> tuple[int, ...] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def _no_password() -> NoReturn:
    # OpenSSL would ask for it on the terminal.
    raise OSError("the key is encrypted")
