"""A checkpoint's tensors one after the other, on the device that they are for."""

from collections.abc import Generator, Sequence
from itertools import groupby

import torch

from mixtralkit.checkpoint.finite_checks import FiniteChecks
from mixtralkit.checkpoint.quantizing import WeightSource
from mixtralkit.checkpoint.staging import Staging
from mixtralkit.checkpoint.uploads import CudaUploads, Uploads


def read_in_order(
    weights: WeightSource, names: Sequence[str], dtype: torch.dtype, device: torch.device, checks: FiniteChecks
) -> Generator[torch.Tensor, None, None]:
    """The tensors `names`, as `weights.read` has them; to be closed.

    On a GPU the files are read ahead, and layouts, dtypes and quantization are seen to by the GPU.
    """
    if device.type == "cpu":
        return (weights.read(name, dtype, device) for name in names)
    return stream(weights, names, dtype, CudaUploads(device), checks)


def stream(
    weights: WeightSource, names: Sequence[str], dtype: torch.dtype, uploads: Uploads, checks: FiniteChecks
) -> Generator[torch.Tensor, None, None]:
    """The tensors `names` by way of `uploads`; names of the same bytes that follow one another share them."""
    stretches = [(weights.stretch(name), name) for name in names]
    runs = [(stretch, [name for _, name in run]) for stretch, run in groupby(stretches, key=lambda item: item[0])]
    with Staging(uploads, [stretch for stretch, _ in runs]) as staging:
        for _, run in runs:
            data = staging.take()
            for name in run:
                yield weights.make(name, dtype, data, checks)
