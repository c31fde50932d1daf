"""The SDK client as the gateway uses it: with whose key, over which connection."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from batchkit.errors import UsageError

if TYPE_CHECKING:
    import ssl

    import anthropic

__all__ = ["WRITE_TIMEOUT", "one_shot", "own_client", "pinned"]

WRITE_TIMEOUT = 30.0
"""Seconds one write may take. A lease is renewed for longer before the last chunk."""


def own_client(sdk: Any) -> anthropic.Anthropic:
    """Make a client from the environment, without retries of its own.

    Raises:
        UsageError: the environment does not say how to sign in.
    """
    try:
        client: anthropic.Anthropic = sdk.Anthropic(max_retries=0)
    except sdk.AnthropicError as error:
        raise UsageError(f"no client could be made from the environment: {error}") from None
    if not any(getattr(client, name, None) for name in ("api_key", "auth_token", "credentials")):
        raise UsageError(
            "no API key: set ANTHROPIC_API_KEY, or pass Workflow(client=...). Nothing was sent and nothing is lost; "
            "batchkit.testing.simulated_client() needs no key"
        )
    return client


def pinned(sdk: Any, client: anthropic.Anthropic) -> anthropic.Anthropic:
    """Copy a client with the credential it has now: a rotating one is asked once."""
    # Other client classes sign in ways of their own; a copy keeps what they hold.
    plain = type(client) is sdk.Anthropic and not client.api_key and not client.auth_token
    provider = getattr(client, "credentials", None) if plain else None
    if provider is None:
        return client.with_options(max_retries=0)
    token = provider()

    def same(*, force_refresh: bool = False) -> Any:
        return token

    # A new provider drops the headers and the address that came with the old one, so both are repeated.
    headers: Mapping[str, str] = getattr(client, "_credential_headers", None) or {}
    return client.with_options(
        credentials=same, default_headers=dict(headers), base_url=client.base_url, max_retries=0
    )


@contextmanager
def one_shot(sdk: Any, client: anthropic.Anthropic) -> Iterator[anthropic.Anthropic]:
    """Lend the client with a connection of its own, opened and closed here."""
    http: object = getattr(client, "_client", None)
    if type(http).__name__ != "SyncHttpxClientWrapper" or urllib.request.getproxies():
        # An HTTP client of the user's, or a proxy that the SDK's own transport knows how to reach.
        yield client
        return
    import httpx2

    own = sdk.DefaultHttpxClient(
        transport=httpx2.HTTPTransport(verify=_trust(), socket_options=_socket_options(), retries=0),
        follow_redirects=False,
    )
    try:
        yield client.with_options(http_client=own)
    finally:
        own.close()


@cache
def _trust() -> ssl.SSLContext:
    """Read the trusted certificates once: it takes longer than to send a thousand rows."""
    import httpx2

    return httpx2.create_ssl_context()


def _socket_options() -> list[
    tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
]:
    """Make the death of this process soon a reset: what the kernel still holds must not reach the API."""
    import struct

    options: list[tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]] = [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)),
        (socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024),
    ]
    user_timeout = getattr(socket, "TCP_USER_TIMEOUT", None)
    if user_timeout is not None:
        options.append((socket.IPPROTO_TCP, user_timeout, int(WRITE_TIMEOUT * 1000)))
    return options
