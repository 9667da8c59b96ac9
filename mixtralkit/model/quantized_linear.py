"""Quantized weight matrices as modules, and which matrices of a model are quantized."""

import torch
from torch import nn

from mixtralkit.model.linear_layer import Linear
from mixtralkit.ops.linear import side_by_side
from mixtralkit.ops.matrices import Matrices, single
from mixtralkit.ops.quantized_weight import GROUP, QuantizedWeight, QuantKind, empty_quantized
from mixtralkit.ops.rms_norm import Norm

# The embeddings are only looked up, norms and gates are small, and an error of a gate sends tokens to other experts.
WIDE = ("tok_embeddings.weight", "norm.weight", "gate.weight")


class QuantizedLinear(nn.Module):
    """Holds the parts of a matrix `[outputs, inputs]` as parameters, uninitialised, and multiplies by it."""

    def __init__(self, inputs: int, outputs: int, kind: QuantKind) -> None:
        super().__init__()
        self._weight = empty_quantized(outputs, inputs, kind)
        self._matrices: Matrices | None = None
        for name, part in self._weight.parts.items():
            self.register_parameter(name, nn.Parameter(part, requires_grad=False))

    @property
    def weight(self) -> QuantizedWeight:
        """The matrix that the parameters make up now; loading replaces them."""
        codes, scales, mins = (self._parameters.get(name) for name in ("codes", "scales", "mins"))
        known = self._weight
        if known.codes is not codes or known.scales is not scales or known.mins is not mins:
            assert codes is not None
            assert scales is not None
            self._weight = QuantizedWeight(codes, scales, mins, known.outputs, known.inputs, known.kind)
        return self._weight

    def forward(self, x_RD: torch.Tensor, norm: Norm | None = None) -> torch.Tensor:
        """`[R, inputs] -> [R, outputs]`, after the norm if there is one."""
        self._matrices = single(self.weight, self._matrices)
        return side_by_side(x_RD, self._matrices, norm=norm)


def is_quantized(name: str, shape: tuple[int, ...]) -> bool:
    """Whether parameter `name` of that shape is quantized in a quantized model; if not, it is kept as it is.

    Wide stay the embeddings, the norms, the gates, and matrices whose inputs do not divide into groups.
    """
    return not name.endswith(WIDE) and shape[-1] % GROUP == 0


def quantize_modules(model: nn.Module, kind: QuantKind) -> None:
    """Replace every `Linear` that is to be quantized by an empty `QuantizedLinear`, in place and on its device."""
    linears = [(name, module) for name, module in model.named_modules() if isinstance(module, Linear)]
    for name, module in linears:
        outputs, inputs = module.weight.shape
        if is_quantized(f"{name}.weight", (outputs, inputs)):
            with module.weight.device:
                model.set_submodule(name, QuantizedLinear(inputs, outputs, kind))
