"""llama.cpp's times, through the C functions of llama-cpp-python: `python llama_cpp_steps.py FILE THREADS`."""

import sys
from collections.abc import Sequence

import llama_cpp
from shape import BATCH_SIZES, MEASURES, PREFILL, PROMPT, milliseconds_of, random_tokens, second_milliseconds, tell


class Context:
    """A loaded file with room for as many requests as the largest batch has."""

    def __init__(self, file: str, threads: int) -> None:
        llama_cpp.llama_backend_init()
        model = llama_cpp.llama_model_load_from_file(file.encode(), llama_cpp.llama_model_default_params())
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = 8192
        params.n_batch = params.n_ubatch = PREFILL
        params.n_seq_max = max(BATCH_SIZES)
        params.n_threads = params.n_threads_batch = threads
        self._context = llama_cpp.llama_init_from_model(model, params)

    def clear(self) -> None:
        """Forget all requests."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)

    def run(self, positions: Sequence[int], requests: Sequence[int], last: Sequence[bool]) -> None:
        """Random tokens at those positions of those requests; logits after the `last` ones."""
        batch = llama_cpp.llama_batch_init(len(positions), 0, 1)
        batch.n_tokens = len(positions)
        for i, token in enumerate(random_tokens(len(positions))):
            batch.token[i], batch.pos[i], batch.logits[i] = token, positions[i], last[i]
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, requests[i]
        if status := llama_cpp.llama_decode(self._context, batch):
            raise SystemExit(f"llama_decode: {status}")
        llama_cpp.llama_get_logits_ith(self._context, -1)
        llama_cpp.llama_batch_free(batch)

    def prompt(self, request: int, length: int) -> None:
        """Take in a prompt."""
        self.run(range(length), [request] * length, [False] * (length - 1) + [True])


def decode(context: Context, size: int) -> float:
    """Milliseconds of a step of `size` requests."""
    context.clear()
    for request in range(size):
        context.prompt(request, PROMPT)
    return milliseconds_of(lambda position: context.run([position] * size, range(size), [True] * size), PROMPT)


def prefill(context: Context) -> float:
    """Milliseconds of a long prompt."""

    def run() -> None:
        context.clear()
        context.prompt(0, PREFILL)

    return second_milliseconds(run)


if __name__ == "__main__":
    opened = Context(sys.argv[1], int(sys.argv[2]))
    times = [*(decode(opened, size) for size in BATCH_SIZES), prefill(opened)]
    tell(dict(zip(MEASURES, times, strict=True)))
