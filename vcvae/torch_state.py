"""What a caller has set in torch for the whole process must not change what the package computes, nor the reverse."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

_CPU = torch.device("cpu")


@contextmanager
def own_torch_state() -> Iterator[None]:
    """Torch as in a new process within the block or the decorated function, and the caller's again after it.

    That is: gradients and no inference mode, no autocast, float32 and the CPU by default. The global random state is
    after the block what it was before.
    """
    cuda = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    dtype = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(cuda))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device() != _CPU:
            stack.enter_context(_CPU)
        stack.callback(torch.set_default_dtype, dtype)
        torch.set_default_dtype(torch.float32)
        yield
