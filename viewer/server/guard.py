"""Who may connect to the viewer: a browser on this machine, or anyone who knows the token."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Guard:
    """Decide which requests are answered.

    Pages of other sites must neither read nor steer the viewer. A page opened from another site has an `Origin` that
    differs from the request's `Host`. A site whose name is made to resolve to this machine (DNS rebinding) is refused
    as well: without a token, the `Host` must be a local name; with one, the token is a cookie, which browsers send
    only to the host that has set it.
    """

    token: str | None  # None: only requests to a local name are answered

    def refusal(
        self, host: str | None, origin: str | None, cookie: str | None, query: str | None
    ) -> str | None:
        """Return None where a request is answered, else why it is refused, in a sentence.

        Args:
            host, origin: headers of the request; None: it has no such header.
            cookie, query: the token in the cookie and in the address; None: there is none.
        """
        try:
            return self._check(host, origin, cookie, query)
        except ValueError:  # the host or the token cannot be parsed
            return "the request is malformed"

    def _check(
        self, host: str | None, origin: str | None, cookie: str | None, query: str | None
    ) -> str | None:
        if host is None:
            return "the request names no host"
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return "the page that sent the request belongs to another site"
        if self.token is None:
            local = urlsplit("//" + host).hostname in LOCAL
            return (
                None
                if local
                else "this viewer answers only at localhost; behind a proxy, start it with --token"
            )
        given = [value for value in (cookie, query) if value is not None]
        if any(hmac.compare_digest(value.encode(), self.token.encode()) for value in given):
            return None
        return "open the address that `adop` has printed, with its token"


def guard_for(host: str, token: str | None) -> Guard:
    """Return the guard of a server that listens on `host`; a token is generated where other machines can connect."""
    if token is None and host not in LOCAL:
        token = secrets.token_urlsafe(18)
    return Guard(token)
