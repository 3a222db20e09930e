"""Images from nothing but a network: the generator of data-free distillation, and the losses that it follows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .train import evaluating, multiply_adds


class Generator(nn.Module):
    """Noise ``z`` ``(n, latent)`` to images ``(n, c, h, w)``: a linear layer, then three 3x3 convolutions with two doublings between.

    Parameters
    ----------
    image_shape: (c, h, w); h and w multiples of 4.
    widths: channels before each convolution. At the defaults the network has 4.58 M parameters (157.0 M multiply-adds an image).
    squash: True ends in a sigmoid, so that pixels are in [0, 1]; False in BatchNorm, whose values have no bounds (as in GKT).

    Source: "LargeGenerator" of the official ISPF code (from CMI, arXiv 2105.08584).
    """

    def __init__(self, image_shape: Sequence[int] = (3, 32, 32), *, latent: int = 256, widths: Sequence[int] = (256, 128, 64),
                 squash: bool = True):
        super().__init__()
        channels, height, width = image_shape
        if height % 4 or width % 4:
            raise ValueError(f"image_shape is {tuple(image_shape)}; height and width must be multiples of 4: the generator doubles twice.")
        self.latent, self.start = latent, (widths[0], height // 4, width // 4)
        self.linear = nn.Linear(latent, widths[0] * self.start[1] * self.start[2])
        layers: list[nn.Module] = [nn.BatchNorm2d(widths[0])]
        for inputs, outputs in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs),
                       nn.LeakyReLU(0.2, inplace=True)]
        layers += [nn.Conv2d(widths[-1], channels, 3, padding=1), nn.Sigmoid() if squash else nn.BatchNorm2d(channels)]
        self.body = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:                                     # (n, latent) -> (n, c, h, w)
        return self.body(self.linear(z).unflatten(1, self.start))

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` images from fresh noise of ``generator`` (a CPU generator), on this network's device."""
        return self(torch.randn(n, self.latent, generator=generator).to(self.linear.weight.device, non_blocking=True))


@contextmanager
def taps(model: nn.Module, kind: type[nn.Module], outputs: bool = False) -> Iterator[list[tuple[nn.Module, Tensor]]]:
    """Every layer of a kind with what enters it (or leaves it: ``outputs``), in order, collected while the block runs.

    Raises ValueError, in one sentence, where the model has no such layer.
    """
    seen: list[tuple[nn.Module, Tensor]] = []
    layers = [m for m in model.modules() if isinstance(m, kind)]
    if not layers:
        raise ValueError(f"the model has 0 {kind.__name__} layers; it must have at least 1, as data-free distillation knows the data by "
                         "them alone: use a network with BatchNorm and ReLU.")

    def enter(layer: nn.Module, inputs: tuple) -> None:
        seen.append((layer, inputs[0]))

    def leave(layer: nn.Module, inputs: tuple, output: Tensor) -> None:
        seen.append((layer, output))

    hooks = [layer.register_forward_hook(leave) if outputs else layer.register_forward_pre_hook(enter) for layer in layers]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def batchnorm_statistics_loss(inputs: Sequence[tuple[nn.BatchNorm2d, Tensor]]) -> Tensor:
    """``sum over layers of ||running var - v||_2 + ||running mean - m||_2``: do images look like the training set, layer by layer?

    ``m`` and ``v`` are the mean and the biased variance of a layer's input ``(n, c, h, w)`` over n, h and w. The norms run over the
    channels and are not squared. Takes what :func:`taps` collects.

    Source: DFQ (Choi et al. 2020) in the form of the official ISPF code.
    """
    total = torch.zeros((), device=inputs[0][1].device, dtype=inputs[0][1].dtype)
    for layer, x in inputs:
        variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        total = total + (layer.running_var - variance).norm() + (layer.running_mean - mean).norm()
    return total


def one_hot_loss(teacher_logits: Tensor) -> Tensor:
    """Cross-entropy against the teacher's own prediction, mean over the batch: small where the teacher is sure. ``(n, classes)`` in."""
    return F.cross_entropy(teacher_logits, teacher_logits.detach().argmax(1))


def balance_loss(teacher_logits: Tensor) -> Tensor:
    """Negative entropy (nats) of the batch's mean prediction, in [-log classes, 0]: least where all classes are drawn equally often.

    All classes, the forgotten ones included: it pulls against Inhibited Synthetic (so the official code).
    """
    log_mean = teacher_logits.log_softmax(1).logsumexp(0) - math.log(len(teacher_logits))       # (classes,)
    return (log_mean.exp() * log_mean).sum()


def adversarial_loss(teacher_logits: Tensor, student_logits: Tensor, forget_classes: Sequence[int] = ()) -> Tensor:
    """``mean_i [ sum_{k in F} p log(p/q) - sum_{k not in F} p log(p/q) ]`` with p the teacher's, q the student's softmax.

    Without forget classes this is ``-KL(p || q)``: images on which the student does not follow yet. With them, **Inhibited Synthetic**:
    the terms of the forget classes keep their sign, so for those the two are drawn together, to ``p = q/e``, and p shrinks with q.
    Neither half is a divergence: the loss may have either sign. Logits ``(n, classes)``, a scalar out; gradients flow through both.

    Source: the official ISPF code (arXiv 2412.13790).
    """
    log_p, log_q = teacher_logits.log_softmax(1), student_logits.log_softmax(1)      # step 1: log p, log q
    sign = -torch.ones_like(log_p[0])                                           # step 1: kept classes: minus, (classes,)
    sign[list(forget_classes)] = 1                                              # step 1: forget classes: plus
    return (sign * log_p.exp() * (log_p - log_q)).sum(1).mean()                 # step 1: L_adv


@dataclass
class Log:
    """What happened in one epoch of a data-free distillation, kept on the device until :meth:`means` is asked for."""

    kept: int = 0
    drawn: int = 0
    updates: int = 0
    skipped: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, **values: Tensor) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
            self.counts[name] = self.counts.get(name, 0) + 1

    def drew(self, teacher_logits: Tensor, kept: Tensor) -> None:
        """Note what the teacher says of all rows that were drawn, and which of them are kept (bool)."""
        predicted = F.one_hot(teacher_logits.argmax(1), teacher_logits.shape[1]).float()
        self.add(teacher=teacher_logits.softmax(1).mean(0), predicted=predicted.mean(0))
        self.drawn += len(kept)
        self.kept += int(kept.sum())

    def updated(self, student_logits: Tensor, loss: Tensor) -> None:
        self.updates += 1
        self.add(student=student_logits.detach().softmax(1).mean(0), loss=loss)

    def means(self) -> dict:
        """``kept`` (share of the drawn rows), ``updates`` and ``skipped`` student steps, ``teacher``, ``student`` (mean probability of each
        class) and ``predicted`` (share of the drawn rows by the teacher's prediction), and the mean of every loss."""
        out = {"kept": self.kept / max(self.drawn, 1), "updates": self.updates, "skipped": self.skipped}
        return out | {name: (total / self.counts[name]).tolist() for name, total in self.sums.items()}


def relative_cost(synthesis: Generator, model: nn.Module) -> float:
    """Multiply-adds of one synthetic image, in those of one forward pass of ``model``."""
    z = torch.zeros(1, synthesis.latent, device=synthesis.linear.weight.device)
    with torch.no_grad(), evaluating(synthesis):
        x = synthesis(z)
    return multiply_adds(synthesis, z) / multiply_adds(model, x)
