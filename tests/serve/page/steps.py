"""What a reader does on the page, for its tests."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page


def ask(page: "Page", text: str) -> None:
    """Write a message and send it."""
    page.get_by_role("textbox", name="Message").fill(text)
    page.keyboard.press("Enter")


def ask_and_wait(page: "Page", text: str) -> None:
    """Send a message and wait for the end of its answer."""
    ask(page, text)
    ended(page)


def ended(page: "Page") -> None:
    """Wait for the end of the answer: only then it can be made again."""
    page.locator(".foot button", has_text="again").or_(page.get_by_role("button", name="Regenerate")).wait_for()


def answers(page: "Page") -> "Locator":
    """The texts of the answers."""
    return page.locator(".answer .text")


def titles(page: "Page") -> list[str]:
    """The titles in the list of conversations."""
    return page.locator("#conversation-list button").all_inner_texts()


def until(holds: Callable[[], bool], patience: float = 10.0) -> None:
    """Wait for something of the page; Playwright itself would need eval for it, which the page forbids."""
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)
