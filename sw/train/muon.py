# SPDX-License-Identifier: Apache-2.0
"""Muon: momentum whose matrices are orthogonalised by a Newton-Schulz iteration before the step."""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["Muon", "orthogonalise"]


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Nearest semi-orthogonal matrices, roughly, of a stack `[K, rows, columns]`."""
    x = matrices.bfloat16() if matrices.is_cuda else matrices.float()
    wide = x.shape[1] <= x.shape[2]
    x = x if wide else x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x if wide else x.mT).to(matrices.dtype)


class Muon(Optimizer):
    """Nesterov momentum, orthogonalised; weight decay is decoupled.

    A convolution's weight is the matrix `[outputs, inputs * kernel]`. Equal shapes are stacked.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, weight_decay: float,
                 momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            stacks: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    rows = parameter.shape[0]
                    stacks[rows, parameter.numel() // rows].append(parameter)
            for (rows, columns), parameters in stacks.items():
                self._step_stack(parameters, rows, columns, group)

    def _step_stack(self, parameters: list[Tensor], rows: int, columns: int, group: dict) -> None:
        gradients = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            if "momentum" not in self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        buffers = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        updates = torch._foreach_lerp(gradients, buffers, group["momentum"])
        stack = torch.stack([update.reshape(rows, columns) for update in updates])
        scale = max(1.0, rows / columns) ** 0.5
        steps = [update.view(parameter.shape)
                 for parameter, update in zip(parameters, orthogonalise(stack), strict=True)]
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, steps, alpha=-group["lr"] * scale)
