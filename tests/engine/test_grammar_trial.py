"""Grammars that a request may not come with: refused with a reason, in bounded time, with the process alive."""

import json
import time

import pytest

from mixtralkit.engine import grammar_trial
from mixtralkit.engine.grammar_trial import try_grammar
from mixtralkit.engine.request import Grammar
from mixtralkit.errors import RequestError


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("regex", "(a", "unclosed group"),
        ("regex", r"(a)\1", "backreferences"),
        ("regex", "(?=a)b", "look-around"),
        ("regex", "(" * 30_000 + "a" + ")" * 30_000, "invalid regex"),
        ("json_schema", "{", "line 1 column"),
        ("json_schema", "[1]", "object"),
        ("json_schema", '{"type": "poem"}', "Invalid type: poem"),
        ("json_schema", '{"$ref": "http://example.com/schema.json"}', "not present in a registry"),
        ("json_schema", '{"$ref": "#"}', "No"),
        ("json_schema", '{"items":' * 5000 + "{}" + "}" * 5000, "recursion limit"),
        ("json_schema", '{"allOf": [{"type": "string"}, {"type": "integer"}]}', "Unsatisfiable"),
    ],
)
def test_faults_are_told(kind: str, text: str, reason: str) -> None:
    """By llguidance's own words, in a message that a client can be shown."""
    with pytest.raises(RequestError, match=f"^grammar cannot be used: .*{reason}") as caught:
        try_grammar(Grammar(kind, text))  # type: ignore[arg-type]
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "text",
    [
        '{"type": "integer", "multipleOf": 99999999}',  # llguidance counts remainders one by one
        json.dumps({"allOf": [{"type": "string", "pattern": f"(a|b)*a(a|b){{{i}}}c"} for i in range(100)]}),
    ],
)
def test_what_never_ends_is_ended(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ran for minutes where nothing stopped them."""
    monkeypatch.setattr(grammar_trial, "SECONDS", 1)
    began = time.process_time()
    with pytest.raises(RequestError, match="grammar cannot be prepared in 1 seconds"):
        try_grammar(Grammar("json_schema", text))
    assert time.process_time() - began < 1  # of this process, which only waits


@pytest.mark.parametrize(
    "grammar",
    [
        Grammar("json_object"),
        Grammar("json_schema", '{"type": "array", "items": {"type": "integer"}, "minItems": 2}'),
        Grammar("json_schema", '{"type": "string", "maxLength": 100000}'),
        Grammar("regex", r"(([a-z]{1,100}[0-9]){1,1000}x){1,1000}"),
        Grammar("regex", "(a|b)*a(a|b){200}"),
    ],
)
def test_good_grammars_pass(grammar: Grammar) -> None:
    """Also those that look expensive."""
    try_grammar(grammar)


def test_a_grammar_that_would_keep_others_waiting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each response prepares its own between two steps; here a limit that nothing meets."""
    monkeypatch.setattr(grammar_trial, "LONGEST", 0.0)
    schema = '{"type": "object", "properties": {"name": {"type": "string"}}}'
    told = grammar_trial.fault("json_schema", schema)
    assert told is not None
    assert told.startswith("grammar takes ")
