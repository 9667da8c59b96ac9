"""A real Chromium for the tests of the page, and a stand-in for the server."""

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.serve.page.stand_in import StandIn, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
# Without a sandbox, as containers have none; and nothing that Chromium asks of the network by itself.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@pytest.fixture(scope="package")
def browser() -> "Iterator[Browser]":
    """One Chromium for all tests of this folder."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the page's tests need the package playwright")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"the page's tests need a Chromium: none of {', '.join(NAMES)} is in the PATH")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def server(browser: "Browser") -> Iterator[StandIn]:
    """The server, after the browser: without one there is nothing to serve."""
    with serving(StandIn()) as started:
        yield started


@pytest.fixture
def stand_in(server: StandIn) -> StandIn:
    """The server as at first."""
    server.begin()
    return server


@pytest.fixture
def page(browser: "Browser", stand_in: StandIn) -> "Iterator[Page]":
    """The page in a browser context of its own, whose storage is empty; a mistake in its scripts fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="light")
    context.set_default_timeout(10_000)
    shown = context.new_page()
    mistakes: list[str] = []
    shown.on("pageerror", lambda error: mistakes.append(str(error)))
    shown.on("console", lambda message: mistakes.append(message.text) if is_mistake(message.text) else None)
    shown.goto(stand_in.url)
    yield shown
    context.close()
    assert mistakes == []


def is_mistake(text: str) -> bool:
    """Whether the browser complains about the page, and not about an answer of the server."""
    return "Content Security Policy" in text or "Refused to" in text
