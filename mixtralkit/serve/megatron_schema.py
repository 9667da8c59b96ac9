"""The request of Megatron's text generation server. What is not honoured is refused, be it only a name."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from mixtralkit.serve.openai_schema import MOST_TOKENS, Checked, Text, Token

MOST_PROMPTS = 128
MOST_FIELDS = 64
Nothing = Annotated[float, Field(ge=0, le=0)]


class MegatronRequest(Checked):
    """PUT /api. Without top_k and top_p any token may be drawn; a top_k of 1 is greedy, and so is no randomness."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    prompts: Annotated[list[Text], Field(fail_fast=True, min_length=1, max_length=MOST_PROMPTS)]
    tokens_to_generate: Annotated[int, Field(ge=0, le=MOST_TOKENS)] = 64
    logprobs: bool = False
    temperature: Annotated[float, Field(gt=0, le=100)] = 1.0
    top_k: Annotated[int, Field(ge=0, le=1000)] = 0
    top_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    add_BOS: bool = False
    stop_on_eol: bool = False
    stop_on_double_eol: bool = False
    random_seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None
    stop_token: Token | None = None
    # Values that change nothing; clients send them.
    no_log: bool = False
    top_p_decay: Nothing = 0
    top_p_bound: Nothing = 0
    prevent_newline_after_colon: Literal[False] = False
    length_penalty: Annotated[float, Field(ge=1, le=1)] = 1

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, given: Any) -> Any:
        for name, reason in _REFUSED.items():
            if isinstance(given, dict) and name in given:
                raise ValueError(f"{name} {reason}")
        if isinstance(given, dict) and len(given) > MOST_FIELDS:  # an error for each of thousands would take long
            raise ValueError(f"{len(given)} fields are given, and there are {len(cls.model_fields)}")
        return given

    @model_validator(mode="after")
    def _fits_together(self) -> "MegatronRequest":
        if self.tokens_to_generate == 0 and not self.logprobs:
            raise ValueError("tokens_to_generate=0 implies logprobs should be True")
        if self.top_k and self.top_p:
            raise ValueError("cannot set both top-k and top-p samplings")
        if not self.add_BOS and not all(self.prompts):
            raise ValueError("empty prompts require add_BOS=true")
        return self


_REFUSED = {
    "max_len": "is no longer used; replace it with tokens_to_generate",
    "sentences": "is no longer used; replace it with prompts",
    "beam_width": "is not supported: there is no beam search",
}
