"""The page in a real browser, over a running proxy."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from kit.browser import Browser, requires_browser
from kit.proxy import RunningProxy

from llm_interactive import dashboard

type Start = Callable[..., RunningProxy]

KEY = "proxy-key-0123456789"
EVIL = "<img src=x onerror=document.title='evil'>"


def call(proxy: RunningProxy, project: str, model: str = "demo:echo", **headers: str) -> None:
    whole = {"x-project": project, "authorization": f"Bearer {KEY}", **headers}
    body = {"model": model, "messages": [{"role": "user", "content": "Good morning!"}]}
    assert httpx.post(f"{proxy.url}/v1/chat/completions", json=body, headers=whole, timeout=20).status_code == 200


@pytest.fixture
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


def text(browser: Browser, selector: str) -> str:
    return str(browser.run(f"document.querySelector({selector!r}).innerText"))


@requires_browser
def test_the_figures_of_calls_filters_and_refreshing(start_proxy: Start, browser: Browser) -> None:
    proxy = start_proxy({})
    call(proxy, "tea")
    call(proxy, "coffee", "demo:story")
    browser.open(f"{proxy.url}/dashboard")
    browser.until("document.querySelectorAll('#recent tbody tr').length === 2")
    assert "2" in text(browser, "#sums div:nth-child(2) dd")
    assert "demo:story" in text(browser, "#by-model")
    browser.run("[...document.querySelectorAll('#by-project button')].find(each => each.innerText === 'tea').click()")
    browser.until("document.querySelectorAll('#recent tbody tr').length === 1")
    assert "demo:story" not in text(browser, "#by-model")
    assert "project=tea" in str(browser.run("location.hash"))
    call(proxy, "tea")
    browser.until("document.querySelectorAll('#recent tbody tr').length === 2")
    assert browser.said == []


@requires_browser
def test_the_key_is_asked_once_and_kept_for_this_tab(start_proxy: Start, browser: Browser) -> None:
    proxy = start_proxy({"LLM_INTERACTIVE_PROXY_API_KEY": KEY})
    call(proxy, "tea")
    browser.open(f"{proxy.url}/dashboard")
    browser.until("document.getElementById('ask').open")
    for key in ("wrong", KEY):
        browser.type(key)
        browser.press("Enter")
        if key == "wrong":
            browser.until("document.getElementById('ask-trouble').textContent === 'That key is wrong.'")
    browser.until("document.querySelectorAll('#recent tbody tr').length === 1")
    browser.run("location.reload()")
    browser.until("document.querySelectorAll('#recent tbody tr').length === 1")
    assert browser.run("document.getElementById('ask').open") is False
    assert browser.run("localStorage.length + document.cookie.length") == 0


@requires_browser
def test_names_from_outside_are_text_and_focus_survives_a_refresh(start_proxy: Start, browser: Browser) -> None:
    proxy = start_proxy({})
    call(proxy, EVIL, **{"x-session-id": EVIL, "x-user-id": EVIL, "x-title": EVIL})
    browser.open(f"{proxy.url}/dashboard")
    browser.until("document.querySelectorAll('#by-project tbody button').length === 1")
    for _ in range(60):
        browser.press("Tab")
        if browser.run("document.activeElement.closest('#by-project') !== null"):
            break
    assert browser.run("document.activeElement.innerText") == EVIL
    first = browser.run("window.seen = document.querySelector('#by-project table'), 1")
    browser.until("document.querySelector('#by-project table') !== window.seen")
    assert first == 1
    assert browser.run("document.activeElement.innerText") == EVIL
    browser.press("Enter")
    browser.until("location.hash.includes('project=')")
    assert browser.run("document.title") != "evil"
    assert browser.run("document.images.length") == 0


@requires_browser
def test_a_page_of_many_calls_and_its_picture(start_proxy: Start, browser: Browser, tmp_path: Path) -> None:
    proxy = start_proxy({})
    for _ in range(52):
        call(proxy, "tea")
    browser.open(f"{proxy.url}/dashboard")
    browser.until("document.querySelectorAll('#recent tbody tr').length === 50")
    browser.run("document.getElementById('older').click()")
    browser.until("document.querySelectorAll('#recent tbody tr').length === 2")
    browser.run("document.getElementById('newest').click()")
    browser.until("document.querySelectorAll('#recent tbody tr').length === 50")
    browser.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 20_000


def test_the_page_loads_nothing_from_elsewhere() -> None:
    page = dashboard.page().decode()
    assert not re.search(r"https?://|@import|<link(?![^>]*data:)|<script |<iframe|\bsrc=", page)
    assert "innerHTML" not in page
    assert "unsafe" not in dashboard.POLICY
    assert not re.search(r"<[^>]*\s(?:on\w+|style)=", page), "its policy would not let them work"
