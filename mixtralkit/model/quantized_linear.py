"""Quantized weight matrices as modules, and which matrices of a model are quantized."""

import torch
from torch import nn

from mixtralkit.model.linear_layer import Linear
from mixtralkit.ops.linear import linear
from mixtralkit.ops.quantized_weight import GROUP, QuantizedWeight, QuantKind, empty_quantized

# The embeddings are only looked up, norms and gates are small, and an error of a gate sends tokens to other experts.
WIDE = ("tok_embeddings.weight", "norm.weight", "gate.weight")


class QuantizedLinear(nn.Module):
    """Holds the parts of a matrix `[outputs, inputs]` as parameters, uninitialised, and multiplies by it."""

    def __init__(self, inputs: int, outputs: int, kind: QuantKind) -> None:
        super().__init__()
        self._weight = empty_quantized(outputs, inputs, kind)
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

    def forward(self, x_RD: torch.Tensor) -> torch.Tensor:
        """`[R, inputs] -> [R, outputs]`."""
        return linear(x_RD, self.weight)


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
