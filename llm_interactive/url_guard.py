"""Where a URL that came out of a prompt may point (SPEC 9): this machine, or a host of `LLM_ALLOWED_URLS`.

    check(url, allowed)                   when the URL is set: what it says, before any name is looked up
    may_connect(address, host, allowed)   when a connection is made: what the name turned out to be
    same_origin(url, other)               whether a key that belongs to one of them may go to the other

Spellings of a host that two readers could take for different hosts are refused, not interpreted. An entry of `allowed`
is a host (any port), a host with a port (that port alone), or `*.` and a domain (every host below it).
"""

import ipaddress
import re
from collections.abc import Collection, Iterable
from urllib.parse import SplitResult, urlsplit

type Address = ipaddress.IPv4Address | ipaddress.IPv6Address

PORTS = {"http": 80, "https": 443}

_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^\[\]:]*)(?::(?P<port>[0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class UrlRefused(ValueError):
    """`str()` says why, in words for the person who typed the URL."""


def check(url: str, allowed: Collection[str], addresses: Iterable[str] = ()) -> None:
    """Raises `UrlRefused`. `addresses`: what the host's name is known to resolve to, where somebody looked it up."""
    host, port = place(url)
    if not _is_this_machine(host) and _entry_for(host, port, allowed) is None:
        raise UrlRefused(f"the host {host} must be this machine or one of LLM_ALLOWED_URLS")
    for address in addresses:
        if not may_connect(address, host, allowed, port):
            raise UrlRefused(f"the host {host} resolves to {address}, which prompts may not name")


def may_connect(address: str, host: str, allowed: Collection[str], port: int | None = None) -> bool:
    """Whether a connection for a checked URL with this `host` may go to this IP address (against DNS rebinding).

    A local name must stay on this machine; a host that the operator wrote out may be in a private network, one that a
    wildcard covers must be public; link-local addresses, where clouds serve their credentials, must be written out.
    """
    found = _address(address)
    if found is None:
        return False
    name = host.lower().strip("[]").removesuffix(".")
    if _is_this_machine(name):
        return found.is_loopback
    if _entry_for(str(found), port, allowed) is not None:
        return True
    if found.is_link_local or found.is_multicast or found.is_unspecified or found.is_reserved:
        return False
    entry = _entry_for(name, port, allowed)
    return entry is not None and (found.is_global or not entry.startswith("*."))


def same_origin(url: str, other: str) -> bool:
    """Whether both name the same scheme, host and port."""
    try:
        return urlsplit(url).scheme.lower() == urlsplit(other).scheme.lower() and place(url) == place(other)
    except UrlRefused:
        return False


def place(url: str) -> tuple[str, int]:
    """The host, as everybody reads it, and the port. Raises `UrlRefused`."""
    if not re.fullmatch(r"[!-\[\]-~]+", url):
        raise UrlRefused("a URL has no spaces, backslashes or letters beyond ASCII (write such hosts as xn--...)")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise UrlRefused("it is not a URL") from None
    return _host(parts), _port(parts)


def _host(parts: SplitResult) -> str:
    if parts.scheme not in PORTS or not parts.netloc:
        raise UrlRefused("it must begin with http:// or https://")
    if "@" in parts.netloc or "%" in parts.netloc:
        raise UrlRefused("a host is written without user, password, zone and % signs")
    authority = _AUTHORITY.fullmatch(parts.netloc)
    if authority is None:
        raise UrlRefused("its host cannot be read")
    written = authority["host"].lower()
    address = _address(written.strip("[]"))
    if address is not None and written.startswith("[") is (":" in written):
        return str(address)
    return _name(written)


def _name(written: str) -> str:
    name = written.removesuffix(".")
    labels = name.split(".")
    if len(name) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise UrlRefused("its host is no host name")
    if _NUMBER.fullmatch(labels[-1]):
        raise UrlRefused("an IP address is written as four decimal numbers, or as IPv6 in brackets")
    return name


def _port(parts: SplitResult) -> int:
    _, colon, digits = parts.netloc.rpartition("]")[2].partition(":")
    port = int(digits) if colon and digits else PORTS[parts.scheme]
    if colon and not 0 < port < 65536:
        raise UrlRefused("its port must be from 1 to 65535")
    return port


def _address(text: str) -> Address | None:
    """An IPv4 address in IPv6's clothes (mapped, 6to4, NAT64) counts as what it is."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if address.version == 6:
        inside = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inside = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return inside or address
    return address


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _entry_for(host: str, port: int | None, allowed: Collection[str]) -> str | None:
    """The entry that allows a host, the exact ones first. Without a `port` any will do."""
    entries = [entry.lower() for entry in allowed]
    for entry in sorted(entries, key=lambda each: each.startswith("*.")):
        authority = _AUTHORITY.fullmatch(entry)
        if authority is None or (authority["port"] and port is not None and int(authority["port"]) != port):
            continue
        if _covers(authority["host"].removesuffix("."), host):
            return entry
    return None


def _covers(pattern: str, host: str) -> bool:
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and _address(host) is None
    address = _address(pattern.strip("[]"))
    return host == (pattern if address is None else str(address))
