"""Who may talk to the viewer: this machine's own browser, or whoever knows the token."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Guard:
    """Decide which requests are answered.

    A page of another site must neither read nor steer the viewer: its `Origin` differs from the `Host` it speaks to.
    Nor may a name that another site points at this machine (DNS rebinding): without a token, the `Host` must be a
    local name; with one, the token is a cookie that a browser sends to the host only that set it.
    """

    token: str | None  # None: local only

    def admits(
        self, host: str | None, origin: str | None, cookie: str | None, query: str | None
    ) -> str | None:
        """Return None where a request may pass, else what is wrong with it, in a sentence.

        Args:
            host, origin: headers. cookie, query: the token as the cookie and the address give it.
        """
        try:
            return self._judge(host, origin, cookie, query)
        except ValueError:  # of an address or a token that is none
            return "the request is malformed"

    def _judge(
        self, host: str | None, origin: str | None, cookie: str | None, query: str | None
    ) -> str | None:
        if host is None:
            return "the request names no host"
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return "the page that asks belongs to another site"
        if self.token is None:
            local = urlsplit("//" + host).hostname in LOCAL
            return (
                None if local else "this viewer answers only to localhost; behind a proxy, give it a --token"
            )
        given = [value for value in (cookie, query) if value is not None]
        if any(hmac.compare_digest(value.encode(), self.token.encode()) for value in given):
            return None
        return "open the address that `adop` printed, with its token"


def guard_for(host: str, token: str | None) -> Guard:
    """Return the guard of a server bound to `host`: beyond this machine there is always a token."""
    if token is None and host not in LOCAL:
        token = secrets.token_urlsafe(18)
    return Guard(token)
