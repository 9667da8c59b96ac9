"""The page's second tab: the numbers of page/state.json, as a reader sees them."""

import time
from typing import TYPE_CHECKING

import pytest

from tests.serve.page.stand_in import StandIn
from tests.serve.page.states import machine_state
from tests.serve.page.steps import until

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest.importorskip("playwright.sync_api", reason="the page's tests need the package playwright")
from playwright.sync_api import expect

ROWS_LE = [[210, 93, 150, 22, 5], [80, 100, 100, 100, 100]]
HOLDERS_LE = [[[0], [0], [0, 1], [1], [1]], [[0], [0], [0], [1], [1]]]


@pytest.fixture
def machine(page: "Page", stand_in: StandIn) -> "Page":
    """The tab, with a first state."""
    stand_in.state = machine_state(ROWS_LE, HOLDERS_LE, 10.0)
    page.get_by_role("tab", name="Machine").click()
    expect(page.locator(".cell")).to_have_count(10)
    return page


def test_first_state_shows_the_work_since_the_start(machine: "Page") -> None:
    shares = ["43.8", "19.4", "31.3", "4.6", "1.0", "16.7", "20.8", "20.8", "20.8", "20.8"]
    expect(machine.locator(".cell")).to_have_text(shares)  # 210 of 480 rows, ...
    # Nine shades from none to twice the mean of 96 rows: 210 is above, 93 has the one of the even share, 5 the least.
    shades = machine.locator(".cell").evaluate_all("cells => cells.map((cell) => cell.dataset.shade)")
    assert shades == ["8", "4", "7", "1", "0", "3", "4", "4", "4", "4"]
    expect(machine.locator("span.imbalance:not([role=columnheader])")).to_have_text(["2.19×", "1.04×"])
    expect(machine.locator("#heat-window")).to_contain_text("since the server started")
    expect(machine.locator("#step")).to_have_text("12.1 ms")
    expect(machine.locator("#requests")).to_have_text("3")
    expect(machine.locator("#requests-more")).to_have_text("1 of at most 256 waiting")
    expect(machine.locator("#kv")).to_have_text("13.2 %")
    expect(machine.locator("#kv-more")).to_have_text("25 % prefix reuse, 2 preempted")


def test_later_states_show_the_work_between_them(machine: "Page", stand_in: StandIn) -> None:
    rows_LE = [[210, 93, 150, 22, 105], [80, 100, 200, 200, 100]]
    stand_in.state = machine_state(rows_LE, HOLDERS_LE, 12.0, generated_tokens=700, prompt_tokens=4050)
    expect(machine.locator(".cell")).to_have_text(
        ["0.0", "0.0", "0.0", "0.0", "100.0", "0.0", "0.0", "50.0", "50.0", "0.0"]
    )
    expect(machine.locator("#throughput")).to_have_text("50.0")  # 100 tokens in 2 seconds
    expect(machine.locator("#throughput-more")).to_have_text("and 25.0 prompt tokens/s")
    expect(machine.locator("#heat-window")).to_contain_text("last 2 seconds")
    expect(machine.locator("#ranks tbody tr").first).to_contain_text("75.0/s")  # half of 300 rows in 2 seconds
    expect(machine.locator("#ranks tbody tr").first.locator(".dispatch")).to_have_text("10.0 %")
    machine.get_by_role("radio", name="Since start").check(force=True)
    expect(machine.locator(".cell").first).to_have_text("36.2")
    expect(machine.get_by_role("img", name="Throughput: now 50.0 tokens a second")).to_be_visible()


def test_placement_and_replicas(machine: "Page") -> None:
    machine.get_by_role("radio", name="Placement").check(force=True)
    cells = machine.locator(".cell")
    expect(cells.nth(2).locator("span")).to_have_text(["0", "1"])
    expect(cells.nth(9).locator("span")).to_have_text(["1"])
    assert cells.nth(2).evaluate("cell => cell.style.backgroundImage").count("var(--rank-") == 2
    expect(machine.locator(".legend")).to_have_text("rank 0rank 1")
    ranks = machine.locator("#ranks tbody tr")
    expect(ranks.nth(0).locator(".holds")).to_have_text("0–2in every layer, 1 replicated")
    expect(ranks.nth(1).locator(".holds")).to_have_text("5 of 10over all layers, 1 replicated")
    machine.get_by_role("radio", name="Load").check(force=True)
    expect(cells.first).to_have_text("43.8")


