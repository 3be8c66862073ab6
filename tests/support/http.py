"""Requests to the viewer."""

from __future__ import annotations

import urllib.error
import urllib.request


def get(url: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    """Return status, body and headers of a response; redirects are not followed."""
    request = urllib.request.Request(url, headers=headers)
    opener = urllib.request.build_opener(NoRedirect)
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), dict(error.headers)


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Do not follow redirects."""

    def redirect_request(self, *_: object) -> None:
        return None
