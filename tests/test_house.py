"""The rules of the house (CONTRIBUTING.md), checked from the code; tests/house/ has the rules.

Each rule is tried on a small breach first, so that none of them passes because it sees nothing.
"""

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.house import repository, rules
from tests.house.arrows import FLOORS, may_import, wrong_arrows

ROOT = Path(__file__).parent.parent
Rule = Callable[[str, ast.Module], list[str]]
RULES: tuple[Rule, ...] = (
    wrong_arrows,
    rules.distributed,
    rules.environment,
    rules.printing,
    rules.extension,
    rules.purity,
    rules.pickle,
    rules.documentation,
)


def tracked(*patterns: str) -> list[str]:
    """The files under version control, and new ones that git does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for path in sorted(set(listing.stdout.splitlines())) if (ROOT / path).is_file()]


def sources() -> list[tuple[str, str, ast.Module]]:
    found = [(path, (ROOT / path).read_text(encoding="utf-8")) for path in tracked("mixtralkit/*.py", "tools/*.py")]
    assert len(found) > 20, "the package's files were not found"
    return [(path, text, ast.parse(text)) for path, text in found]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_code_keeps(rule: Rule) -> None:
    assert [breach for path, _, tree in sources() for breach in rule(path, tree)] == []


def test_files_and_functions_are_short() -> None:
    assert [breach for path, text, tree in sources() for breach in rules.size(path, text, tree)] == []


def test_kernels_are_short() -> None:
    texts = {path: (ROOT / path).read_text(encoding="utf-8") for path in tracked("csrc")}
    assert "csrc/bindings.cpp" in texts
    assert repository.long_sources(texts) == []


def test_nothing_compiled_is_under_version_control() -> None:
    assert repository.compiled(tracked(".")) == []


def test_names_of_files_are_unique() -> None:
    assert repository.repeated_names(tracked("mixtralkit/*.py")) == []


def test_no_file_names_a_registry_or_a_path_of_one_machine() -> None:
    texts = [(path, (ROOT / path).read_bytes().decode("utf-8", errors="replace")) for path in tracked(".")]
    assert len(texts) > 30
    assert [breach for path, text in texts for breach in repository.private_words(path, text)] == []


def test_requirements_are_those_that_are_imported() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    required = [line for line in lines if line and not line.startswith("#")]
    package = [(path, tree) for path, _, tree in sources() if path.startswith("mixtralkit/")]
    assert [breach for path, tree in package for breach in repository.undeclared(path, tree, required)] == []
    # torch warns at import when numpy is absent, so it is required although no module imports it.
    others = [line for line in required if repository.import_name(line) != "numpy"]
    for line in others:
        rest = [other for other in others if other != line]
        assert any(repository.undeclared(path, tree, rest) for path, tree in package), f"nothing imports {line}"


def test_both_readmes_have_the_same_structure() -> None:
    names = ("README.md", "README_zh-CN.md")
    assert repository.differing_structure({name: (ROOT / name).read_text(encoding="utf-8") for name in names}) == []


def test_importing_the_package_is_cheap() -> None:
    code = "import mixtralkit, sys; assert 'torch' not in sys.modules; assert mixtralkit.__version__"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# Imports every module named on the command line, each in its own fork so that none leans on what another imported.
IMPORT_EACH = """
import os, sys, importlib
import torch
before = dict(os.environ)
failed = []
for name in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        try:
            importlib.import_module(name)
            clean = not torch.distributed.is_initialized() and not torch.cuda.is_initialized() and os.environ == before
            os._exit(0 if clean else 1)
        except BaseException as error:
            os.write(2, f"{name}: {error!r}".encode())
            os._exit(2)
    if os.waitpid(child, 0)[1] != 0:
        failed.append(name)
