"""The page with a keyboard, with a screen reader, on a small screen and in both themes."""

from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.serve.page.stand_in import Answer, StandIn
from tests.serve.page.states import machine_state
from tests.serve.page.steps import answers, ask, ask_and_wait, ended, until

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest.importorskip("playwright.sync_api", reason="the page's tests need the package playwright")
from playwright.sync_api import expect

CONTROLS = {"button", "textbox", "slider", "spinbutton", "radio", "tab", "gridcell", "DisclosureTriangle"}
ROWS_LE = [[210, 93, 150, 22, 5], [80, 100, 100, 100, 100]]
HOLDERS_LE = [[[0], [0], [0, 1], [1], [1]], [[0], [0], [0], [1], [1]]]
# The relative luminance and contrast of WCAG 2.2, of all visible text and what it stands on; 4.5 is level AA.
LOW_CONTRAST = """() => {
    const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const luminance = (colour) => numbers(colour).slice(0, 3)
        .map((value) => value / 255)
        .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
        .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
    const solid = (colour) => (numbers(colour)[3] ?? 1) === 1;
    const ground = (element) => {
        for (let one = element; one; one = one.parentElement) {
            const style = getComputedStyle(one);
            const stripe = style.backgroundImage.match(/rgb\\([^)]*\\)/);
            if (stripe && one.matches(".cell")) return stripe[0];
            if (solid(style.backgroundColor)) return style.backgroundColor;
        }
    };
    const words = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const shown = (element) => element.checkVisibility() && !element.closest(".unseen, .brand span");
    const contrast = (element) => {
        const [one, other] = [getComputedStyle(element).color, ground(element)].map(luminance);
        return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    };
    return [...document.body.querySelectorAll("*")]
        .filter((element) => words(element) && shown(element) && contrast(element) < 4.5)
        .map((element) => [element.textContent.slice(0, 40), contrast(element)]);
}"""


