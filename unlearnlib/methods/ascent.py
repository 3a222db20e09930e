"""Gradient ascent: train backwards on the forget set."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ..access import Access
from ..train import Callback, fit, task_loss

VERSION = 1


def gradient_ascent(model: nn.Module, access: Access, *, generator: torch.Generator, epochs: int = 5, lr: float = 1e-4,
                    batch_size: int = 256, momentum: float = 0.9, weight_decay: float = 5e-4, batchnorm: str = "train",
                    augment: bool = False, callback: Callback | None = None) -> nn.Module:
    """GA: minimise ``-CE`` on D_f alone (SGD). Nothing holds the rest in place, so all depends on the learning rate.

    Source: a baseline of Unlearn-Sparse (arXiv 2304.04934), whose authors state 1e-4 for a class and 5e-4 to 1e-3 for random samples.
    """
    return fit(copy.deepcopy(model), access.forget_images, access.forget_labels, generator=generator, epochs=epochs, lr=lr,
               batch_size=batch_size, momentum=momentum, weight_decay=weight_decay, batchnorm=batchnorm, augment=augment,
               loss=lambda outputs, labels: -task_loss(outputs, labels), callback=callback)
