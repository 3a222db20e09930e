"""Sparsity: fine-tune on the retain set while small weights are driven to zero."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ..access import Access
from ..train import Callback, fit

VERSION = 1


def l1_sparse(model: nn.Module, access: Access, *, generator: torch.Generator, epochs: int = 10, lr: float = 0.01, batch_size: int = 256,
              alpha: float = 0.2, momentum: float = 0.9, weight_decay: float = 5e-4, batchnorm: str = "train",
              augment: bool = False, callback: Callback | None = None) -> nn.Module:
    """l1-sparse: fine-tuning on D_r with ``CE + alpha (1 - e / epochs) sum_i |theta_i|`` in epoch e = 0, 1, ... (SGD).

    The sum is over all parameters that require gradients. Raises ValueError for a negative or infinite alpha.

    Source: Jia et al. 2023 (arXiv 2304.04934), official code; alpha is its command line's default, which erases most networks: tune it,
    for example from 1e-4 to 5e-4.
    """
    if not 0 <= alpha < float("inf"):
        raise ValueError(f"alpha is {alpha}; it must be at least 0 and finite: try 5e-4, 0 is plain fine-tuning.")
    student = copy.deepcopy(model)
    weights = [p for p in student.parameters() if p.requires_grad]
    return fit(student, access.retain_images, access.retain_labels, generator=generator, epochs=epochs, lr=lr, batch_size=batch_size,
               momentum=momentum, weight_decay=weight_decay, batchnorm=batchnorm, augment=augment, callback=callback,
               penalty=lambda epoch: alpha * (1 - epoch / epochs) * sum(p.abs().sum() for p in weights))
