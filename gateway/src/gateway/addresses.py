"""Where a request comes from.

The peer, unless that is a proxy that is trusted: then the rightmost address of X-Forwarded-For that
no trusted proxy wrote about another. What stands left of it anybody can have written.
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from starlette.types import Scope

UNKNOWN: Final = "unknown"
_SUBSCRIBER_BITS: Final = 64


class ClientAddresses:
    """Reads addresses; `trusted` are the networks of the proxies in front."""

    def __init__(self, trusted: Sequence[IPv4Network | IPv6Network] = ()) -> None:
        self._trusted = tuple(trusted)

    def of(self, scope: Scope) -> str:
        """The client's IP address, `unknown` on a transport that has none."""
        client: tuple[str, int] | None = scope.get("client")
        peer = client[0] if client else UNKNOWN
        if not self._trusted or not self._trusts(peer):
            return peer
        lines = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        address = peer
        for hop in reversed(b",".join(lines).decode("latin-1").split(",")):
            found = _without_port(hop.strip())
            if found is None:
                return address
            address = found
            if not self._trusts(address):
                break
        return address

    def _trusts(self, text: str) -> bool:
        try:
            address = ip_address(text)
        except ValueError:
            return False
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return any((mapped or address) in network for network in self._trusted)


@lru_cache(maxsize=10_000)
def subscriber(address: str) -> str:
    """Whom an address counts as: itself, but of IPv6 the /64, which one subscriber has."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((int(parsed), _SUBSCRIBER_BITS), strict=False))


def _without_port(text: str) -> str | None:
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ip_address(text))
    except ValueError:
        return None
