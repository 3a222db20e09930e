r"""Influence unlearning: one Newton-like step that undoes what the forget set did to the weights (WoodFisher).

1. gradient   :math:`v = \frac{1}{n}\sum_{D_f} g_i - \frac{n_f}{n\,n_r}\sum_{D_r} g_i`, with :math:`g_i = \nabla_\theta \mathrm{CE}_i` and
              n = n_f + n_r
2. inverse    :math:`k \approx F^{-1} v` by a recursion over N retain samples: o starts as :math:`g_0`, then for each g
              :math:`k \leftarrow k - \frac{k \cdot g}{N + o \cdot g}\,o,\quad o \leftarrow o - \frac{o \cdot g}{N + o \cdot g}\,o`
3. step       :math:`\theta \leftarrow \theta + \alpha\,k`
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..access import Access
from ..train import Callback, check_sets, task_loss

VERSION = 1


def influence(model: nn.Module, access: Access, *, generator: torch.Generator, alpha: float = 1.0, samples: int = 1000,
              batch_size: int = 256, callback: Callback | None = None) -> nn.Module:
    """IU: a new model, one step away from the original (steps 1 to 3), in evaluation mode throughout.

    Parameters
    ----------
    alpha: length of the step, finite; reports tune it between 1 and 20. samples: N; N + 1 retain samples are drawn, or all there are.

    Raises ValueError for an empty set, N below 1 and an alpha that is not finite.

    Source: the baseline IU of Unlearn-Sparse (arXiv 2304.04934), code of Forget Vectors. *Differences from the paper*: that code takes the
    first N + 1 retain samples, and wraps the step in a loop over epochs, whereas one step is meant.
    """
    if samples < 1 or not abs(alpha) < float("inf"):
        raise ValueError(f"influence got samples={samples} and alpha={alpha}; N must be at least 1 and alpha finite: leave them out for "
                         "the defaults.")
    x_f, y_f, x_r, y_r = access.forget_images, access.forget_labels, access.retain_images, access.retain_labels
    check_sets(len(x_f), len(x_r))
    student = copy.deepcopy(model).eval()
    weights = [p for p in student.parameters() if p.requires_grad]
    device = next(student.parameters()).device

    def gradient(x: Tensor, y: Tensor) -> Tensor:
        """Sum over samples of the gradient, flat."""
        loss = task_loss(student(x.to(device)), y.to(device)) * len(x)
        if callback:
            callback(images=len(x))
        slopes = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
        return torch.cat([g.flatten() for g in slopes])

    def total(x: Tensor, y: Tensor) -> Tensor:
        return sum(gradient(*pair) for pair in zip(x.split(batch_size), y.split(batch_size), strict=True))

    n_f, n_r = len(x_f), len(x_r)
    k = total(x_f, y_f) / (n_f + n_r) - total(x_r, y_r) * (n_f / ((n_f + n_r) * n_r))           # step 1: gradient
    drawn = torch.randperm(n_r, generator=generator)[:samples + 1].to(x_r.device)
    o = gradient(x_r[drawn[:1]], y_r[drawn[:1]])
    for i in drawn[1:]:                                                         # step 2: inverse
        g = gradient(x_r[i:i + 1], y_r[i:i + 1])
        og = o @ g
        k = k - (k @ g) / (samples + og) * o
        o = o - og / (samples + og) * o
    for p, part in zip(weights, k.split([p.numel() for p in weights]), strict=True):
        p.data.add_(alpha * part.view_as(p))                                    # step 3: step
    return student
