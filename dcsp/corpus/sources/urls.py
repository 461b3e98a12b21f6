"""Images named by an http(s) URL: what may be asked for, and what such an image is called.

A tag table comes from strangers, and workers may be in a network that others cannot reach. So a
URL counts only where the config allows its host, and only addresses of the public internet do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import quote, urlsplit

from dcsp.corpus.sources.base import is_valid_id
from dcsp.corpus.sources.files import stem
from dcsp.errors import ImageError
from dcsp.tables.fingerprint import digest
from dcsp.text import holds_credentials

REFUSED = "http_refused"
"""Reason of a row whose URL must not be fetched."""
_PORTS = {"http": 80, "https": 443}
_SAFE = "/%:@!$&'()*+,;=~-._"
_NAT64 = IPv6Network("64:ff9b::/96")
_COMPATIBLE = IPv6Network("::/96")
_UNICAST = IPv6Network("2000::/3")


@dataclass(frozen=True)
class Address:
    """A URL taken apart.

    Attributes:
        scheme: ``http`` or ``https``.
        host: Lower case, ASCII.
        port: The URL's, or its scheme's own.
        target: Path and query, as a request names them.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def place(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"


def is_url(name: str) -> bool:
    """Whether what a tag table calls an image is its http(s) URL."""
    return re.match("https?://", name, re.IGNORECASE) is not None


def parse_url(url: str) -> Address:
    """Take a URL apart.

    Raises:
        ImageError: With reason ``http_refused``: it is no http(s) URL.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ImageError(REFUSED, f"this is no URL ({error})") from None
    if parts.scheme not in _PORTS or not host:
        raise ImageError(REFUSED, "this is no http(s) URL")
    if not host.isascii():
        raise ImageError(REFUSED, f"its host {host!r} is not ASCII: write it as xn--…")
    target = quote(parts.path or "/", _SAFE)
    if parts.query:
        target += "?" + quote(parts.query, _SAFE + "?")
    return Address(parts.scheme, host, port or _PORTS[parts.scheme], target)


def require_listable(url: str, hosts: Sequence[str]) -> None:
    """See that what a tag table names may be asked for, and be written down.

    Raises:
        ImageError: With reason ``http_refused``.
    """
    if holds_credentials(url):
        message = "its URL holds credentials, which the store would keep: copy the image to a disk"
        raise ImageError(REFUSED, message)
    require_allowed(parse_url(url), hosts)


def require_allowed(address: Address, hosts: Sequence[str]) -> None:
    """See that a host may be asked.

    Args:
        address: Of an image, or of where a server says that it is.
        hosts: ``corpus.http.hosts``.

    Raises:
        ImageError: With reason ``http_refused``.
    """
    for entry in hosts:
        name, _, port = entry.partition(":")
        below = name.startswith("*.") and address.host.endswith(name[1:])
        wanted = int(port) if port else _PORTS[address.scheme]
        if (below or address.host == name) and address.port == wanted:
            return
    own = address.port == _PORTS[address.scheme]
    host = address.host if own else address.place
    raise ImageError(REFUSED, f"corpus.http.hosts does not allow {host}: add it, if you trust it")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, whatever form it takes.

    >>> [is_public(text) for text in ("93.184.215.14", "10.0.0.1", "::ffff:127.0.0.1", "fe80::1%2")]
    [True, False, False, False]
    """
    ip = ip_address(address)
    inner = _embedded(ip)
    return _is_global(ip) if inner is None else _is_global(inner)


def _embedded(ip: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for, where a gateway may take it for that."""
    if isinstance(ip, IPv4Address):
        return None
    if ip in _NAT64 or ip in _COMPATIBLE:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    if ip.teredo:
        return ip.teredo[1]
    return ip.ipv4_mapped or ip.sixtofour


def _is_global(ip: IPv4Address | IPv6Address) -> bool:
    if isinstance(ip, IPv6Address) and ip not in _UNICAST:
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


def url_id(url: str) -> str:
    """What an image is called: host, path without extension, and a digest of the query.

    Where that is no id (an empty path, ``..``, a step that is too long), a digest stands in the
    place of the path. A fragment does not count, nor does the scheme.

    >>> url_id("https://Img.example.org:8080/cats/1.jpg#top")
    'img.example.org_8080/cats/1'
    >>> url_id("http://example.org/photo.php?number=7")
    'example.org/photo-4f6833f4'
    """
    try:
        parts = urlsplit(url)
        host = re.sub(r"[^a-z0-9._-]", "_", parts.netloc.rpartition("@")[2].lower())
    except ValueError:  # no URL, as its rejected row says
        return f"url/{digest(url)}"
    query = f"-{digest(parts.query)[:8]}" if parts.query else ""
    names = [f"{host}/{stem(parts.path.removeprefix('/'))}{query}"] if parts.path.strip("/") else []
    names += [f"{host}/{digest(url)}", f"url/{digest(url)}"]
    return next(name for name in names if is_valid_id(name))
