"""Requests that are refused, and with what: the same list for every client, who sends one now and then."""

import json

COMPLETIONS = "/v1/completions"


def _asking(**fields: object) -> bytes:
    return json.dumps({"prompt": "to be", "max_tokens": 4, **fields}).encode()


REFUSED: tuple[tuple[str, bytes, int], ...] = (
    (COMPLETIONS, b"{", 400),
    (COMPLETIONS, b"", 400),
    (COMPLETIONS, b'{"prompt": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", 400),
    (COMPLETIONS, b'{"prompt": "a", "temperature": NaN}', 400),
    (COMPLETIONS, b'{"prompt": "a", "temperature": 1e400}', 400),
    (COMPLETIONS, b'{"prompt": "\\ud800"}', 400),
    (COMPLETIONS, b'{"prompt": "a\\u0000"}', 400),
    (COMPLETIONS, b'{"prompt": "\xff"}', 400),
    (COMPLETIONS, _asking(prompt="to be " * 1000), 400),
    (COMPLETIONS, _asking(prompt=[10**6]), 400),
    (COMPLETIONS, _asking(prompt=[-1]), 400),
    (COMPLETIONS, _asking(n=10**6), 400),
    (COMPLETIONS, _asking(max_tokens=-1), 400),
    (COMPLETIONS, _asking(logprobs=-1), 400),
    (COMPLETIONS, _asking(guided_regex="("), 400),
    (COMPLETIONS, _asking(guided_json={"type": "nothing"}), 400),
    (COMPLETIONS, _asking(model="another"), 404),
    (COMPLETIONS, b'{"prompt": "' + b"a" * 5_000_000 + b'"}', 413),
    ("/v1/chat/completions", b'{"messages": [{"role": "nobody", "content": "a"}]}', 400),
    ("/v1/chat/completions", b'{"messages": []}', 400),
    ("/v1/nothing", b"{}", 404),
    ("/tokenize", b"{}", 400),
    ("/detokenize", b'{"tokens": [-5]}', 400),
)
