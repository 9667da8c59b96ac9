"""A checkpoint's tensors under their canonical names, whatever the files call them; all names accounted for."""

from collections import Counter
from collections.abc import Collection, Mapping

import torch

from mixtralkit.checkpoint.finite_checks import FiniteChecks
from mixtralkit.checkpoint.formats import Checkpoint
from mixtralkit.checkpoint.names import DERIVED_SUFFIXES, Naming, Transform
from mixtralkit.checkpoint.quantization import part_dtype, quantized_shapes
from mixtralkit.checkpoint.reader import CheckpointReader, Stretch
from mixtralkit.checkpoint.recipes import Recipe, expected, recipes, stored_shapes
from mixtralkit.checkpoint.split_files import name_some
from mixtralkit.checkpoint.tensor_info import TensorInfo
from mixtralkit.config import ModelConfig
from mixtralkit.errors import CheckpointError
from mixtralkit.ops.quantized_weight import QuantKind


class Weights:
    """Random access to a complete checkpoint.

    Opening it reads the files' tables, no data, and raises `CheckpointError` listing the tensors that are missing, left
    over or of another shape or kind than the configuration says. `shapes` has every canonical name; for a quantized
    matrix those of its parts.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        config = checkpoint.config
        self.checkpoint = checkpoint
        self.quantization = checkpoint.quantization
        self._reader = CheckpointReader(checkpoint.files)
        stored = self._reader.tensors
        if self.quantization is None:
            self.naming = recognise(stored, config)
            self.shapes, shapes_there = expected(config), stored_shapes(config, self.naming)
            self._recipes = recipes(config, self.naming)
        else:
            self.naming = Naming.MISTRAL
            self.shapes = shapes_there = quantized_shapes(expected(config), self.quantization)
            self._recipes = {name: Recipe(name, None, Transform.NONE, config.head_dim) for name in self.shapes}
        if checkpoint.tied_embeddings:
            _tie_output(self._recipes, stored)
        wanted = {recipe.stored for recipe in self._recipes.values()}
        problems = name_problems(stored, shapes_there, wanted, self.quantization)
        if problems:
            raise CheckpointError(f"{checkpoint.folder} does not fit its own configuration: {'; '.join(problems)}")

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that most bytes of the checkpoint have, not counting quantized matrices."""
        nbytes: Counter[torch.dtype] = Counter()
        for name, info in self._reader.tensors.items():
            if part_dtype(name, self.quantization) is None:
                nbytes[info.dtype] += info.nbytes
        return nbytes.most_common(1)[0][0]

    def numel(self, name: str) -> int:
        """How many elements tensor `name` has."""
        return torch.Size(self.shapes[name]).numel()

    def stored_nbytes(self, name: str) -> int:
        """How many bytes of the files tensor `name` is read from."""
        return self.numel(name) * self._info(name).dtype.itemsize

    def stored_dtype(self, name: str) -> torch.dtype:
        """The dtype that tensor `name` has in the files."""
        return self._info(name).dtype

    def stays_mapped(self, name: str, dtype: torch.dtype, device: torch.device) -> bool:
        """Whether neither layout nor dtype nor device asks for a copy of tensor `name`."""
        dtype = part_dtype(name, self.quantization) or dtype
        as_it_is = self._recipes[name].transform is Transform.NONE and self._info(name).dtype == dtype
        return as_it_is and device.type == "cpu"

    def read(self, name: str, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Tensor `name`, in the mapped file where it can stay there, else in memory of its own.

        `dtype` is not for the parts of a quantized matrix, which have theirs.
        """
        dtype = part_dtype(name, self.quantization) or dtype
        recipe = self._recipes[name]
        read = self._reader.view if self.stays_mapped(name, dtype, device) else self._reader.copy
        return recipe.apply(read(recipe.stored, recipe.rows)).to(device=device, dtype=dtype)

    def stretch(self, name: str) -> Stretch:
        """The bytes of the files that tensor `name` is made of."""
        recipe = self._recipes[name]
        return self._reader.stretch(recipe.stored, recipe.rows)

    def make(self, name: str, dtype: torch.dtype, data: torch.Tensor, checks: FiniteChecks) -> torch.Tensor:
        """What `read` gives, from the bytes (uint8) of its stretch, on the device where they are."""
        recipe = self._recipes[name]
        stored = self._reader.shaped(recipe.stored, recipe.rows, data)
        return recipe.apply(stored).to(part_dtype(name, self.quantization) or dtype)

    def _info(self, name: str) -> TensorInfo:
        return self._reader.tensors[self._recipes[name].stored]


def recognise(names: Collection[str], config: ModelConfig) -> Naming:
    """The naming whose names are most completely among `names`. Raises `CheckpointError` when there is none."""

    def found(naming: Naming) -> float:
        shapes = stored_shapes(config, naming)
        return sum(name in names for name in shapes) / len(shapes)

    best = max(Naming, key=found)
    if not found(best):
        raise CheckpointError(f"these are not the tensors of a Mixtral: {name_some(sorted(names), 5)}")
    return best


def name_problems(
    stored: Mapping[str, TensorInfo],
    shapes: Mapping[str, tuple[int, ...]],
    wanted: Collection[str],
    kind: QuantKind | None,
) -> list[str]:
    """What is wrong with the stored tensors, one phrase a kind of problem, in the files' names.

    `shapes` has the names that belong to the naming, `wanted` those that are needed; `kind` is how they are quantized.
    """
    parts = {name: part_dtype(name, kind) for name in shapes}
    there = [name for name in shapes if name in stored]
    kinds = {
        "missing": [name for name in shapes if name in wanted and name not in stored],
        "left over": sorted(n for n in stored if n not in wanted and not n.endswith(DERIVED_SUFFIXES)),
        "of another shape": [
            f"{name} is {list(stored[name].shape)}, not {list(shapes[name])}"
            for name in there
            if stored[name].shape != shapes[name]
        ],
        "not floating-point": _of_dtype(
            stored, [n for n in there if parts[n] is None and not stored[n].dtype.is_floating_point]
        ),
        "of another dtype": _of_dtype(stored, [n for n in there if parts[n] not in (None, stored[n].dtype)]),
    }
    return [f"{len(names)} {kind}: {name_some(names)}" for kind, names in kinds.items() if names]


def _of_dtype(stored: Mapping[str, TensorInfo], names: list[str]) -> list[str]:
    return [f"{name} ({stored[name].dtype})" for name in names]


def _tie_output(table: dict[str, Recipe], stored: Mapping[str, TensorInfo]) -> None:
    if table["output.weight"].stored not in stored:
        table["output.weight"] = table["tok_embeddings.weight"]
