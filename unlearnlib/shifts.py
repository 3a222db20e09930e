"""Data shifts: the same images under noise, elastic deformation or attack, to see what a model still recognises.

Pure functions of images ``(n, c, h, w)``, floats on the [0, 1] scale or uint8; the result is float, of the same shape and on the same
device, and depends on the CPU generator alone. Strengths: the five published severities of ImageNet-C and CIFAR-C (arXiv 1903.12261),
by the width of the image; to use them at another width, multiply lengths in pixels (all of :data:`ELASTIC`) by the ratio of the widths.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .data import clip_pixels, pixels
from .train import evaluating, task_loss

GAUSSIAN = {32: (0.04, 0.06, 0.08, 0.09, 0.10), 224: (0.08, 0.12, 0.18, 0.26, 0.38)}            # sigma
ELASTIC = {                                                                                     # scale, smoothing, jitter, in pixels
    32: ((0.0, 0.0, 2.56), (1.6, 6.4, 2.24), (2.56, 1.92, 1.92), (3.2, 1.28, 1.6), (3.2, 0.96, 0.96)),
    224: ((488.0, 170.8, 24.4), (488.0, 19.52, 48.8), (12.2, 2.44, 4.88), (17.08, 2.44, 4.88), (29.28, 2.44, 4.88)),
}


def gaussian_noise(images: Tensor, sigma: float, *, generator: torch.Generator) -> Tensor:
    """``x + sigma n``, n standard normal in every pixel and channel, clipped to [0, 1] (see :func:`unlearnlib.data.clip_pixels`).

    ``sigma`` >= 0 is on the [0, 1] scale. Source: ``gaussian_noise`` of ImageNet-C's code.
    """
    _not_negative(sigma=sigma)
    x = pixels(images)
    return clip_pixels(x + sigma * torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device), x)


def elastic(images: Tensor, scale: float, smoothing: float, jitter: float, *, generator: torch.Generator) -> Tensor:
    """A random affine map, then a smooth random displacement of the pixels, another for each image; bilinear, reflected at the border.

        affine          takes three anchors, a third of the side from the centre, to where each is jittered by U(-jitter, jitter)
        displacement    scale * Gaussian(U(-1, 1), sigma = smoothing), one field for rows and one for columns

    All lengths are in pixels, >= 0. Raises ValueError for other shapes than (n, c, h, w).

    Source: ``elastic_transform`` of ImageNet-C's code. *Differences from the paper*: none but rounding (OpenCV samples at 1/32 pixel).
    """
    _not_negative(scale=scale, smoothing=smoothing, jitter=jitter)
    if images.ndim != 4:
        raise ValueError(f"images have the shape {tuple(images.shape)}; elastic deformation needs (n, c, h, w): pass images.")
    x = pixels(images)
    n, _, h, w = x.shape

    def uniform(*shape: int) -> Tensor:
        return (2 * torch.rand(n, *shape, generator=generator, dtype=x.dtype) - 1).to(x.device)

    rows, columns = torch.meshgrid(torch.arange(h).to(x), torch.arange(w).to(x), indexing="ij")          # (h, w) each
    centre, side = torch.tensor([w // 2, h // 2]).to(x), min(h, w) // 3
    anchors = centre + side * torch.tensor([[1, 1], [1, -1], [-1, -1]]).to(x)                   # (3, 2): column and row
    moved = anchors + jitter * uniform(3, 2)
    back = torch.linalg.solve(F.pad(moved, (0, 1), value=1.0), anchors)                         # (n, 3, 2): where a pixel comes from
    source = torch.stack([columns, rows, torch.ones_like(rows)], dim=2) @ back[:, None]         # (n, h, w, 2)
    x = _sample(x, source, centres=True)
    shift = torch.stack([_smooth(uniform(h, w), smoothing) for _ in range(2)], dim=3)           # (n, h, w, 2)
    return _sample(x, torch.stack([columns, rows], dim=2) + scale * shift, centres=False) if scale else x


def pgd(model: nn.Module, images: Tensor, labels: Tensor, *, generator: torch.Generator, epsilon: float = 8 / 255, step: float = 2 / 255,
        steps: int = 7, batch_size: int = 500) -> Tensor:
    """Images that the model gets as wrong as it can within ``epsilon``: projected gradient ascent on its loss, in evaluation mode.

        x <- clip(x + step sign(d CE / dx)) within [x_0 - epsilon, x_0 + epsilon] and [0, 1], from a uniformly random start

    ``epsilon`` and ``step`` are on the [0, 1] scale, >= 0; with 0 steps it is the random start alone. The model is left as it was, and no
    gradient of its parameters is computed.

    Source: Madry et al. (arXiv 1706.06083).
    """
    _not_negative(epsilon=epsilon, step=step, steps=steps)
    device = next(model.parameters()).device
    out = []
    with evaluating(model), torch.enable_grad():
        for clean, y in zip(pixels(images).split(batch_size), labels.split(batch_size), strict=True):
            noise = 2 * torch.rand(clean.shape, generator=generator, dtype=clean.dtype) - 1
            clean, y = clean.to(device), y.to(device)
            x = clip_pixels(clean + epsilon * noise.to(device), clean)
            for _ in range(steps):
                x.requires_grad_(True)
                slope, = torch.autograd.grad(task_loss(model(x), y), x)
                x = x.detach() + step * slope.sign()
                x = clip_pixels(torch.minimum(torch.maximum(x, clean - epsilon), clean + epsilon), clean)
            out.append(x.detach().to(images.device))
    return torch.cat(out)


def _not_negative(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} is {value}; it must be at least 0 and finite: 0 leaves the images as they are.")


def _sample(images: Tensor, points: Tensor, *, centres: bool) -> Tensor:
    """Bilinear values at points ``(n, h, w, 2)`` (column, row), in pixels; reflected at the centres or edges of the border pixels."""
    size = torch.tensor(images.shape[:1:-1]).to(points)                         # (w, h)
    unit = 2 * points / (size - 1) - 1 if centres else (2 * points + 1) / size - 1
    return F.grid_sample(images, unit, mode="bilinear", padding_mode="reflection", align_corners=centres)


def _smooth(field: Tensor, sigma: float) -> Tensor:
    """Gaussian filter of ``(n, h, w)``, cut at 3 sigma, reflected at the pixels' edges as often as it takes."""
    if sigma == 0:
        return field
    reach = torch.arange(-int(3 * sigma + 0.5), int(3 * sigma + 0.5) + 1)
    weights = torch.exp(-0.5 * (reach.double() / sigma) ** 2).to(field)
    weights = weights / weights.sum()

    def matrix(n: int) -> Tensor:
        at = (torch.arange(n)[:, None] + reach) % (2 * n)
        at = torch.where(at < n, at, 2 * n - 1 - at).to(field.device)
        return torch.zeros(n, n).to(field).scatter_add_(1, at, weights.expand(n, -1))

    return matrix(field.shape[1]) @ field @ matrix(field.shape[2]).T
