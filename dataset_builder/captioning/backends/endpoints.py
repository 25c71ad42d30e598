"""Several servers behind one backend: who is asked next, who is left alone, and the name that all of them share."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from lpmc_errors import UsageError

SELF_HOSTED = "self-hosted"  # the provider of servers on the user's own machines and network
REST_FIRST_S = 1.0  # a server that can't be reached is left alone for so long, ...
REST_MOST_S = 60.0  # ... doubling up to this

_PRIVATE_SUFFIXES = (".local", ".localhost", ".internal")


def check_url(url: str) -> str:
    """`url` without trailing slashes, if it is an http(s) address without a password in it; else `UsageError`."""
    try:
        address = urlsplit(url)
        good = address.scheme in ("http", "https") and bool(address.hostname)
        good = good and (address.port is None or address.port > 0)  # reading the port may raise, too
    except ValueError:
        good = False
    if not good:
        raise UsageError(f"--base-url {url}", "is not an http(s) address", "give e.g. http://127.0.0.1:8000/v1")
    if address.username is not None:
        raise UsageError(
            f"--base-url {address.scheme}://...@{address.hostname}",
            "has a user name or password in it",
            "leave it out and set OPENAI_API_KEY",
        )
    return url.rstrip("/")


def is_private_host(host: str) -> bool:
    """Whether `host` lies on the user's own machines or network, by its name or address alone (nothing is resolved)."""
    host = host.rstrip(".").lower()
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith(_PRIVATE_SUFFIXES)


def is_loopback_host(host: str) -> bool:
    """Whether `host` is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"


def provider_label(urls: Sequence[str], label: str | None = None) -> str:
    """The name that the answers of `urls` are stored under: `label`, or `self-hosted`, or the public host.

    Without ports, and alike for all servers of one's own: a server that restarts elsewhere keeps its answers, and one
    server more changes no key. Raises `UsageError` when the addresses don't share a name.
    """
    if label:
        return label
    hosts = [(urlsplit(url).hostname or "").rstrip(".") for url in urls]
    names = list(dict.fromkeys(SELF_HOSTED if is_private_host(host) else host for host in hosts))
    if len(names) > 1:
        raise UsageError(
            "--base-url",
            f"names different providers ({', '.join(names)})",
            "give them one name with --provider if they serve the same model",
        )
    return names[0]


@dataclass(eq=False)
class Endpoint:
    """One server. `misses` counts failures to reach it in a row; `resting_until` is a time of the caller's clock."""

    url: str
    under_way: int = 0
    served: int = 0
    misses: int = 0
    resting_until: float = 0.0
    on_trial: bool = False


class EndpointPool:
    """Picks the server with the fewest requests under way; pure, the time is passed in.

    A server that can't be reached rests for a growing while and is then tried with one request at a time. When all
    rest, the one whose rest ends first is asked anyway: whether to wait is the circuit breaker's decision.
    """

    def __init__(self, urls: Sequence[str], rng: random.Random | None = None) -> None:
        self.endpoints = tuple(Endpoint(url) for url in urls)
        self._random = rng or random.Random()

    def pick(self, now: float, tried: Collection[Endpoint] = ()) -> Endpoint | None:
        """The server for the next request, booked until `release`; None if all are among `tried` or, then, resting."""
        ready = [
            endpoint
            for endpoint in self.endpoints
            if endpoint not in tried
            and (not endpoint.misses or (now >= endpoint.resting_until and not endpoint.on_trial))
        ]
        if ready:
            chosen = min(ready, key=lambda endpoint: (endpoint.under_way, endpoint.served))
        elif tried:
            return None
        else:
            chosen = min(self.endpoints, key=lambda endpoint: (endpoint.resting_until, endpoint.under_way))
        chosen.on_trial = chosen.misses > 0
        chosen.under_way += 1
        chosen.served += 1
        return chosen

    def release(self, endpoint: Endpoint, now: float, reached: bool) -> None:
        """Give back what `pick` gave; `reached` tells whether the server was there."""
        endpoint.under_way -= 1
        endpoint.on_trial = False
        if reached:
            endpoint.misses = 0
        elif now >= endpoint.resting_until:  # what was sent before the rest began does not prolong it
            rest = min(REST_MOST_S, REST_FIRST_S * 2.0 ** min(endpoint.misses, 30))
            endpoint.misses += 1
            endpoint.resting_until = now + self._random.uniform(0.5, 1.0) * rest
