"""What several files use: a small random checkpoint as a user would have it, and runs of the demo model."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mixtralkit.config import to_params_json
from tests.cli.demo_runs import Done, generate
from tests.random_model import TINY, random_model
from tests.small_tokenizer import PIECES, small_tokenizer

CONFIG = replace(TINY, vocab_size=PIECES, context=20_000)  # long enough to be interrupted


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with five experts in a .pth of Mistral's names."""
    folder = tmp_path_factory.mktemp("checkpoint")
    small_tokenizer(folder)
    torch.save(random_model(CONFIG, seed=3).state_dict(), folder / "consolidated.00.pth")
    (folder / "params.json").write_text(json.dumps(to_params_json(CONFIG)))
    return folder


@pytest.fixture(scope="session")
def plain_run() -> Done:
    """The demo model on two ranks without any strategy."""
    return generate()


@pytest.fixture(scope="session")
def hot_load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `hot_run` writes its load."""
    return tmp_path_factory.mktemp("load") / "load.json"


@pytest.fixture(scope="session")
def hot_run(hot_load: Path) -> Done:
    """The same with hot experts, explained."""
    return generate("--hot-experts", "0,3;1:6", "--explain", "--expert-load", str(hot_load))
