"""Imports point down: the floors of the house, and who may import whom."""

import ast
from pathlib import PurePosixPath

from tests.house.names import imports, within

# From the top floor down. Rooms in one group may import each other; groups of one floor may not.
FLOORS = (
    (("cli", "tools", "__main__"),),
    (("serve",), ("api", "llm", "prompt_requests"), ("bench",)),
    (("session",),),
    (("engine",), ("train",), ("fmoe",)),
    (("checkpoint",),),
    (("parallelize",),),
    (("model",), ("moe",)),
    (("ops",), ("dist",)),
    (
        (
            "config",
            "env",
            "errors",
            "log",
            "tokenizer",
            "chat_template",
            "quantities",
            "fastermoe_env",
            "sizes",
            "dtypes",
        ),
    ),
)
# Where the names come from that the package hands out.
OFFERED = ("mixtralkit.api", "mixtralkit.llm", "mixtralkit.engine.request", "mixtralkit.errors")
PLACES = {
    room: (floor, group) for floor, groups in enumerate(FLOORS) for group, rooms in enumerate(groups) for room in rooms
}


def room_of(path: str) -> str:
    """The room of a file: the folder or module right below mixtralkit/, "tools", or "mixtralkit" for its __init__."""
    parts = PurePosixPath(path).parts
    if parts[0] == "tools":
        return "tools"
    return "mixtralkit" if parts[1] == "__init__.py" else parts[1].removesuffix(".py")


def may_import(room: str, other: str) -> bool:
    """Whether `room` may import from `other`: itself, its group, or any room of a lower floor."""
    if room == other:
        return True
    (floor, group), (other_floor, other_group) = PLACES[room], PLACES[other]
    return other_floor > floor or (other_floor == floor and other_group == group)


def wrong_arrows(path: str, tree: ast.Module) -> list[str]:
    """A line for each import of the file at `path` that points up or sideways, or whose room has no floor."""
    room = room_of(path)
    # The package's __init__ hands out names, lazily; anyone may ask it for the version.
    targets = {
        (line, name.split(".")[1])
        for line, name in imports(path, tree)
        if name.startswith("mixtralkit.") and name != "mixtralkit.__version__"
    }
    if room == "mixtralkit":
        named = sorted((line, name) for line, name in imports(path, tree) if name.startswith("mixtralkit."))
        return [f"{path}:{line}: imports {name}" for line, name in named if not within(name, *OFFERED)]
    if room not in PLACES:
        return [f"{path}: the room {room!r} has no floor; give it one in FLOORS"]
    bare = [
        f"{path}:{line}: imports the package itself"
        for line, name in imports(path, tree)
        if name == "mixtralkit" and room not in ("cli", "tools")
    ]
    return bare + [
        f"{path}:{line}: {room} imports {other}"
        for line, other in sorted(targets)
        if other not in PLACES or not may_import(room, other)
    ]
