"""What may be used where: each rule takes a file's path and syntax tree and returns a line for each breach."""

import ast
from collections.abc import Iterable

from tests.house.names import calls, mentions, within

DISTRIBUTED = (
    "mixtralkit/dist/",
    "mixtralkit/moe/dispatch/",
    "mixtralkit/moe/placement/transfer.py",
    "mixtralkit/engine/lockstep.py",
    "mixtralkit/train/",
    "mixtralkit/fmoe/",
)
EXTENSION = ("mixtralkit/ops/", "mixtralkit/moe/dispatch/peer.py", "mixtralkit/moe/dispatch/nccl.py")
PRINTING = ("mixtralkit/cli/", "tools/")
SCHEDULING = tuple(
    f"mixtralkit/engine/{name}.py"
    for name in (
        "scheduler",
        "rank_schedule",
        "request_progress",
        "untaken_plans",
        "waiting_queue",
        "kv_blocks",
        "step_plan",
        "request",
    )
)
PURE = (*SCHEDULING, "mixtralkit/moe/placement/")
IMPURE = ("mixtralkit/moe/placement/transfer.py",)


def distributed(path: str, tree: ast.Module) -> list[str]:
    """torch.distributed stays where ranks meet."""
    return _unless(path, DISTRIBUTED, _used(path, tree, "torch.distributed"))


def environment(path: str, tree: ast.Module) -> list[str]:
    """The environment is read in one place, once."""
    names = ("os.environ", "os.environb", "os.getenv", "os.putenv", "os.unsetenv")
    return _unless(path, ("mixtralkit/env.py",), _used(path, tree, *names))


def printing(path: str, tree: ast.Module) -> list[str]:
    """Only the command line writes to standard output."""
    return _unless(path, PRINTING, _used(path, tree, "print", "sys.stdout.write", "sys.stdout.writelines"))


def extension(path: str, tree: ast.Module) -> list[str]:
    """The compiled extension is reached through ops/ and the dispatches that are made of it."""
    names = ("mixtralkit._C", "torch.ops.mixtralkit", "torch.ops.load_library")
    return _unless(path, EXTENSION, _used(path, tree, *names))


def purity(path: str, tree: ast.Module) -> list[str]:
    """Planning is pure: it knows neither ranks' communication nor devices, and the scheduler's no tensors at all."""
    if not path.startswith(PURE) or path in IMPURE:
        return []
    tensors = ("torch", "numpy") if path in SCHEDULING else ("torch.distributed", "torch.cuda", "torch.device")
    used = _used(path, tree, "mixtralkit.dist", *tensors)
    topology = set(_used(path, tree, "mixtralkit.dist.topology"))  # is pure itself
    return [breach for breach in used if breach not in topology]


def pickle(path: str, tree: ast.Module) -> list[str]:
    """No pickle of anybody's data: torch.load says weights_only=True, and no collective pickles objects."""
    # pickle's exceptions may be named; torch.load raises them.
    running = tuple(f"pickle.{name}" for name in ("load", "loads", "dump", "dumps", "Pickler", "Unpickler"))
    others = ("dill", "cloudpickle", "marshal", "shelve", "joblib")
    collectives = tuple(
        f"torch.distributed.{name}"
        for name in (
            "all_gather_object",
            "broadcast_object_list",
            "gather_object",
            "scatter_object_list",
            "send_object_list",
            "recv_object_list",
        )
    )
    loads = [node for node, name in calls(path, tree) if name == "torch.load"]
    unsafe = [node for node in loads if not any(keyword.arg == "weights_only" for keyword in node.keywords)]
    return [
        *_used(path, tree, *running, *others, *collectives),
        *(f"{path}:{node.lineno}: torch.load without weights_only=True" for node in unsafe),
        *(
            f"{path}:{node.value.lineno}: weights_only is not True"
            for node in ast.walk(tree)
            if isinstance(node, ast.keyword) and node.arg == "weights_only" and ast.unparse(node.value) != "True"
        ),
    ]


def size(path: str, text: str, tree: ast.Module) -> list[str]:
    """Files of at most 250 lines (GPU kernels 350), functions of at most 60."""
    lines, limit = text.count("\n"), 350 if path.startswith("mixtralkit/ops/triton/") else 250
    long_file = [f"{path}: {lines} lines, more than {limit}"] if lines > limit else []
    return long_file + [
        f"{path}:{node.lineno}: {node.name} has more than 60 lines"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno + 1 > 60
    ]


def documentation(path: str, tree: ast.Module) -> list[str]:
    """Modules, public classes, their public methods and public functions have docstrings."""
    missing = [] if ast.get_docstring(tree) else [f"{path}: no docstring"]
    return missing + [
        f"{path}:{node.lineno}: {node.name} has no docstring"
        for node in _public_definitions(tree)
        if not ast.get_docstring(node)
    ]


def _public_definitions(
    node: ast.Module | ast.ClassDef,
) -> Iterable[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            yield child
            if isinstance(child, ast.ClassDef):
                yield from _public_definitions(child)


def _used(path: str, tree: ast.Module, *names: str) -> list[str]:
    used = {(line, name) for line, name in mentions(path, tree) if within(name, *names)}
    return [f"{path}:{line}: uses {name}" for line, name in sorted(used)]


def _unless(path: str, allowed: tuple[str, ...], breaches: list[str]) -> list[str]:
    return [] if path.startswith(allowed) else breaches
