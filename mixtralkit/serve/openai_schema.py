"""The requests of OpenAI's routes, with the fields that clients send to vLLM, as the OpenAPI page shows them.

Every count has a bound here, so nothing is allocated for a number that somebody made up. `null` means the default, as
in OpenAI's API. Fields that are not listed are ignored, once a name with a line in the log; those of `REFUSED` ask for
something else than the default to be done, and are refused.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

MOST_CHOICES = 128
MOST_PROMPTS = 1024
MOST_TOKENS = 1 << 20  # a million: no context is that long
MOST_LOGPROBS = 20
MOST_BIASES = 1024
MOST_STOPS = 32
MOST_MESSAGES = 2048


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("NUL (U+0000) is not text")
    return text


Text = Annotated[str, AfterValidator(_without_nul)]
StopText = Annotated[Text, Field(min_length=1, max_length=1024)]
Token = Annotated[int, Field(ge=0, lt=1 << 31)]
Tokens = Annotated[list[Token], Field(fail_fast=True, max_length=MOST_TOKENS)]
Bias = Annotated[float, Field(ge=-100, le=100)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Count = Annotated[int, Field(ge=0, le=MOST_TOKENS)]
JsonObject = dict[str, Any]


class Checked(BaseModel):
    """A number is no text, NaN is no number, and what is not listed is kept to be looked at."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class StreamOptions(Checked):
    """Whether a stream tells the counts of tokens: at its end, or in every chunk."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class JsonSchema(Checked):
    """A named schema; it is followed, `strict` or not."""

    name: Annotated[str, Field(max_length=256)] | None = None
    description: str | None = None
    strict: bool | None = None
    schema_: JsonObject = Field(alias="schema")


class ResponseFormat(Checked):
    """Text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StructuredOutputs(Checked):
    """vLLM's way to ask for the same, and for a regular expression; one of the three."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    json_: JsonObject | str | None = Field(None, alias="json")
    regex: str | None = None
    json_object: bool | None = None

    @model_validator(mode="after")
    def _is_one(self) -> "StructuredOutputs":
        if (self.json_ is not None) + (self.regex is not None) + bool(self.json_object) != 1:
            raise ValueError("give one of json, regex and json_object")
        return self


class SamplingFields(Checked):
    """What /v1/completions and /v1/chat/completions have in common."""

    model: Annotated[str, Field(max_length=1024)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    best_of: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    max_tokens: Count | None = None
    min_tokens: Count | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, lt=1 << 31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    stop: StopText | Annotated[list[StopText], Field(fail_fast=True, max_length=MOST_STOPS)] | None = None
    stop_token_ids: Annotated[list[Token], Field(fail_fast=True, max_length=MOST_STOPS)] | None = None
    ignore_eos: bool | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    logit_bias: Annotated[dict[Token, Bias], Field(max_length=MOST_BIASES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: JsonObject | str | None = None
    guided_regex: str | None = None
    priority: Annotated[int, Field(ge=-1000, le=1000)] | None = None
    user: str | None = None


class CompletionRequest(SamplingFields):
    """POST /v1/completions."""

    prompt: (
        Text
        | Annotated[list[Text], Field(fail_fast=True, min_length=1, max_length=MOST_PROMPTS)]
        | Annotated[Tokens, Field(min_length=1)]
        | Annotated[list[Tokens], Field(fail_fast=True, min_length=1, max_length=MOST_PROMPTS)]
    ) = Field(description="a text, a list of texts, a list of token ids or a list of such lists")
    logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    echo: bool | None = None
    return_token_ids: bool | None = None


class TextPart(Checked):
    """A piece of a message's text."""

    type: Literal["text"]
    text: Text


class ChatMessage(Checked):
    """One turn of a conversation; "developer" is OpenAI's newer word for "system"."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[TextPart], Field(fail_fast=True, max_length=MOST_MESSAGES)]

    @property
    def text(self) -> str:
        """The content in one piece."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


Messages = Annotated[list[ChatMessage], Field(fail_fast=True, min_length=1, max_length=MOST_MESSAGES)]


class ChatRequest(SamplingFields):
    """POST /v1/chat/completions."""

    messages: Messages
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None


# Values of unlisted fields that change nothing; with any other value the request asks for what is not done here.
REFUSED: dict[str, tuple[object, ...]] = {
    "suffix": (None, ""),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "use_beam_search": (None, False),
    "guided_choice": (None, []),
    "guided_grammar": (None, ""),
    "prompt_logprobs": (None,),
    "modalities": (None, ["text"]),
    "audio": (None,),
}
