"""The viewer behind a path prefix, through a real reverse proxy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.parse import urljoin

import pytest

from adop.errors import UserError
from adop.run.run import Run
from adop.viewer.app import view_run
from support import browser
from support.http import get
from support.proxy import proxy
from support.viewer_client import Client

KINDS = [("/proxy/8090", True), ("/user/me/proxy/absolute/8090", False)]  # of a notebook server's proxies


@pytest.mark.parametrize(("prefix", "removes"), KINDS)
def test_page_photos_and_images_come_through_a_proxy(run: Run, prefix: str, removes: bool):
    with (
        view_run(run, prefix="" if removes else prefix + "/") as viewer,
        proxy(viewer.port, prefix, removes) as url,
    ):
        for path in ("", "main.js", "timeline.js", "style.css", "photo/0/small.jpg"):
            assert get(url + path)[0] == 200, path
        assert get(url + "nothing")[0] == 404
        with Client(url) as client:
            client.send(type="size", width=160, height=90)
            assert client.frame_at_rest().std() > 10


@pytest.mark.parametrize(("prefix", "removes"), KINDS)
def test_the_token_is_exchanged_for_a_cookie_of_the_prefix(run: Run, prefix: str, removes: bool):
    with (
        view_run(run, token="word", prefix="" if removes else prefix) as viewer,
        proxy(viewer.port, prefix, removes) as url,
    ):
        status, _, headers = get(url + "?token=word")
        assert status == 303 and urljoin(url + "?token=word", headers["Location"]) == url
        # Without a path of its own, a cookie is sent to the folder of the page that has set it (RFC 6265, 5.1.4).
        assert "path" not in headers["Set-Cookie"].lower()
        assert get(url)[0] == 403
        assert get(url, Cookie=headers["Set-Cookie"].split(";")[0])[0] == 200


def test_a_prefix_is_checked_and_its_address_is_printed(run: Run):
    for prefix in ("proxy", "/a b", "http://x/y", "/a?b", "/a//b"):
        with pytest.raises(UserError, match="--prefix"):
            view_run(run, prefix=prefix)
    with view_run(run, prefix="/a/b/") as viewer:
        assert viewer.url.endswith(f":{viewer.port}/a/b/")
        status, _, headers = get(viewer.url.removesuffix("/"))
        assert status == 303 and urljoin(viewer.url.removesuffix("/"), headers["Location"]) == viewer.url
        assert get(viewer.url)[0] == get(viewer.url.replace("/a/b", ""))[0] == 200
        for outside in ("/a", "/a/bc", "/a/b/../main.js", "/a/b/a/b/main.js"):
            assert get(f"http://127.0.0.1:{viewer.port}{outside}")[0] == 404, outside


@pytest.mark.skipif(browser.missing() is not None, reason=str(browser.missing()))
@pytest.mark.parametrize(("prefix", "removes"), KINDS)
def test_the_page_works_in_a_browser_behind_a_proxy(run: Run, tmp_path: Path, prefix: str, removes: bool):
    problems: list[str] = []
    with (
        browser.browser() as chromium,
        view_run(run, token="word", folder=tmp_path, prefix="" if removes else prefix) as viewer,
        proxy(viewer.port, prefix, removes) as url,
    ):
        page = chromium.new_page(viewport={"width": 1000, "height": 600})
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        page.goto(url + "?token=word")
        assert page.url == url
        browser.wait_for_rest(page)
        browser.until(page, "document.querySelector('#photos img').naturalWidth > 0")
        page.click("#photos button:nth-child(1)")
        browser.wait_for_rest(page)
        page.click("#compare-button")
        browser.until(page, "document.getElementById('compare-photo').naturalWidth > 0")
        assert page.evaluate("document.getElementById('compare-photo').src").startswith(url)
        page.close()
    assert not problems


def test_a_wrong_prefix_on_the_command_line_is_one_sentence(run: Run):
    command = [str(Path(sys.executable).with_name("adop")), "view", str(run.folder), "--prefix", "no slash"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2 and "--prefix" in done.stderr and "Traceback" not in done.stderr
