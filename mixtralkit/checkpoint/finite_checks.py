"""Whether tensors are finite, without waiting for a GPU after each of them."""

import torch

from mixtralkit.errors import CheckpointError


class FiniteChecks:
    """On the CPU what is not finite is found at once, elsewhere when the checks are settled.

    Asking a GPU waits for all that it was given to do, and nothing would be under way meanwhile.
    """

    def __init__(self, device: torch.device) -> None:
        self._at_once = device.type == "cpu"
        self._open: list[tuple[torch.Tensor, str]] = []

    def expect(self, tensor: torch.Tensor, problem: str) -> None:
        """Check that `tensor` holds no NaN and no infinity; if it does, `problem` is what to tell the user.

        Raises `CheckpointError`, here or in `settle`.
        """
        self._open.append((tensor.isfinite().all(), problem))
        if self._at_once:
            self.settle()

    def settle(self) -> None:
        """Raise `CheckpointError` for the first tensor since the last call that was not finite."""
        checks, self._open = self._open, []
        answers = torch.stack([finite for finite, _ in checks]).tolist() if checks else []
        for finite, (_, problem) in zip(answers, checks, strict=True):
            if not finite:
                raise CheckpointError(problem)
