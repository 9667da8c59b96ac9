"""Rules on more than one file, or on files that are not Python."""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from tests.house.names import imports

# Spelt in parts, so that this file does not break its own rule.
HOSTS = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("download", "pytorch", "org"),
        ("anaconda", "org"),
        ("npmjs", "org"),
        ("deb", "debian", "org"),
    )
)
PATHS = re.compile(r"(?<![\w.~$}-])/(?:work|tmp)/")
# Installed names that are imported under another one.
IMPORT_NAMES = {"dm-tree": "tree"}
# What torch brings with it, but only for GPUs, and the only folder that may import it.
OPTIONAL = {"triton": "mixtralkit/ops/triton/"}


def repeated_names(paths: Iterable[str]) -> list[str]:
    """Names of files that occur twice; a name is an address."""
    names = Counter(PurePosixPath(path).name for path in paths)
    return sorted(name for name, count in names.items() if count > 1 and name != "__init__.py")


def private_words(path: str, text: str) -> list[str]:
    """Hosts of package registries and paths of one machine, which belong into no file."""
    found = [host for host in HOSTS if host in text] + PATHS.findall(text)
    return [f"{path}: {word}" for word in found]


def compiled(paths: Iterable[str]) -> list[str]:
    """What a compiler makes, and the note of a build that failed: neither belongs into version control."""
    return [path for path in paths if path.endswith((".so", ".o", ".a", ".pyd", ".dylib", ".why_not"))]


def long_sources(texts: Mapping[str, str]) -> list[str]:
    """Files of csrc/ with more than 350 lines."""
    lines = {path: text.count("\n") for path, text in texts.items()}
    return [f"{path}: {count} lines, more than 350" for path, count in lines.items() if count > 350]


def undeclared(path: str, tree: ast.Module, requirements: Iterable[str]) -> list[str]:
    """Imports of packages that are neither Python's, nor this one, nor in requirements.txt, nor optional there."""
    known = {*sys.stdlib_module_names, "mixtralkit", *(import_name(name) for name in requirements)}
    known.update(name for name, folder in OPTIONAL.items() if path.startswith(folder))
    return [f"{path}:{line}: {name}" for line, name in imports(path, tree) if name.split(".")[0] not in known]


def import_name(requirement: str) -> str:
    """The module that a line of requirements.txt installs."""
    name = re.match(r"[\w.-]+", requirement)
    assert name, requirement
    return IMPORT_NAMES.get(name[0], name[0].replace("-", "_"))


def differing_structure(texts: Mapping[str, str]) -> list[str]:
    """What differs between two translations of a document, which share their headings' levels and their code."""
    (first, one), (second, other) = texts.items()
    levels, other_levels = _heading_levels(one), _heading_levels(other)
    blocks, other_blocks = _code_blocks(one), _code_blocks(other)
    found = [] if levels == other_levels else [f"headings: {first} has {levels}, {second} {other_levels}"]
    if len(blocks) != len(other_blocks):
        found.append(f"code blocks: {first} has {len(blocks)}, {second} {len(other_blocks)}")
    return found + [f"code differs: {a!r}, {b!r}" for a, b in zip(blocks, other_blocks, strict=False) if a != b]


def _heading_levels(text: str) -> list[int]:
    without_code = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [len(marks) for marks in re.findall(r"^(#+) ", without_code, flags=re.MULTILINE)]


def _code_blocks(text: str) -> list[str]:
    return re.findall(r"^```[^\n]*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
