"""client.models and client.completions."""

from collections.abc import Callable, Mapping

from acceptance.finding import expect
from acceptance.openai_client.clients import PROMPT, Server


def models(server: Server) -> str:
    """The one model, listed and looked up."""
    client = server.client()
    names = [model.id for model in client.models.list()]
    expect(names == [server.model], f"models.list() has {names}")
    found = client.models.retrieve(server.model)
    expect(found.object == "model" and found.created > 0, f"models.retrieve() has {found}")
    return names[0]


def length(server: Server) -> str:
    """max_tokens and ignore_eos give exactly so many tokens; the counts add up."""
    answer = server.client().completions.create(
        model=server.model, prompt=PROMPT, max_tokens=40, temperature=0, extra_body={"ignore_eos": True}
    )
    usage, choice = answer.usage, answer.choices[0]
    assert usage is not None
    expect(usage.completion_tokens == 40 and choice.finish_reason == "length", f"{usage}, {choice.finish_reason}")
    expect(usage.total_tokens == usage.prompt_tokens + 40, f"{usage}")
    return f"{usage.prompt_tokens} + 40 tokens, {choice.text[:30]!r}"


def stream(server: Server) -> str:
    """The pieces of a stream are the text of the answer in one piece, and usage comes last."""
    client = server.client()
    whole = client.completions.create(model=server.model, prompt=PROMPT, max_tokens=48, seed=7)
    chunks = list(
        client.completions.create(
            model=server.model,
            prompt=PROMPT,
            max_tokens=48,
            seed=7,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(chunk.choices[0].text for chunk in chunks[:-1])
    expect(text == whole.choices[0].text, f"{text!r} is not {whole.choices[0].text!r}")
    expect(chunks[-1].choices == [] and chunks[-1].usage == whole.usage, f"the last chunk is {chunks[-1]}")
    expect(chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason, f"{chunks[-2]}")
    return f"{len(chunks)} chunks, {len(text)} characters"


def logprobs(server: Server) -> str:
    """Parallel lists over prompt and response; the chosen token's number is the one in top_logprobs."""
    answer = server.client().completions.create(
        model=server.model, prompt=PROMPT, max_tokens=8, temperature=0, logprobs=3, echo=True
    )
    told, usage = answer.choices[0].logprobs, answer.usage
    assert told is not None
    assert usage is not None
    assert told.tokens is not None
    assert told.token_logprobs is not None
    assert told.top_logprobs is not None
    assert told.text_offset is not None
    lengths = {len(told.tokens), len(told.token_logprobs), len(told.top_logprobs), len(told.text_offset)}
    expect(lengths == {usage.total_tokens}, f"{lengths} entries for {usage.total_tokens} tokens")
    first, *others = told.token_logprobs
    expect(first is None, f"the first token of all has {first}")
    for token, number, top in zip(told.tokens[1:], others, told.top_logprobs[1:], strict=True):
        expect(top[token] == number, f"{token!r} has {number}, and {top}")
    greedy = [max(top.values()) for top in told.top_logprobs[usage.prompt_tokens :]]
    expect(others[usage.prompt_tokens - 1 :] == greedy, "a greedy token is not the likeliest one")
    return f"{len(told.tokens)} entries, {sum(others):.3f} nats"


def alternatives(server: Server) -> str:
    """N responses of one seed: different, and the same each time; the first is that of the seed alone."""
    client = server.client()
    several = [client.completions.create(model=server.model, prompt=PROMPT, n=3, seed=11) for _ in range(2)]
    texts = [[choice.text for choice in answer.choices] for answer in several]
    single = client.completions.create(model=server.model, prompt=PROMPT, seed=11).choices[0].text
    expect(texts[0] == texts[1] and len(set(texts[0])) == 3, f"{texts}")
    expect([choice.index for choice in several[0].choices] == [0, 1, 2], f"{several[0].choices}")
    expect(texts[0][0] == single, f"{texts[0][0]!r} is not {single!r}")
    return f"3 texts, twice: {', '.join(repr(text[:12]) for text in texts[0])}"


def stop(server: Server) -> str:
    """A stop string ends the response before it."""
    client = server.client()
    free = client.completions.create(model=server.model, prompt=PROMPT, max_tokens=60, temperature=0).choices[0].text
    word = free.split()[4]
    answer = client.completions.create(
        model=server.model, prompt=PROMPT, max_tokens=60, temperature=0, stop=[word, "no such word"]
    )
    choice = answer.choices[0]
    expect(choice.finish_reason == "stop", f"finish_reason {choice.finish_reason}")
    expect(choice.text == free[: free.index(word)], f"{choice.text!r} is not what stands before {word!r} in {free!r}")
    return f"{choice.text!r} before {word!r}"


def prompts(server: Server) -> str:
    """Several texts, token ids, and lists of ids; the choices are in the order of the prompts."""
    client = server.client()
    texts = ["ROMEO:\n", "JULIET:\n", "ACT I\n"]
    alone = [_greedy(server, text) for text in texts]
    together = client.completions.create(model=server.model, prompt=texts, max_tokens=12, temperature=0)
    expect([choice.text for choice in together.choices] == alone, f"{together.choices} is not {alone}")
    told = client.completions.create(
        model=server.model, prompt=PROMPT, max_tokens=12, temperature=0, extra_body={"return_token_ids": True}
    )
    ids = (told.choices[0].model_extra or {})["prompt_token_ids"]
    for prompt in (ids, [ids, ids]):
        answer = client.completions.create(model=server.model, prompt=prompt, max_tokens=12, temperature=0)
        expect({choice.text for choice in answer.choices} == {alone[0]}, f"{prompt} gives {answer.choices}")
    return f"{len(texts)} texts, and ids {ids}"


def vllm_fields(server: Server) -> str:
    """What only vLLM's clients send is honoured, and unknown fields are no error."""
    greedy = _greedy(server, PROMPT)
    for name, value in {"top_k": 1, "min_p": 1.0, "some_unknown_field": {"a": 1}}.items():
        temperature = 0 if name.startswith("some") else 1
        answer = server.client().completions.create(
            model=server.model, prompt=PROMPT, max_tokens=12, temperature=temperature, extra_body={name: value}
        )
        expect(answer.choices[0].text == greedy, f"{name} {value}: {answer.choices[0].text!r} is not {greedy!r}")
    answer = server.client().completions.create(
        model=server.model, prompt=PROMPT, extra_body={"structured_outputs": {"regex": "(yes|no)"}}
    )
    expect(answer.choices[0].text in ("yes", "no"), f"{answer.choices[0].text!r}")
    return "top_k, min_p, structured_outputs, an unknown field"


def bias(server: Server) -> str:
    """A bias of 100 leaves one token, and of -100 none of it."""
    client = server.client()
    told = client.completions.create(
        model=server.model, prompt=PROMPT, max_tokens=1, temperature=0, extra_body={"return_token_ids": True}
    )
    (token,) = (told.choices[0].model_extra or {})["token_ids"]
    for value, times in ((100, 6), (-100, 0)):
        answer = client.completions.create(
            model=server.model,
            prompt=PROMPT,
            max_tokens=6,
            logit_bias={str(token): value},
            extra_body={"return_token_ids": True, "ignore_eos": True},
        )
        ids = (answer.choices[0].model_extra or {})["token_ids"]
        expect(ids.count(token) == times, f"{value}: {ids}")
    return f"token {token}"


def _greedy(server: Server, prompt: str) -> str:
    answer = server.client().completions.create(model=server.model, prompt=prompt, max_tokens=12, temperature=0)
    return answer.choices[0].text


CHECKS: Mapping[str, Callable[[Server], str]] = {
    "models": models,
    "completions: exactly the tokens asked for": length,
    "completions: a stream with usage": stream,
    "completions: logprobs with echo": logprobs,
    "completions: n and seed": alternatives,
    "completions: stop": stop,
    "completions: kinds of prompts": prompts,
    "completions: logit_bias": bias,
    "completions: vLLM's fields": vllm_fields,
}
