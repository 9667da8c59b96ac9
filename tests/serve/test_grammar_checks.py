"""Grammars that take long to be checked: they keep nobody else waiting, and not too many wait for them."""

import asyncio
import threading
import time
from pathlib import Path

import pytest

from mixtralkit.engine import grammar as grammar_module
from mixtralkit.engine.grammar import KEPT, Grammars
from mixtralkit.engine.grammar_trial import Unjudged
from mixtralkit.engine.request import Grammar
from mixtralkit.errors import RequestError
from mixtralkit.serve.come_again import ComeAgain
from mixtralkit.serve.grammar_checks import MOST_WAITING, GrammarChecks
from mixtralkit.serve.http_errors import HttpError
from tests.small_tokenizer import small_tokenizer

SLOW, BAD = Grammar("regex", "slow"), Grammar("regex", "bad")


class Trials:
    """Instead of trials in other processes; the slow grammar's ends when a test says so."""

    def __init__(self) -> None:
        self.asked: list[Grammar] = []
        self.go_on = threading.Event()

    def __call__(self, grammar: Grammar) -> None:
        """As `try_grammar`."""
        self.asked.append(grammar)
        if grammar == SLOW:
            assert self.go_on.wait(10)
        if grammar == BAD:
            raise RequestError("grammar cannot be used")


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> Trials:
    trials = Trials()
    monkeypatch.setattr(grammar_module, "try_grammar", trials)
    return trials


@pytest.fixture
def grammars(tmp_path: Path, trials: Trials) -> Grammars:
    return Grammars(small_tokenizer(tmp_path))


def checks(deadline: float = 10.0) -> GrammarChecks:
    return GrammarChecks(ComeAgain(lambda: 0), deadline)


def test_faults_are_remembered_too(grammars: Grammars, trials: Trials) -> None:
    """For so many grammars, the last ones."""
    for _ in range(3):
        with pytest.raises(RequestError):
            grammars.check(BAD)
    assert trials.asked == [BAD]
    for number in range(KEPT):
        grammars.check(Grammar("regex", str(number)))
    assert not grammars.knows(BAD)
    assert grammars.knows(Grammar("regex", str(KEPT - 1)))


def test_a_busy_machine_is_not_held_against_a_grammar(grammars: Grammars, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(grammar: Grammar) -> None:
        raise Unjudged("busy")

    async def ask() -> None:
        with pytest.raises(HttpError) as refused:
            await checks()(grammars, SLOW, 0.0)
        assert refused.value.status == 503
        assert "retry-after" in refused.value.headers

    monkeypatch.setattr(grammar_module, "try_grammar", busy)
    asyncio.run(ask())
    assert not grammars.knows(SLOW)


def test_one_check_is_for_all_who_ask(grammars: Grammars, trials: Trials) -> None:
    async def ask() -> None:
        check = checks()
        waiting = [asyncio.create_task(check(grammars, SLOW, 0.0)) for _ in range(MOST_WAITING + 5)]
        await asyncio.sleep(0)
        trials.go_on.set()
        await asyncio.gather(*waiting)
        await check(grammars, SLOW, 0.0)
        check.close()

    asyncio.run(ask())
    assert trials.asked == [SLOW]


def test_not_too_many_wait(grammars: Grammars, trials: Trials) -> None:
    """What has been checked needs not wait."""

    async def ask() -> None:
        check = checks()
        await check(grammars, Grammar("regex", "known"), 0.0)
        others = [Grammar("regex", str(number)) for number in range(MOST_WAITING - 1)]
        waiting = [asyncio.create_task(check(grammars, grammar, 0.0)) for grammar in (SLOW, *others)]
        await asyncio.sleep(0)
        with pytest.raises(HttpError) as refused:
            await check(grammars, Grammar("regex", "one more"), 0.0)
        assert refused.value.status == 429
        await check(grammars, Grammar("regex", "known"), 0.0)
        trials.go_on.set()
        await asyncio.gather(*waiting)
        await check(grammars, Grammar("regex", "one more"), 0.0)
        check.close()

    asyncio.run(ask())


def test_the_time_counts_from_the_requests_arrival(grammars: Grammars, trials: Trials) -> None:
    async def ask() -> None:
        check = checks(deadline=5.0)
        began = time.monotonic()
        with pytest.raises(HttpError, match="not answered within 5 s"):
            await check(grammars, SLOW, 4.9)
        assert time.monotonic() - began < 4
        trials.go_on.set()
        check.close()

    asyncio.run(ask())
