"""The inverse of weights.py: canonical tensors under the names and in the layout of a naming."""

from collections.abc import Mapping
from itertools import groupby

import torch

from mixtralkit.checkpoint.names import Naming
from mixtralkit.checkpoint.recipes import expected, recipes, stored_shapes
from mixtralkit.checkpoint.split_files import name_some
from mixtralkit.config import ModelConfig
from mixtralkit.errors import CheckpointError


class StoredState:
    """The tensors that a checkpoint of `naming` holds, each made when it is asked for.

    `state` has every canonical name, on any device; it may be a mapping that reads them only then. `shapes` has the
    names in the file. Raises `CheckpointError` when `state` is not the model that `config` says.
    """

    def __init__(self, state: Mapping[str, torch.Tensor], config: ModelConfig, naming: Naming) -> None:
        wanted = expected(config).keys()
        if wrong := sorted(wanted ^ state.keys()):
            raise CheckpointError(f"the weights to write do not fit the configuration: {name_some(wrong)}")
        self.shapes = stored_shapes(config, naming)
        self._state = state
        self._recipes = recipes(config, naming)
        by_stored = sorted(self._recipes, key=lambda name: self._recipes[name].stored)
        self._pieces = {
            stored: list(names) for stored, names in groupby(by_stored, key=lambda name: self._recipes[name].stored)
        }

    def read(self, stored: str, dtype: torch.dtype) -> torch.Tensor:
        """The tensor called `stored` in the file, contiguous, on the CPU."""
        pieces = sorted(self._pieces[stored], key=self._first_row)
        parts = [self._recipes[name].undo(self._state[name].detach().to("cpu", dtype)) for name in pieces]
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).reshape(self.shapes[stored]).contiguous()

    def _first_row(self, name: str) -> int:
        rows = self._recipes[name].rows
        return rows.start if rows is not None else 0
