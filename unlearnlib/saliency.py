"""Grad-CAM: which places of an image speak for a class (arXiv 1610.02391)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .train import evaluating


def blocks(model: nn.Module) -> list[nn.Module]:
    """The stages of a library image model, in order; of a model behind a perturbation, those of the model itself."""
    inner = getattr(model, "model", model)
    if hasattr(inner, "body"):
        return list(inner.body)
    if hasattr(inner, "stages"):
        return [getattr(inner, f"layer{i + 1}") for i in range(inner.stages)]
    raise ValueError(f"{type(inner).__name__} has no convolutional stages; it must be AllCNN or ResNet: pass one of them.")


def grad_cam(model: nn.Module, images: Tensor, classes: Tensor, *, side: int = 4, batch_size: int = 500) -> Tensor:
    """Maps ``(n, h, w)`` on the CPU: ``sum_k a_k A_k`` with A the output of a stage and a_k the mean over places of ``d z_class / d A_k``.

    The stage is the last whose output is at least ``side`` wide and high (on small images the very last has no places left to tell
    apart). Positive: this place speaks for the class. Evaluation mode. Raises ValueError where no stage is that large.

    *Differences from the paper*: no ReLU, so that maps can be correlated; apply it to draw them.
    """
    device = next(model.parameters()).device
    seen: list[Tensor] = []
    hooks = [b.register_forward_hook(lambda layer, inputs, output: seen.append(output)) for b in blocks(model)]
    out = []
    try:
        with evaluating(model), torch.enable_grad():
            for x, c in zip(images.split(batch_size), classes.split(batch_size), strict=True):
                seen.clear()
                x = x.to(device)
                z = model(x.clone().requires_grad_(True) if x.is_floating_point() else x)
                large = [a for a in seen if min(a.shape[2:]) >= side]
                if not large:
                    raise ValueError(f"side is {side}; it must be at most {max(min(a.shape[2:]) for a in seen)} here: make it smaller.")
                slope, = torch.autograd.grad(z.gather(1, c.to(device)[:, None]).sum(), large[-1])
                out.append((slope.mean((2, 3), keepdim=True) * large[-1]).sum(1).detach().float().cpu())
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(out)


def map_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson correlation of two maps, image by image, ``(n,)`` in [-1, 1]; NaN where a map is constant."""
    a, b = (m.flatten(1).double() for m in (a, b))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
