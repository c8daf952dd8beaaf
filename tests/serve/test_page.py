"""The page at / in a real browser: chatting through it, and the engine shown at work.

Needs Chromium (CHROMIUM names it, else it is looked for in PATH) and the `playwright` package: `pytest -m browser`.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.serve.servers import Running, fake_engine, running, script

pytestmark = pytest.mark.browser

COLOURS = "c => new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    assert path, "no Chromium in PATH: install Debian's package chromium, or set CHROMIUM"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


class Page:
    """A page over a server; remembers what the browser complained about and what it asked of whom."""

    def __init__(self, browser: Any, server: Running) -> None:
        self.tab = browser.new_page(viewport={"width": 1400, "height": 900})
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(server.url)
        self.tab.locator("#state.ready").wait_for(timeout=10_000)
        self.waits_for("document.getElementById('model').textContent == 'fake'")

    def say(self, text: str) -> None:
        self.tab.fill("#text", text)
        self.tab.press("#text", "Enter")

    def waits_for(self, condition: str) -> None:
        """Asked from outside: the page's security policy forbids a script to evaluate text."""
        deadline = time.monotonic() + 15
        while not self.tab.evaluate(condition):
            assert time.monotonic() < deadline, f"{condition} never came true; the browser says {self.complaints}"
            time.sleep(0.05)


def chatting(browser: Any, **options: Any) -> Iterator[tuple[Running, Page]]:
    with running(fake_engine(**options)) as server:
        page = Page(browser, server)
        yield server, page
        page.tab.close()
        assert server.idle(), "requests or pages are left over"


@pytest.fixture
def quick(browser: Any) -> Iterator[tuple[Running, Page]]:
    yield from chatting(browser)


@pytest.fixture
def slow(browser: Any) -> Iterator[tuple[Running, Page]]:
    yield from chatting(browser, delay=0.02)


def test_a_chat_of_two_turns_is_streamed_and_nothing_leaves_the_machine(quick: tuple[Running, Page]) -> None:
    server, page = quick
    prompt = server.engine.tokenizer.encode("[user] Hi\n[assistant] ")
    server.engine.model.prompt_length = len(prompt)
    script(server.engine, "Once upon a time.", prompt[0])
    page.tab.fill("#temperature", "0")
    page.say("Hi")
    page.waits_for("document.querySelectorAll('#log .note').length == 1")
    turns = page.tab.locator("#log .turn")
    assert turns.nth(0).inner_text() == "Hi"
    assert turns.nth(1).inner_text().startswith("Once upon a time.")
    page.say("And then?")
    page.waits_for("document.querySelectorAll('#log .note').length == 2")
    assert re.search(r"\d+ tokens, .* of \d+ prompt tokens from the cache", turns.nth(3).inner_text())
    page.tab.click("#clear")
    assert page.tab.locator("#log .turn").count() == 0
    assert page.complaints == []
    assert all(url.startswith((server.url, "data:")) for url in page.asked), page.asked


def test_the_engine_is_seen_at_work(slow: tuple[Running, Page]) -> None:
    server, page = slow
    page.tab.fill("#max", "200")
    page.tab.fill("#temperature", "1")
    page.tab.fill("#text", "A story about")
    page.tab.click("#many")
    page.waits_for("document.querySelectorAll('#requests li').length >= 2")
    page.waits_for("document.getElementById('used').textContent != '0%'")
    page.waits_for("Number(document.getElementById('rate').textContent) > 0")
    for canvas in ("steps", "speed", "pages", "tree"):
        page.waits_for(f"({COLOURS})(document.getElementById('{canvas}')) > 2")
    assert server.engine.metrics.running >= 2
    page.tab.click("#send")  # it says "Stop" now
    page.waits_for("document.getElementById('send').textContent == 'Send'")
    assert server.idle()
    assert page.complaints == []


def test_stopping_frees_the_request(slow: tuple[Running, Page]) -> None:
    server, page = slow
    page.tab.fill("#max", "300")
    page.tab.select_option("#mode", "complete")
    page.say("Without end")
    page.waits_for("document.querySelectorAll('#log .turn')[1].textContent.length > 5")
    page.tab.click("#send")
    page.waits_for("document.querySelector('#log .note').textContent == 'stopped'")
    assert server.idle()
    assert server.engine.metrics.finished["cancel"] == 1


def test_an_error_of_the_server_is_shown(quick: tuple[Running, Page]) -> None:
    _, page = quick
    page.tab.fill("#max", "100000")
    page.say("Hi")
    page.waits_for("document.querySelector('#log .error')?.textContent.includes('max_tokens')")


def test_narrow_windows_have_no_sideways_scrolling(quick: tuple[Running, Page]) -> None:
    _, page = quick
    page.tab.set_viewport_size({"width": 390, "height": 800})
    assert page.tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