sys.exit(", ".join(failed) or 0)
"""


def import_each(modules: list[str], folder: Path) -> tuple[int, str, str]:
    """Exit status, output and error output of importing each of the modules that are found from `folder`."""
    command = [sys.executable, "-c", IMPORT_EACH, *modules]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return run.returncode, run.stdout, run.stderr


def test_importing_a_module_does_nothing() -> None:
    paths = [Path(path).with_suffix("") for path in tracked("mixtralkit/*.py")]
    modules = [".".join(path.parts).removesuffix(".__init__") for path in paths]
    assert import_each(modules, ROOT) == (0, "", "")


def test_an_import_that_does_something_is_seen(tmp_path: Path) -> None:
    codes = {
        "quiet": "",
        "sets": "import os; os.environ['A'] = '1'",
        "writes": "import os; os.write(1, b'x')",
        "fails": "import absent",
    }
    for name, code in codes.items():
        (tmp_path / f"{name}.py").write_text(code)
    status, out, err = import_each(list(codes), tmp_path)
    assert (status, out) == (1, "x")
    assert err.endswith("sets, fails\n")


BREACHES: tuple[tuple[Rule, str, str], ...] = (
    (wrong_arrows, "mixtralkit/ops/linear.py", "import mixtralkit.model.norm"),
    (wrong_arrows, "mixtralkit/model/norm.py", "from mixtralkit.moe import routing"),
    (wrong_arrows, "mixtralkit/model/norm.py", "from mixtralkit import parallelize"),
    (wrong_arrows, "mixtralkit/model/norm.py", "from ..engine import request"),
    (wrong_arrows, "mixtralkit/model/norm.py", "import mixtralkit"),
    (wrong_arrows, "mixtralkit/train/loop.py", "def f():\n    from mixtralkit.engine.request import Request"),
    (wrong_arrows, "mixtralkit/attic/old.py", ""),
    (wrong_arrows, "mixtralkit/__init__.py", "import mixtralkit.engine.engine"),
    (rules.distributed, "mixtralkit/model/norm.py", "import torch\ntorch.distributed.barrier()"),
    (rules.distributed, "mixtralkit/model/norm.py", "from torch import distributed as d"),
    (rules.distributed, "mixtralkit/engine/runner.py", "import torch.distributed as dist"),
    (rules.environment, "mixtralkit/log.py", "import os\nos.environ['A']"),
    (rules.environment, "mixtralkit/log.py", "from os import getenv"),
    (rules.environment, "tools/example.py", "import os as o\no.environ.get('A')"),
    (rules.printing, "mixtralkit/engine/engine.py", "print(1)"),
    (rules.printing, "mixtralkit/engine/engine.py", "import sys\nsys.stdout.write('1')"),
    (rules.extension, "mixtralkit/model/norm.py", "import torch\ntorch.ops.mixtralkit.norm(1)"),
    (rules.extension, "mixtralkit/moe/layer.py", "from mixtralkit import _C"),
    (rules.purity, "mixtralkit/engine/scheduler.py", "from mixtralkit.dist import collectives"),
    (rules.purity, "mixtralkit/engine/kv_blocks.py", "import torch\nx = torch.zeros(1)"),
    (rules.purity, "mixtralkit/engine/step_plan.py", "import numpy"),
    (rules.purity, "mixtralkit/moe/placement/plan.py", "import torch\nx = torch.device('cpu')"),
    (rules.pickle, "mixtralkit/checkpoint/reader.py", "import pickle\npickle.load(1)"),
    (rules.pickle, "mixtralkit/checkpoint/reader.py", "from pickle import Unpickler as U"),
    (rules.pickle, "mixtralkit/checkpoint/reader.py", "import torch\ntorch.load('a')"),
    (rules.pickle, "mixtralkit/checkpoint/reader.py", "from torch import load\nload('a', mmap=True)"),
    (rules.pickle, "mixtralkit/checkpoint/reader.py", "import torch\ntorch.load('a', weights_only=False)"),
    (rules.pickle, "mixtralkit/dist/sync.py", "import torch.distributed as d\nd.broadcast_object_list([])"),
    (rules.documentation, "mixtralkit/log.py", "x = 1"),
    (rules.documentation, "mixtralkit/log.py", "'''Doc.'''\ndef f(): pass"),
    (rules.documentation, "mixtralkit/log.py", "'''Doc.'''\nclass A:\n    '''Doc.'''\n    def f(self): pass"),
)


@pytest.mark.parametrize(("rule", "path", "code"), BREACHES)
def test_a_breach_is_seen(rule: Rule, path: str, code: str) -> None:
    assert rule(path, ast.parse(code))


ALLOWED: tuple[tuple[Rule, str, str], ...] = (
    (wrong_arrows, "mixtralkit/engine/engine.py", "from mixtralkit import __version__, parallelize"),
    (wrong_arrows, "mixtralkit/model/norm.py", "from . import rope"),
    (wrong_arrows, "tools/example.py", "import mixtralkit.cli.main"),
    (rules.distributed, "mixtralkit/moe/dispatch/peer.py", "import torch.distributed as dist"),
    (rules.environment, "mixtralkit/env.py", "import os\nos.environ['A']"),
    (rules.printing, "mixtralkit/cli/chat.py", "print(1)"),
    (rules.printing, "mixtralkit/log.py", "console.print(1)"),
    (rules.purity, "mixtralkit/moe/placement/transfer.py", "import torch.distributed"),
    (rules.purity, "mixtralkit/moe/placement/plan.py", "from mixtralkit.dist.topology import Topology"),
    (rules.pickle, "mixtralkit/checkpoint/reader.py", "import torch\ntorch.load('a', weights_only=True)"),
    (rules.pickle, "mixtralkit/checkpoint/reader.py", "import pickle\npickle.UnpicklingError"),
    (rules.documentation, "mixtralkit/log.py", "'''Doc.'''\ndef _f(): pass"),
)


@pytest.mark.parametrize(("rule", "path", "code"), ALLOWED)
def test_what_is_allowed_is_no_breach(rule: Rule, path: str, code: str) -> None:
    assert rule(path, ast.parse(code)) == []


def test_arrows_never_point_both_ways_between_floors_or_across_a_wall() -> None:
    groups = [(floor, group) for floor, row in enumerate(FLOORS) for group in row]
    for floor, group in groups:
        for other_floor, other_group in groups:
            down = other_floor > floor or other_group == group
            assert may_import(group[0], other_group[0]) == down


def test_long_files_and_functions_are_seen() -> None:
    def breaches(code: str, path: str = "mixtralkit/log.py") -> list[str]:
        return rules.size(path, code, ast.parse(code))

    assert breaches("x = 1\n" * 251)
    assert breaches("x = 1\n" * 250) == []
    assert breaches("x = 1\n" * 350, "mixtralkit/ops/triton/matmul.py") == []
    assert breaches("def f():\n" + "    x = 1\n" * 60)
    assert breaches("def f():\n" + "    x = 1\n" * 59) == []


def test_long_kernels_and_compiled_files_are_seen() -> None:
    assert repository.long_sources({"csrc/cpu/a.cpp": "\n" * 351, "csrc/cpu/b.h": "\n" * 350}) == [
        "csrc/cpu/a.cpp: 351 lines, more than 350"
    ]
    assert repository.compiled(["mixtralkit/_C.abi3.so", "csrc/a.cpp"]) == ["mixtralkit/_C.abi3.so"]


def test_repeated_names_are_seen() -> None:
    paths = ["mixtralkit/a/x.py", "mixtralkit/b/x.py", "mixtralkit/a/__init__.py", "mixtralkit/b/__init__.py"]
    assert repository.repeated_names(paths) == ["x.py"]


def test_private_words_are_seen() -> None:
    for text in (f"see {repository.HOSTS[0]}", "cd " + "/wo" + "rk/main", "'" + "/tm" + "p/x'"):
        assert repository.private_words("README.md", text)
    assert repository.private_words("README.md", "https://example.org/work/x network/tmp/x") == []


def test_undeclared_imports_are_seen() -> None:
    tree = ast.parse("import os, torch.nn\nfrom rich.console import Console\nimport mixtralkit.log")
    assert repository.undeclared("a.py", tree, ["torch>=2.10"]) == ["a.py:2: rich.console.Console"]
    optional = ast.parse("import triton.language")
    assert repository.undeclared("mixtralkit/ops/triton/a.py", optional, []) == []
    assert repository.undeclared("mixtralkit/ops/a.py", optional, []) == ["mixtralkit/ops/a.py:1: triton.language"]


def test_differing_translations_are_seen() -> None:
    one = "# A\n```sh\n# no heading\nmake demo\n```\n"
    assert repository.differing_structure({"a": one, "b": one.replace("# A", "# B")}) == []
    for other in (one + "## More\n", one.replace("make demo", "make test"), "# A\n"):
        assert repository.differing_structure({"a": one, "b": other})
