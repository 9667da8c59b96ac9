"""Triton compiles a kernel once more for a number that is 1, and for one that is a multiple of 16.

So a number that goes with the tokens of a call is not to be looked at: what was compiled at the start would not be
enough, and some user would wait for the compiler.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

# Floats are passed as they are; the column is that of a matrix among those beside it, the same in every call.
ALWAYS_THE_SAME = {"eps", "first_column"}
# A process of its own, as here Triton's interpreter has taken the place of what knows the arguments.
_PROGRAM = """
import importlib, json, pkgutil
from triton.runtime.jit import JITFunction
from mixtralkit.ops import triton as package
kernels = {}
for module in pkgutil.iter_modules(package.__path__):
    for name, kernel in vars(importlib.import_module(f"{package.__name__}.{module.name}")).items():
        if isinstance(kernel, JITFunction) and name.endswith("_kernel"):
            kernels[name] = [
                each.name for each in kernel.params if not (each.is_constexpr or each.do_not_specialize)
            ]
print(json.dumps(kernels))
"""


def test_no_kernel_is_compiled_for_a_number_of_tokens() -> None:
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    root = Path(__file__).parents[3]
    output = subprocess.run([sys.executable, "-c", _PROGRAM], env=env, cwd=root, capture_output=True, check=True).stdout
    kernels: dict[str, list[str]] = json.loads(output)
    assert len(kernels) > 10
    numbers = {
        name: [each for each in given if not each.endswith("_ptr") and each not in ALWAYS_THE_SAME]
        for name, given in kernels.items()
    }
    assert {name: found for name, found in numbers.items() if found} == {}
