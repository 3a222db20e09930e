"""Distillation baselines: a student learns from one teacher on the forget set and from another on the rest."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ..access import Access
from ..models import reinitialise
from ..train import Callback, distillation, fit, logits

VERSION = 1


def bad_teacher(model: nn.Module, access: Access, *, generator: torch.Generator, epochs: int = 1, lr: float = 1e-4,
                batch_size: int = 256, retain_share: float = 0.3, callback: Callback | None = None) -> nn.Module:
    """Bad teaching: imitate a randomly initialised teacher on D_f and the original on a random share of D_r (Adam).

    Minimises ``KL(teacher || student)`` at temperature 1, per image. No label is read.

    Source: Chundawat et al. 2023 (arXiv 2205.08096), "blindspot" in the official SSD repository.

    *Differences from the paper*: the official code divides the loss by images times classes (``kl_div`` with its default
    reduction) instead of images; Adam is invariant to that factor up to its epsilon.
    """
    incompetent = reinitialise(copy.deepcopy(model), seed=generator.initial_seed())
    n = len(access.retain_images)
    kept = torch.randperm(n, generator=generator)[: max(1, round(retain_share * n))].to(access.retain_images.device)
    images = torch.cat([access.forget_images, access.retain_images[kept]])
    targets = torch.cat([logits(incompetent, access.forget_images), logits(model, access.retain_images[kept])])
    if callback:                                                                # the teachers' forward passes
        callback(images=len(images), backward=False)

    return fit(copy.deepcopy(model), images, targets, generator=generator, epochs=epochs, lr=lr, batch_size=batch_size,
               optimizer="adam", loss=distillation, callback=callback)