def test_cells_by_keyboard_and_by_pointer(machine: "Page") -> None:
    cells, detail = machine.locator(".cell"), machine.locator("#heat-detail")
    expect(machine.locator(".cell[tabindex='0']")).to_have_count(1)
    cells.first.focus()
    expect(detail).to_have_text(
        "Layer 0, expert 0: 43.8 % of the layer’s rows (210), 2.19 times the even share. Held by rank 0."
    )
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowRight"):  # the second one downwards finds no layer
        machine.keyboard.press(key)
    expect(cells.nth(7)).to_be_focused()
    machine.keyboard.press("Control+End")
    expect(cells.nth(9)).to_be_focused()
    cells.nth(2).hover()
    expect(detail).to_contain_text("Layer 0, expert 2: 31.3 %")
    expect(detail).to_contain_text("Held by ranks 0 and 1.")
    expect(cells.nth(2)).to_have_attribute("aria-label", detail.inner_text())


def test_numbers_as_a_table(machine: "Page") -> None:
    machine.locator("#heat-table summary").click()
    table = machine.get_by_role("region", name="Rows by layer and expert").get_by_role("table")
    expect(table.get_by_role("columnheader")).to_have_text([f"Expert {expert}" for expert in range(5)])
    expect(table.get_by_role("row", name="Layer 0")).to_contain_text("31.3 % · 150 · ranks 0 and 1")


def test_asks_only_while_it_is_seen(machine: "Page", stand_in: StandIn) -> None:
    polls_rise(stand_in)
    machine.evaluate(
        "Object.defineProperty(document, 'hidden', { value: true, configurable: true });"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    polls_rest(stand_in)
    machine.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    polls_rise(stand_in)
    machine.get_by_role("tab", name="Chat").click()
    polls_rest(stand_in)


def polls_rise(stand_in: StandIn) -> None:
    """Two more polls than now come within a few seconds."""
    wanted = stand_in.polls + 2
    until(lambda: stand_in.polls >= wanted)


def polls_rest(stand_in: StandIn) -> None:
    """No poll comes in more than the time between two of them; one may have been on its way."""
    time.sleep(0.2)
    before = stand_in.polls
    time.sleep(1.5)
    assert stand_in.polls == before


def test_loading_and_lost_servers(page: "Page", stand_in: StandIn) -> None:
    stand_in.state = {
        **machine_state([[0]], [[[0]]], 1.0, state="loading", loaded=0.43, reason="Reading the weights.", steps=0),
        "num_layers": 0,
        "num_experts": 0,
        "rows_LE": [],
        "imbalance_L": [],
        "holders_LE": [],
        "ranks": [],
    }
    page.get_by_role("tab", name="Machine").click()
    expect(page.locator("#machine-notice")).to_have_text("The model is loading: 43 %. Reading the weights.")
    expect(page.locator("#status")).to_have_text("tiny · Loading, 43 %")
    expect(page.locator("#work")).to_be_hidden()
    stand_in.state = {**stand_in.state, "state": "ready", "reason": None}  # no step has told of the ranks yet
    expect(page.locator("#no-work")).to_be_visible()
    stand_in.state = machine_state(ROWS_LE, HOLDERS_LE, 10.0)
    expect(page.locator(".cell")).to_have_count(10)
    expect(page.locator("#machine-notice")).to_be_hidden()
    expect(page.locator("#status")).to_have_text("tiny")
    page.route("**/state.json", lambda route: route.abort())
    expect(page.locator("#machine-notice")).to_contain_text("The server does not answer")


def test_server_started_anew_begins_a_new_history(machine: "Page", stand_in: StandIn) -> None:
    stand_in.state = machine_state([[1, 1, 2, 0, 0], [0, 0, 0, 0, 0]], HOLDERS_LE, 1.0)
    expect(machine.locator(".cell").first).to_have_text("25.0")
    expect(machine.locator(".cell").nth(5)).to_have_text("")
    expect(machine.locator("#throughput")).to_have_text("–")


def test_many_experts_and_layers(machine: "Page", stand_in: StandIn) -> None:
    rows_LE = [list(range(64)) for _ in range(27)]
    stand_in.state = machine_state(rows_LE, [[[expert % 9] for expert in range(64)] for _ in range(27)], 12.0)
    expect(machine.locator(".cell")).to_have_count(27 * 64)
    expect(machine.locator("#ranks tbody tr")).to_have_count(9)
    machine.set_viewport_size({"width": 360, "height": 740})
    assert machine.evaluate("document.documentElement.scrollWidth") <= 360
