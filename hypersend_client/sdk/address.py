"""Server addresses as people type them."""

from __future__ import annotations

import ipaddress

from yarl import URL

from hypersend_client.sdk.errors import InvalidAddress


def normalise(address: str) -> str:
    """`chat.example.org` → `https://chat.example.org`; no slash at the end, and no `/api/v1`.

    Without a scheme it is https, except for addresses of this machine and of private networks.
    Raises: InvalidAddress.
    """
    text = address.strip()
    if "://" not in text:
        try:
            host = URL(f"http://{text}").host or ""
        except ValueError:
            raise InvalidAddress(address) from None
        text = f"{'http' if _is_private(host) else 'https'}://{text}"
    try:
        url = URL(text)
        port = url.port
    except ValueError:
        raise InvalidAddress(address) from None
    if url.scheme not in ("http", "https") or not url.host or port is None or any(c.isspace() for c in url.host):
        raise InvalidAddress(address)
    if url.user is not None or url.password is not None:
        raise InvalidAddress(address)  # a password in an address ends up in logs
    path = url.path.rstrip("/").removesuffix("/api/v1").rstrip("/")
    return str(url.origin().with_path(path)).rstrip("/")


def _is_private(host: str) -> bool:
    if host == "localhost" or host.endswith((".localhost", ".local")):
        return True
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False
