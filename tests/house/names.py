"""Which modules and attributes a file mentions."""

import ast
from collections.abc import Iterator
from pathlib import PurePosixPath


def imports(path: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of all that the file at `path` imports, in functions too; `from a import b` is "a.b"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = _source(path, node)
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)


def mentions(path: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """All imports, and all attribute chains such as "torch.distributed.barrier", with aliases spelt out."""
    yield from imports(path, tree)
    aliases = _aliases(path, tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and (name := _dotted(node, aliases)):
            yield node.lineno, name


def calls(path: str, tree: ast.Module) -> Iterator[tuple[ast.Call, str]]:
    """All calls of something that has a dotted name."""
    aliases = _aliases(path, tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (name := _dotted(node.func, aliases)):
            yield node, name


def within(name: str, *parents: str) -> bool:
    """Whether the dotted `name` is one of `parents` or inside it."""
    return any(name == parent or name.startswith(f"{parent}.") for parent in parents)


def _source(path: str, node: ast.ImportFrom) -> str:
    """The absolute module of a from-import: relative ones count up from the file."""
    parents = PurePosixPath(path).parts[: -node.level] if node.level else ()
    return ".".join(filter(None, (*parents, node.module)))


def _aliases(path: str, tree: ast.Module) -> dict[str, str]:
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update({alias.asname: alias.name for alias in node.names if alias.asname})
        elif isinstance(node, ast.ImportFrom):
            source = _source(path, node)
            found.update({alias.asname or alias.name: f"{source}.{alias.name}" for alias in node.names})
    return found


def _dotted(node: ast.expr, aliases: dict[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        return aliases.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value, aliases)
        return inner and f"{inner}.{node.attr}"
    return None
