"""What ptxas says of a kernel (`-Xptxas -v`): registers, shared memory, and whether registers did not suffice."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

_KERNEL = re.compile(
    r"Compiling entry function '(?P<name>\S+)' for '(?P<processor>\w+)'\n"
    r"(?:.*\n)*?.*?(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads\n.*?Used (?P<registers>\d+) registers(?P<rest>.*)"
)
_SHARED = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True)
class Usage:
    """What a kernel takes on one processor: registers a thread, and bytes of the rest."""

    kernel: str
    processor: str
    registers: int
    shared: int
    stack: int
    spilled: int


def read_usage(words: str) -> list[Usage]:
    """The usage of every kernel that ptxas tells of in `words`."""
    found = list(_KERNEL.finditer(words))
    names = _readable([match["name"] for match in found])
    return [_usage(match, name) for match, name in zip(found, names, strict=True)]


def spilling(usage: Sequence[Usage]) -> list[str]:
    """The kernels whose registers do not suffice somewhere."""
    return sorted({one.kernel for one in usage if one.spilled})


def as_table(usage: Sequence[Usage]) -> str:
    """A table in Markdown, a line a kernel and processor, below a line that sums it up."""
    kernels, most = len({one.kernel for one in usage}), max((one.registers for one in usage), default=0)
    spilled = f"spilled by {', '.join(names)}" if (names := spilling(usage)) else "none spilled"
    processors = ", ".join(sorted({one.processor for one in usage}))
    head = ["| kernel | processor | registers | shared memory | stack | spilled |", "|---|---|---|---|---|---|"]
    rows = [
        f"| `{one.kernel}` | {one.processor} | {one.registers} | {one.shared} | {one.stack} | {one.spilled} |"
        for one in sorted(usage, key=lambda one: (one.kernel, one.processor))
    ]
    summary = f"{kernels} kernels for {processors}: at most {most} registers, {spilled}"
    return "\n".join([summary, "", *head, *rows, ""])


def _usage(match: "re.Match[str]", name: str) -> Usage:
    shared = _SHARED.search(match["rest"])
    spilled = int(match["stores"]) + int(match["loads"])
    numbers = int(match["registers"]), int(shared[1]) if shared else 0, int(match["stack"]), spilled
    return Usage(name, match["processor"], *numbers)


def _readable(names: Sequence[str]) -> list[str]:
    """Names as in the source, without their arguments; as they are where there is no c++filt."""
    if not names or shutil.which("c++filt") is None:
        return list(names)
    run = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    return [_without_arguments(line) for line in run.stdout.splitlines()]


def _without_arguments(declaration: str) -> str:
    """`void space::kernel<float>(int)` -> `kernel<float>`."""
    name = re.sub(r"\(anonymous namespace\)::", "", declaration)
    name = name.partition("(")[0].removeprefix("void ")
    before, bracket, arguments = name.partition("<")
    return before.rpartition("::")[2] + bracket + arguments
