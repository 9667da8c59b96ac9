"""Random requests: prompts of drawn token ids, or of drawn words where a server's ids are not known."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from mixtralkit.bench.load.load_plan import LoadPlan

Prompt = str | tuple[int, ...]
Pool = Sequence[int] | Sequence[str]

# Frequent words, which most vocabularies have as one token each.
_WORDS = """
the of and to in is that was for on are with as at be this have from or had by but some what there we can out other
were all your when up use word how said an each she which do their time if will way about many then them would write
like so these her long make thing see him two has look more day could go come did my sound no most number who over
know water than call first people may down side been now find any new work part take get place made live where after
back little only round man year came show every good me give our under name very through just form much great think
say help low line before turn cause same mean differ move right boy old too does tell sentence set three want air well
also play small end put home read hand port large spell add even land here must big high such follow act why ask men
change went light kind off need house picture try us again animal point mother world near build self earth father head
stand own page should country found answer school grow study still learn plant cover food sun four
"""
WORDS = tuple(_WORDS.split())


@dataclass(frozen=True)
class LoadRequest:
    """What is sent, and how many tokens are asked for."""

    prompt: Prompt
    output_tokens: int


def load_requests(plan: LoadPlan, pool: Pool) -> list[LoadRequest]:
    """The requests of a plan, from ids or words of the `pool`; they begin with the same `shared_prefix` of them."""
    prefix = _drawn(random.Random(f"{plan.seed} prefix"), pool, plan.shared_prefix)
    return _requests(plan, pool, prefix, plan.requests, random.Random(f"{plan.seed} requests"))


def warm_up_requests(plan: LoadPlan, pool: Pool) -> list[LoadRequest]:
    """Others of the same lengths with a prefix of their own, so that nothing of the plan's is in a cache already."""
    random_numbers = random.Random(f"{plan.seed} warm-up")
    prefix = _drawn(random_numbers, pool, plan.shared_prefix)
    return _requests(plan, pool, prefix, plan.warm_up, random_numbers)


def _requests(
    plan: LoadPlan, pool: Pool, prefix: list[int | str], count: int, random_numbers: random.Random
) -> list[LoadRequest]:
    requests = []
    for _ in range(count):
        own = _drawn(random_numbers, pool, plan.input_tokens.draw(random_numbers))
        requests.append(LoadRequest(_prompt([*prefix, *own]), plan.output_tokens.draw(random_numbers)))
    return requests


def _drawn(random_numbers: random.Random, pool: Pool, count: int) -> list[int | str]:
    return [pool[random_numbers.randrange(len(pool))] for _ in range(count)]


def _prompt(pieces: Sequence[int | str]) -> Prompt:
    ids = tuple(piece for piece in pieces if isinstance(piece, int))
    return ids or " ".join(map(str, pieces))


def nonsense(words: int, seed: int) -> str:
    """Words of random letters, which a tokenizer cuts into many different tokens."""
    random_numbers = random.Random(f"{seed} nonsense")
    letters = "abcdefghijklmnopqrstuvwxyz"
    return " ".join("".join(random_numbers.choices(letters, k=random_numbers.randint(2, 8))) for _ in range(words))
