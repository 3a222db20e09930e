"""Fine-tuning baselines: go on training with the retain set, with or without relabelled forget samples."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ..access import Access
from ..train import Callback, fit

VERSION = 1


def finetune(model: nn.Module, access: Access, *, generator: torch.Generator, epochs: int = 5, lr: float = 0.02,
             batch_size: int = 64, optimizer: str = "sgd", momentum: float = 0.9, weight_decay: float = 5e-4,
             schedule: str = "constant", gamma: float = 0.2, batchnorm: str = "train", augment: bool = False,
             callback: Callback | None = None) -> nn.Module:
    """Fine-tuning: go on training with the retain set alone, hoping that the rest is forgotten on the way.

    Source: the baseline of SSD and LFSSD as in the official code (the defaults: 5 epochs of SGD at 0.02). The baseline of ∇τ
    (images): 6 epochs of AdamW at 1e-3 with weight decay 0.01, schedule linear to gamma = 0.1, batch 256, batchnorm eval. That of Forget
    Vectors: 10 epochs of SGD at 0.01, batch 256, with augmentation.
    """
    return fit(copy.deepcopy(model), access.retain_images, access.retain_labels, generator=generator, epochs=epochs, lr=lr,
               batch_size=batch_size, optimizer=optimizer, momentum=momentum, weight_decay=weight_decay, schedule=schedule,
               gamma=gamma, batchnorm=batchnorm, augment=augment, callback=callback)


def amnesiac(model: nn.Module, access: Access, *, generator: torch.Generator, epochs: int = 3, lr: float = 1e-4,
             batch_size: int = 128, callback: Callback | None = None) -> nn.Module:
    """Amnesiac relabelling: give each forget sample a wrong label, uniformly at random, and train on everything (Adam).

    Source: Graves et al. 2021 (arXiv 2010.10981), as re-coded in the official SSD repository.

    Raises ValueError where a sample has several labels: there is no single wrong one.
    """
    if access.forget_labels.ndim == 2:
        raise ValueError("labels are bool, several a sample; amnesiac relabelling needs one label each: use another method.")
    classes = _classes(model, access)
    shift = torch.randint(1, classes, (len(access.forget_labels),), generator=generator).to(access.forget_labels.device)
    wrong = (access.forget_labels + shift) % classes                            # uniform over the other classes
    images = torch.cat([access.retain_images, access.forget_images])
    labels = torch.cat([access.retain_labels, wrong])
    return fit(copy.deepcopy(model), images, labels, generator=generator, epochs=epochs, lr=lr, batch_size=batch_size,
               optimizer="adam", callback=callback)


@torch.no_grad()
def _classes(model: nn.Module, access: Access) -> int:
    """Number of outputs of the model, seen on one image in evaluation mode."""
    probe = copy.deepcopy(model).eval()
    return probe(access.forget_images[:1].to(next(probe.parameters()).device)).shape[1]
