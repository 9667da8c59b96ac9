"""Requests drawn at random, as no two clients send them: routes, prompts, lengths, sampling, stops, forms."""

import json
import random
from dataclasses import dataclass
from typing import Any

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
SPEECH = """
O Romeo, Romeo! wherefore art thou Romeo? Deny thy father and refuse thy name; or, if thou wilt not, be but sworn my
love, and I'll no longer be a Capulet. KING: 3.14
"""
WORDS = (
    *SPEECH.split(),
    "\n\n",
    "\t",
    "\x1b[31mred\x1b[0m",
    "naïve",
    "日本語",
    "🎭",
    "<b>&amp;</b>",
    "\\n",
    "{}",
    "''\"",
)
STOPS = ("\n", "\n\n", ".", ",", " the", "e", "you", "And", ":", "!", "king", "🎭")
REGEXES = ("[a-z]{1,8}( [a-z]{1,8}){0,5}", "(yes|no|perhaps)", r"\d{1,4}-\d{2}")
SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}}}


@dataclass(frozen=True)
class Asked:
    """A request; the same one may be sent as a stream and as a whole."""

    path: str
    fields: dict[str, Any]

    def body(self, *, stream: bool) -> bytes:
        """As it is sent."""
        return json.dumps({**self.fields, "stream": stream}).encode()


class RandomBodies:
    """Draws requests for a model with so many tokens in its vocabulary; `longest` bounds prompts and responses.

    Some prompts begin alike, so that blocks are shared.
    """

    def __init__(self, numbers: random.Random, vocabulary: int, longest: int) -> None:
        self._random = numbers
        self._vocabulary = vocabulary
        self._longest = longest
        beginnings = random.Random(0)  # the same for every client
        self._beginnings = [self._ids(beginnings, longest // 4) for _ in range(4)]

    def draw(self) -> Asked:
        """A request that is to be answered, with a seed."""
        chat = self._random.random() < 0.25
        fields = self._chat() if chat else self._completion()
        fields |= {"seed": self._random.getrandbits(32), "max_tokens": self._length(self._longest // 3)}
        fields |= self._some(0.5, self._sampling()) | self._some(0.3, self._ends()) | self._form(fields)
        return Asked(CHAT if chat else COMPLETIONS, fields)

    def endless(self) -> Asked:
        """A request of which much comes back, for who does not want to read that."""
        fields = {"prompt": self._text(20), "max_tokens": self._longest, "ignore_eos": True, "logprobs": 20}
        return Asked(COMPLETIONS, fields)

    def _completion(self) -> dict[str, Any]:
        several = self._random.randint(2, 3) if self._random.random() < 0.1 else 1
        kind = self._random.choice((self._prompt_ids, lambda: self._text(self._length(self._longest // 6))))
        prompts = [kind() for _ in range(several)]
        told = self._some(0.2, {"logprobs": self._random.randint(0, 5)})
        echoed = self._some(0.15, {"echo": True})
        return {"prompt": prompts if several > 1 else prompts[0], "return_token_ids": True, **told, **echoed}

    def _chat(self) -> dict[str, Any]:
        turns = 2 * self._random.randrange(2) + 1
        roles = ("user", "assistant")
        messages = [
            {"role": roles[turn % 2], "content": self._text(self._length(self._longest // 12))} for turn in range(turns)
        ]
        return {"messages": messages, **self._some(0.2, {"logprobs": True, "top_logprobs": self._random.randint(0, 3)})}

    def _sampling(self) -> dict[str, Any]:
        uniform = self._random.uniform
        every: dict[str, Any] = {
            "temperature": uniform(0.2, 1.5),
            "top_p": uniform(0.3, 1),
            "top_k": self._random.randint(1, 100),
            "min_p": uniform(0, 0.3),
            "presence_penalty": uniform(-2, 2),
            "frequency_penalty": uniform(-2, 2),
            "repetition_penalty": uniform(0.8, 1.5),
            "logit_bias": {str(self._token()): uniform(-100, 20) for _ in range(3)},
        }
        return {name: value for name, value in every.items() if self._random.random() < 0.4}

    def _ends(self) -> dict[str, Any]:
        every: dict[str, Any] = {
            "stop": self._random.sample(STOPS, self._random.randint(1, 4)),
            "stop_token_ids": [self._token() for _ in range(5)],
            "ignore_eos": True,
            "min_tokens": 1,
        }
        return {name: value for name, value in every.items() if self._random.random() < 0.6}

    def _form(self, fields: dict[str, Any]) -> dict[str, Any]:
        """How many responses, greedy or not, and whether they have to follow a grammar."""
        form: dict[str, Any] = self._some(0.2, {"n": self._random.randint(2, 4)})
        if "temperature" not in fields:
            form["temperature"] = self._random.choice((0, 0, 0.8, 1))
        grammars = ({"guided_regex": self._random.choice(REGEXES)}, {"guided_json": SCHEMA})
        return form | self._some(0.04, self._random.choice(grammars))

    def _prompt_ids(self) -> list[int]:
        beginning = self._random.choice(self._beginnings) if self._random.random() < 0.4 else []
        return [*beginning, *self._ids(self._random, self._length(self._longest // 3))]

    def _ids(self, numbers: random.Random, count: int) -> list[int]:
        return [numbers.randrange(3, self._vocabulary) for _ in range(count)]

    def _token(self) -> int:
        return self._random.randrange(3, self._vocabulary)

    def _text(self, words: int) -> str:
        return " ".join(self._random.choices(WORDS, k=words))

    def _length(self, most: int) -> int:
        """Short ones are likelier, as in life."""
        return max(1, int(most ** self._random.uniform(0.2, 1)))

    def _some(self, share: float, fields: dict[str, Any]) -> dict[str, Any]:
        return fields if self._random.random() < share else {}
