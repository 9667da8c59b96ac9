"""Kernels through Triton's compiler, which needs no GPU for that: what the interpreter takes may not compile.

A test process has Triton's interpreter in place of its compiler, so a child process compiles, the same one for all.
"""

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

ARCHITECTURES = (80, 90, 100)
_ROOT = Path(__file__).parents[3]


def ptx(
    kernel: Any,
    signature: Mapping[str, str],
    constexprs: Mapping[str, object],
    arch: int,
    warps: int = 4,
    stages: int = 3,
) -> str:
    """The PTX of a function under `triton.jit` for sm_`arch`; raises `AssertionError` with what the compiler says.

    `signature` has Triton's type of each argument that is not in `constexprs`, such as "*bf16", "i64" or "fp32".
    Pointers count as aligned to 16 bytes, as torch's memory is. The assembler has its say too: what it does not take is
    an error, as is more shared memory than a block can have. `constexprs` are numbers, flags, None (also for pointers
    that are not given), or the names of dtypes as "tl.float32". Where the wheel of Triton has cuobjdump, more
    than a few spilled registers are an error too.
    """
    function = kernel.fn
    task = {
        "module": function.__module__,
        "name": function.__name__,
        "signature": dict(signature),
        "constexprs": dict(constexprs),
        "arch": arch,
        "warps": warps,
        "stages": stages,
    }
    child = _compiler()
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(json.dumps(task) + "\n")
    child.stdin.flush()
    answer: dict[str, str] = json.loads(child.stdout.readline() or '{"error": "the compiling process has ended"}')
    assert "ptx" in answer, f"{task['name']} does not compile for sm_{arch} with {constexprs}:\n{answer['error']}"
    return answer["ptx"]


@cache
def _compiler() -> subprocess.Popen[str]:
    """A child that answers lines with lines; it ends when its input does, at the latest with this process."""
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.ops.triton.compiled"]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT, env=env, start_new_session=True
    )


_MOST_STACK = 64  # bytes of spilled registers: versions of Triton differ by some, and so few do not matter
_SHARED_MEMORY = {80: 166_912, 90: 232_448, 100: 232_448}  # bytes a block may have, CUDA C++ Programming Guide


def _compile(task: dict[str, Any]) -> str:
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = getattr(importlib.import_module(task["module"]), task["name"])
    given: dict[str, str] = task["signature"]
    constexprs = {name: _constant(value, tl) for name, value in task["constexprs"].items()}
    if set(given) | set(constexprs) != set(kernel.arg_names):
        raise ValueError(f"the arguments are {kernel.arg_names}, not {[*given, *constexprs]}")
    signature = {name: "constexpr" if name in constexprs else given[name] for name in kernel.arg_names}
    aligned = {
        (place,): [["tt.divisibility", 16]] for place, name in enumerate(signature) if signature[name].startswith("*")
    }
    source = ASTSource(fn=kernel, signature=signature, constexprs=constexprs, attrs=aligned)
    target = GPUTarget("cuda", task["arch"], 32)
    options = {"num_warps": task["warps"], "num_stages": task["stages"]}
    made = triton.compile(source, target=target, options=options)
    if made.metadata.shared > _SHARED_MEMORY[task["arch"]]:
        raise ValueError(f"{made.metadata.shared} bytes of shared memory")
    stack = _stack_bytes(made.asm["cubin"])
    if stack > _MOST_STACK:
        raise ValueError(f"{stack} bytes of registers are spilled")
    return str(made.asm["ptx"])


def _stack_bytes(cubin: bytes) -> int:
    """What a thread keeps on its stack, which our kernels have for nothing but spilled registers."""
    import triton

    program = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    if not program.exists():
        return 0
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(program), "--dump-resource-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return max(int(found) for found in re.findall(r"STACK:(\d+)", usage))


def _constant(value: object, tl: Any) -> object:
    return getattr(tl, value[3:]) if isinstance(value, str) and value.startswith("tl.") else value


def _answer(line: str) -> dict[str, str]:
    try:
        return {"ptx": _compile(json.loads(line))}
    except Exception:  # noqa: BLE001 - whatever it is, the test shows it
        return {"error": traceback.format_exc()}


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the compiler prints is no answer
    for line in sys.stdin:
        answers.write(json.dumps(_answer(line)) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
