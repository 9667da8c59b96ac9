"""Copies from page-locked memory to a GPU that go on while the host does other things."""

from typing import Protocol

import torch


class Underway(Protocol):
    """A copy that has begun."""

    def synchronize(self) -> None:
        """Wait until it is done; any thread may."""


class Uploads(Protocol):
    """What staging.py needs of a device."""

    def buffer(self, nbytes: int) -> torch.Tensor:
        """Memory of the host, uint8, from which `copy` is fast."""

    def empty(self, nbytes: int) -> torch.Tensor:
        """Memory of the device, uint8, for `copy` to write to."""

    def copy(self, target: torch.Tensor, buffer: torch.Tensor) -> Underway:
        """Begin to copy; `buffer` may be written again when it is done."""

    def hand_over(self, target: torch.Tensor) -> None:
        """Have what is computed with `target` from now on, by this thread, come after its copies."""

    def close(self) -> None:
        """Give back what is not needed any more, when all copies are done."""


class CudaUploads:
    """Copies on a stream of their own.

    The memory that they write to belongs to that stream too, so that a copy need not wait for what the device still
    computes with the tensors before, such as their quantization.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def buffer(self, nbytes: int) -> torch.Tensor:
        """See `Uploads`; torch keeps such memory for the next time."""
        with torch.cuda.device(self._device):  # whatever thread this is: it must not begin to use GPU 0
            return torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)

    def empty(self, nbytes: int) -> torch.Tensor:
        """See `Uploads`."""
        with torch.cuda.stream(self._stream):
            return torch.empty(nbytes, dtype=torch.uint8, device=self._device)

    def copy(self, target: torch.Tensor, buffer: torch.Tensor) -> torch.cuda.Event:
        """See `Uploads`."""
        done = torch.cuda.Event(blocking=True)  # who waits for it sleeps
        with torch.cuda.stream(self._stream):
            target.copy_(buffer, non_blocking=True)
            done.record()
        return done

    def hand_over(self, target: torch.Tensor) -> None:
        """See `Uploads`."""
        user = torch.cuda.current_stream(self._device)
        user.wait_stream(self._stream)
        target.record_stream(user)  # the memory is not given to another tensor before that stream is through with it

    def close(self) -> None:
        """See `Uploads`: what has been freed belongs to the stream of copies, which nobody uses any more."""
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()
