"""A new grammar is compiled in a process of its own first, with little time and memory.

llguidance bounds most of what a grammar can cost, but not all: there are small schemas that it never finishes, in
code that cannot be interrupted. A process can be ended.
"""

import json
import subprocess
import sys
import time

from mixtralkit.engine.guidance import ByteTokens, compile_grammar, guidance_tokenizer
from mixtralkit.engine.request import Grammar
from mixtralkit.errors import RequestError

SECONDS = 2  # of CPU time, for Python's start too; a large schema takes tenths of a second
LONGEST = 0.15  # seconds of CPU time for the grammar alone: a step prepares one for each response that begins in it
PATIENCE = 20.0  # seconds by the clock, on a machine that is busy with other things
MEMORY = 2 << 30  # bytes of address space


class Unjudged(RequestError):
    """It could not be found out, this time, whether a grammar can be used."""


CHILD = """
import json, resource, sys
path, kind, text, seconds, memory = json.load(sys.stdin)
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
sys.path[:] = path
from mixtralkit.engine.grammar_trial import fault
sys.stdout.write(json.dumps(fault(kind, text)))
"""


def try_grammar(grammar: Grammar) -> None:
    """Raise `RequestError` when `grammar` has a fault or takes too long to prepare. Takes at least a tenth of a second.

    Raises `Unjudged` on a machine that is too busy. Threads may call it at the same time.
    """
    told = json.dumps([sys.path, grammar.kind, grammar.text, SECONDS, MEMORY])
    try:
        run = subprocess.run(
            [sys.executable, "-I", "-c", CHILD],
            input=told,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise Unjudged("grammar could not be prepared as the machine is busy; try again later") from error
    except subprocess.CalledProcessError as error:
        raise RequestError(
            f"grammar cannot be prepared in {SECONDS} seconds and {MEMORY >> 30} GiB; simplify it: smaller numbers of "
            "repetitions, fewer alternatives and constraints"
        ) from error
    found = json.loads(run.stdout)
    if found is not None:
        raise RequestError(found)


def fault(kind: str, text: str) -> str | None:
    """What is wrong with a grammar, in the process that may be ended; None if it can be used."""
    tokenizer = guidance_tokenizer(ByteTokens())
    began = time.process_time()
    try:
        compile_grammar(tokenizer, Grammar(kind, text))  # type: ignore[arg-type]
    except RequestError as error:
        return str(error)
    took = time.process_time() - began
    if took > LONGEST:
        return (
            f"grammar takes {took:.2f} s to prepare, and every response prepares its own while others wait; at most "
            f"{LONGEST} s are possible: use fewer properties and alternatives"
        )
    return None
