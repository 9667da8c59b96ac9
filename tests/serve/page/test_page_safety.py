"""Text from a model, a server or a storage is text: nothing in it becomes an element, a link or a script."""

from typing import TYPE_CHECKING

import pytest

from tests.serve.page.stand_in import Answer, StandIn
from tests.serve.page.states import machine_state
from tests.serve.page.steps import answers, ask_and_wait, titles

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest.importorskip("playwright.sync_api", reason="the page's tests need the package playwright")
from playwright.sync_api import expect

HOSTILE = (
    "<script>window.harmed = 1</script>",
    "<img src=x onerror='window.harmed = 2'>",
    "<svg onload='window.harmed = 3'></svg>",
    "[link](javascript:window.harmed=4)",
    "```<b>\n<iframe srcdoc='<script>parent.harmed = 5</script>'></iframe>\n```",
    "```\n</pre><style>body { display: none }</style>\n```",
)
FORBIDDEN = "script, img, svg, iframe, style, a, b, object, embed, form"


@pytest.mark.parametrize("mode", ["Chat", "Complete"])
def test_text_of_a_model_stays_text(page: "Page", stand_in: StandIn, mode: str) -> None:
    page.get_by_role("radio", name=mode).check(force=True)
    stand_in.answer = Answer(tuple("\n".join(HOSTILE)), pause=0.0005)  # letter by letter, as the worst of streams
    page.locator("#message").fill("Hello")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Regenerate").wait_for()
    shown = page.locator(".text").last.inner_text()
    for line in "\n".join(HOSTILE).splitlines():
        if mode == "Complete" or line != "```":
            assert line in shown
    harmless(page)


def test_text_of_the_reader_the_server_and_the_storage(page: "Page", stand_in: StandIn) -> None:
    hostile = HOSTILE[1]
    stand_in.answer = Answer(status=400, message=hostile)
    ask_and_wait(page, hostile)
    expect(page.locator(".notice")).to_contain_text(hostile)
    assert titles(page) == [hostile]
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("dialog")).to_contain_text(hostile)
    page.keyboard.press("Escape")
    state = machine_state([[1, 2]], [[[0], [0]]], 1.0, model=hostile, state="stuck", reason=hostile)
    state["ranks"][0]["host"] = hostile
    stand_in.state = state
    page.get_by_role("tab", name="Machine").click()
    expect(page.locator("#ranks")).to_contain_text(hostile)
    harmless(page)


def test_foreign_entries_in_the_storage_are_passed_over(page: "Page") -> None:
    ask_and_wait(page, "Mine")
    entries = [
        "{",
        "null",
        "[]",
        '{"mode": "chat"}',
        '{"id": "x", "mode": "chat", "title": 1, "turns": [], "changed": 1}',
    ]
    for number, entry in enumerate(entries):
        page.evaluate("([n, e]) => localStorage.setItem(`mixtralkit.conversation.${n}`, e)", [number, entry])
    page.evaluate("localStorage.setItem('mixtralkit.settings', '[1')")
    page.reload()
    assert titles(page) == ["Mine"]
    expect(answers(page)).to_have_text(["Hello there."])


def test_code_stands_in_a_box_with_its_spaces(page: "Page", stand_in: StandIn) -> None:
    stand_in.answer = Answer(("\n\nSo:\n\n```py", "thon\nif x:\n", "    y  =  1\n``", "`\nDone.\n\nReally."))
    ask_and_wait(page, "Hello")
    assert page.locator(".answer pre").all_text_contents() == ["if x:\n    y  =  1"]
    assert page.locator(".answer .prose").all_text_contents() == ["So:", "Done.\n\nReally."]


def harmless(page: "Page") -> None:
    """Nothing of the hostile texts has come to life."""
    assert page.evaluate("window.harmed") is None
    assert (
        page.locator("#thread, #conversations, #head, #delete-dialog h2, #delete-dialog p").locator(FORBIDDEN).count()
        == 0
    )
    assert page.locator("#ranks, #machine-notice").locator(FORBIDDEN).count() == 0
    assert page.locator("main").is_visible()
