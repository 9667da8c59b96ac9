"""What a step is predicted to be fastest with: cuts and dispatches, on links and machines made up for the purpose."""

from dataclasses import replace

import pytest

from mixtralkit.dist.topology import Topology
from mixtralkit.moe.placement.cost import ExpertShape, Rates, layer_time
from mixtralkit.moe.placement.plan import even_split, same_for_all
from mixtralkit.moe.step_choice import CUTS, WORTH_IT, StepChooser

LAYERS = 3
SHAPE = ExpertShape(width=64, hidden=224, weight_bytes=6 * 64 * 224, row_bytes=256, top_k=2)
TWO_NODES = Topology((0, 1))
# A row takes as long to the other node as to be computed, 86 us; a message 2 ms.
SLOW = Rates(1e10, 256 / 86e-6, 1e-6, 2e-3, compute=1e9, weight_bandwidth=1e10)
FAST = replace(SLOW, network_bandwidth=1e12)
PREFILL, DECODE = (2048, 2048), (4, 4)


def chooser(
    rates: Rates = SLOW, cuts: tuple[int, ...] = CUTS, dispatches: tuple[str, ...] = ("collective",)
) -> StepChooser:
    made = StepChooser(dispatches=dispatches, cuts=cuts, topology=TWO_NODES, rates=rates, shape=SHAPE)
    made.place(same_for_all(even_split(8, 2), LAYERS))
    return made


def test_a_large_prefill_is_cut_on_a_slow_network_and_a_decode_step_is_not() -> None:
    chosen = chooser()
    assert chosen.choose(PREFILL).parts >= 4
    assert chosen.choose(DECODE).parts == 1


def test_nothing_is_cut_where_rows_take_no_time() -> None:
    chosen = chooser(FAST)
    assert [chosen.choose(tokens).parts for tokens in (PREFILL, DECODE)] == [1, 1]


def test_no_part_is_made_of_fewer_tokens_than_predictions_hold_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the rank that has most; such cuts are not even predicted, which is Python between two steps."""
    predicted: list[int] = []

    def predict(self: StepChooser, dispatch: str, parts: int, tokens_W: tuple[int, ...]) -> float:
        predicted.append(parts)
        return 0.0

    monkeypatch.setattr(StepChooser, "predict", predict)
    for tokens, cuts in ((0, [1]), (63, [1]), (64, [1, 2]), (100, [1, 2, 3]), (256, list(CUTS))):
        chooser().choose((tokens // 2, tokens))
        assert predicted == cuts
        predicted.clear()


@pytest.mark.parametrize("rates", [SLOW, FAST])
@pytest.mark.parametrize("tokens_W", [PREFILL, DECODE, (0, 0)])
def test_a_forced_cut_stays(rates: Rates, tokens_W: tuple[int, int]) -> None:
    assert chooser(rates, cuts=(3,)).choose(tokens_W).parts == 3


def test_a_gain_too_small_to_be_sure_of_is_left() -> None:
    """Rates are searched between the two at which the best cut is just not, and just, worth it."""
    low, high = 86e-6 / 50, 86e-6  # seconds of a row on the network
    for _ in range(40):
        middle = (low + high) / 2
        cut = chooser(replace(SLOW, network_bandwidth=256 / middle)).choose(PREFILL).parts > 1
        low, high = (low, middle) if cut else (middle, high)
    for seconds_a_row, cuts in ((low, False), (high, True)):
        made = chooser(replace(SLOW, network_bandwidth=256 / seconds_a_row))
        whole = made.predict("collective", 1, PREFILL)
        best = min(choice.seconds for choice in made.alternatives(PREFILL))
        assert best == pytest.approx(WORTH_IT * whole, rel=1e-6)
        assert (best < WORTH_IT * whole) == cuts == (made.choose(PREFILL).parts > 1)
        assert made.choose(PREFILL).seconds == (best if cuts else whole)


def test_of_equals_the_first_dispatch_in_one_piece_is_taken() -> None:
    """On one rank nothing travels, and everything takes the same time."""
    made = StepChooser(
        dispatches=("collective", "all_gather"), cuts=CUTS, topology=Topology((0,)), rates=SLOW, shape=SHAPE
    )
    made.place([even_split(8, 1)])
    choice = made.choose((16,))
    assert (choice.dispatch, choice.parts) == ("collective", 1)


def test_few_messages_for_few_tokens_and_few_bytes_for_many() -> None:
    """On four nodes all-gather sends tokens thrice; collective sends rows, and a message more."""
    far = replace(SLOW, network_latency=0.05)
    made = StepChooser(
        dispatches=("collective", "all_gather"), cuts=(1,), topology=Topology((0, 1, 2, 3)), rates=far, shape=SHAPE
    )
    made.place([even_split(8, 4)])
    assert made.choose((1, 1, 1, 1)).dispatch == "all_gather"
    assert made.choose((512,) * 4).dispatch == "collective"


def test_a_prediction_is_that_of_the_cost_model_for_all_layers() -> None:
    """By hand: 8 tokens a rank have 16 rows, 2 for each expert."""
    demand_WE = [[2.0] * 8] * 2
    one = layer_time(demand_WE, even_split(8, 2), TWO_NODES, SLOW, SHAPE).total
    assert chooser().predict("collective", 1, (8, 8)) == pytest.approx(LAYERS * one)


def test_the_load_counts_once_it_is_known() -> None:
    """All rows of layer 0 go to rank 1's expert 5, those of the others as before: no row of rank 1 leaves it there."""
    made = chooser()
    placements = same_for_all(even_split(8, 2), LAYERS)
    even, hot = [[1.0] * 8] * 2, [[7.0 * (expert == 5) for expert in range(8)]] * 2
    made.place(placements, [hot, even, even])
    rows = [[16.0 * (expert == 5) for expert in range(8)]] * 2
    one = layer_time(rows, placements[0], TWO_NODES, SLOW, SHAPE).total
    others = chooser().predict("collective", 1, (8, 8)) * 2 / LAYERS
    assert made.predict("collective", 1, (8, 8)) == pytest.approx(one + others)


def test_a_new_placement_is_looked_at_anew() -> None:
    """With every expert on every rank nothing travels, so there is nothing to cut."""
    made = chooser()
    assert made.choose(PREFILL).parts > 1
    everywhere = even_split(8, 2)
    for expert in range(8):
        everywhere = everywhere.with_replica(expert, 0).with_replica(expert, 1)
    made.place(same_for_all(everywhere, LAYERS))
    assert made.choose(PREFILL).parts == 1


def test_a_load_of_nothing_is_even() -> None:
    made = chooser()
    expected = made.predict("collective", 1, PREFILL)
    made.place(same_for_all(even_split(8, 2), LAYERS), [[[0.0] * 8] * 2] * LAYERS)
    assert made.predict("collective", 1, PREFILL) == pytest.approx(expected)
