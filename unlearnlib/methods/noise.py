"""Noise baselines: synthesise what the model confuses with the forget class, and train with it."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..access import Access
from ..train import Callback, fit

VERSION = 1


def unsir(model: nn.Module, access: Access, *, generator: torch.Generator, noises: int = 32, steps: int = 25,
          noise_lr: float = 0.1, norm_weight: float = 0.1, copies: int = 80, per_class: int = 500, lr: float = 1e-4,
          impair_batch: int = 32, repair_batch: int = 128, epochs: int = 1, callback: Callback | None = None) -> nn.Module:
    """UNSIR: learn error-maximising noise for each forget class, impair the model with it, repair it on retain samples.

    The noise ``n`` minimises ``-CE(f(n), forget class) + norm_weight * mean ||n||^2`` (Adam, ``steps`` steps). Impair: ``epochs``
    over ``copies`` copies of it labelled as the forget class plus ``per_class`` retain samples of each class; repair: the retain
    samples alone.

    Source: Tarun et al. 2023 (arXiv 2111.08947); settings of the official SSD repository. Class forgetting only.

    *Differences from the paper*: the noise lives in the model's input space: it starts from N(mean, std) of the retain images instead
    of N(0, 1) on normalised ones.
    """
    device = next(model.parameters()).device
    labels = access.retain_labels
    if access.retain_images.dtype == torch.int64:
        raise ValueError("inputs are token ids (int64), but UNSIR synthesises noise; they must be floats or uint8: use another method.")
    kept = torch.cat([(labels == c).nonzero().flatten()[:per_class] for c in labels.unique()])
    real = access.retain_images[kept].float() / (255 if access.retain_images.dtype == torch.uint8 else 1)
    real_labels = labels[kept]
    frozen = copy.deepcopy(model).eval().requires_grad_(False)
    fake, fake_labels = [], []
    for c in access.forget_classes:
        start = torch.randn(noises, *real.shape[1:], generator=generator).to(device) * real.std() + real.mean()
        noise = _maximise_error(frozen, start, c, steps, noise_lr, norm_weight, callback)
        fake.append(noise.to(real.device).repeat(copies, *[1] * (real.dim() - 1)))
        fake_labels.append(torch.full((len(fake[-1]),), c, device=real_labels.device))
    impaired = fit(copy.deepcopy(model), torch.cat([real, *fake]), torch.cat([real_labels, *fake_labels]), generator=generator,
                   epochs=epochs, lr=lr, batch_size=impair_batch, optimizer="adam", callback=callback)
    return fit(impaired, real, real_labels, generator=generator, epochs=epochs, lr=lr, batch_size=repair_batch, optimizer="adam",
               callback=callback)


def _maximise_error(model: nn.Module, noise: Tensor, label: int, steps: int, lr: float, norm_weight: float,
                    callback: Callback | None) -> Tensor:
    noise = noise.clone().requires_grad_(True)
    target = torch.full((len(noise),), label, device=noise.device)
    optimiser = torch.optim.Adam([noise], lr=lr)
    for _ in range(steps):
        loss = -F.cross_entropy(model(noise), target) + norm_weight * noise.square().flatten(1).sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if callback:
            callback(images=len(noise))
    return noise.detach()