@pytest.fixture(autouse=True)
def _machine(request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("stand_in").state = machine_state(ROWS_LE, HOLDERS_LE, 10.0)


def test_tabs_by_keyboard(page: "Page") -> None:
    chat, machine = page.get_by_role("tab", name="Chat"), page.get_by_role("tab", name="Machine")
    chat.focus()
    page.keyboard.press("ArrowRight")
    expect(machine).to_be_focused()
    expect(machine).to_have_attribute("aria-selected", "true")
    expect(page.get_by_role("tabpanel", name="Machine")).to_be_visible()
    expect(page.locator("#chat")).to_be_hidden()
    page.keyboard.press("ArrowRight")
    expect(chat).to_be_focused()
    page.keyboard.press("End")
    expect(machine).to_be_focused()
    page.reload()  # the address knows the tab
    expect(page.get_by_role("tabpanel", name="Machine")).to_be_visible()
    assert page.get_by_role("tab").evaluate_all("tabs => tabs.map((tab) => tab.tabIndex)") == [-1, 0]


def test_conversation_by_keyboard_alone(page: "Page", stand_in: StandIn) -> None:
    page.get_by_role("textbox", name="Message").focus()
    page.keyboard.type("Hello")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("there")
    page.keyboard.press("Enter")
    ended(page)
    assert stand_in.last_body["messages"] == [{"role": "user", "content": "Hello\nthere"}]
    page.get_by_role("button", name="Rename").focus()
    page.keyboard.press("Enter")
    page.keyboard.type("Changed my mind")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Rename")).to_be_focused()
    expect(page.get_by_role("heading", name="Hello there", exact=True)).to_be_visible()


@pytest.mark.parametrize("width", [1280, 360])
def test_every_control_has_a_name(page: "Page", width: int) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    ask_and_wait(page, "Hello")
    assert nameless(page) == []
    page.get_by_role("button", name="Settings").click()
    assert nameless(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Rename").click()
    assert nameless(page) == []
    page.get_by_role("tab", name="Machine").click()
    page.locator("#heat-table summary").click()
    expect(page.locator("#heat-table td").nth(1)).to_be_visible()
    assert nameless(page) == []


def nameless(page: "Page") -> list[Any]:
    """The controls in the browser's accessibility tree that have no name; there must be controls at all."""
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    controls = [node for node in nodes if not node["ignored"] and node.get("role", {}).get("value") in CONTROLS]
    assert len(controls) > 5
    return [node for node in controls if not node.get("name", {}).get("value", "").strip()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_of_all_text(page: "Page", stand_in: StandIn, scheme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    ask_and_wait(page, "Hello")
    stand_in.answer = Answer(status=429, message="full", retry_after=1)
    ask_and_wait(page, "Again")
    page.locator("h2").first.click()
    settle(page)
    assert page.evaluate(LOW_CONTRAST) == []
    page.get_by_role("tab", name="Machine").click()
    expect(page.locator(".cell").first).to_have_text("43.8")
    settle(page)
    assert page.evaluate(LOW_CONTRAST) == []
    page.get_by_role("radio", name="Placement").check(force=True)
    settle(page)
    assert page.evaluate(LOW_CONTRAST) == []


def test_contrast_check_sees_a_breach(page: "Page") -> None:
    page.evaluate("document.querySelector('.welcome p').style.color = '#999999'")
    ((text, contrast),) = page.evaluate(LOW_CONTRAST)
    assert text.startswith("Chat is for")
    assert 2 < contrast < 3.5


def settle(page: "Page") -> None:
    """Wait until nothing changes its colour any more."""
    page.evaluate("Promise.all(document.getAnimations().map((animation) => animation.finished.catch(() => {})))")


def test_theme_is_the_systems_until_the_reader_chooses(page: "Page") -> None:
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(ground)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(ground)
    assert light != dark
    page.get_by_role("button", name="Switch to the light theme").click()
    assert page.evaluate(ground) == light
    page.reload()
    assert page.evaluate(ground) == light
    page.get_by_role("button", name="Switch to the dark theme").click()
    page.emulate_media(color_scheme="light")
    assert page.evaluate(ground) == light, "the choice that is the system's own is none"


# 360 pixels are a small telephone; 640 x 360 is a window of 1280 x 720 at a zoom of 200 %.
@pytest.mark.parametrize(("width", "height"), [(360, 740), (640, 360)])
def test_nothing_is_wider_than_the_screen(page: "Page", stand_in: StandIn, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    stand_in.answer = Answer(("verylongword" * 20, "\n```\n", "long line of code " * 20))
    ask_and_wait(page, "anotherlongword" * 20)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    field = page.get_by_role("textbox", name="Message").bounding_box()
    assert field is not None
    assert field["x"] >= 0
    assert field["y"] + field["height"] <= height
    page.get_by_role("tab", name="Machine").click()
    expect(page.locator(".cell").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_panels_on_a_small_screen(page: "Page") -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    button, panel = page.get_by_role("button", name="Settings"), page.locator("#settings")
    expect(panel).to_be_hidden()
    expect(button).to_have_attribute("aria-expanded", "false")
    button.click()
    expect(panel).to_be_visible()
    expect(button).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(button).to_have_attribute("aria-expanded", "false")
    page.get_by_role("button", name="Conversations").click()
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator("#conversations")).to_be_hidden()


def test_answer_is_announced_in_sentences_and_not_in_pieces(page: "Page", stand_in: StandIn) -> None:
    sentences = "One sentence is here. Another one follows. And a third"
    page.evaluate(
        """() => {
            window.heard = [];
            const hear = (changes) =>
                heard.push(...changes.flatMap((change) => [...change.addedNodes].map((node) => node.textContent)));
            new MutationObserver(hear).observe(document.getElementById("announcements"), { childList: true });
        }"""
    )
    stand_in.answer = Answer(tuple(sentences), pause=0.002)
    ask_and_wait(page, "Hello")
    expect(answers(page)).to_have_text(sentences)
    heard = page.evaluate("heard")
    assert heard[0] == "Answering"
    assert heard[-1] == "Answer complete"
    assert " ".join(heard[1:-1]) == sentences
    assert len(heard) <= 5
    assert all(text.endswith(".") for text in heard[1:-2])


def test_page_follows_the_answer_until_the_reader_scrolls_away(page: "Page", stand_in: StandIn) -> None:
    from_the_end = "document.documentElement.scrollHeight - innerHeight - scrollY"
    stand_in.answer = Answer(("line\n",) * 300, pause=0.005)
    ask(page, "Hello")
    until(lambda: page.evaluate("scrollY > 300"))
    assert page.evaluate(from_the_end) < 100
    page.mouse.wheel(0, -2000)
    page.get_by_role("button", name="Go to the end").wait_for()
    ended(page)
    assert page.evaluate(from_the_end) > 300
    page.get_by_role("button", name="Go to the end").click()
    until(lambda: page.evaluate(from_the_end) < 5)
