"""ISPF: data-free unlearning by distillation into a new network that never hears of the forget classes; its ablations and DFQ-based GKT."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..access import Access
from ..devices import layout
from ..filtering import block, forget_mask, gate, postfilter
from ..models import head, reinitialise, seeded
from ..synthesis import Generator, Log, adversarial_loss, balance_loss, batchnorm_statistics_loss, one_hot_loss, relative_cost, taps
from ..train import Callback, distillation, logits

VERSION = 1
FORWARD, FORWARD_AND_INPUTS = 1 / 3, 2 / 3      # of a training step: a forward pass; the same, and backward to the inputs alone


@dataclass(frozen=True)
class Strategy:
    """How the forget classes are kept from the student: in the generator's loss, by dropping rows, by filtering the targets."""

    inhibited: bool = False                                                     # Inhibited Synthetic instead of plain -KL
    keep: Callable[..., Tensor] | None = None                                   # (logits, classes, threshold) -> bool rows; None: all
    target: Callable[..., Tensor] | None = None                                 # (logits, classes, threshold) -> logits; None: as they are


STRATEGIES = {
    "dfkd": Strategy(), "blockf": Strategy(keep=block), "gkt_dfq": Strategy(keep=gate), "is_gkt": Strategy(inhibited=True, keep=gate),
    "pf": Strategy(target=postfilter), "ispf": Strategy(inhibited=True, target=postfilter),
}


def distil(model: nn.Module, access: Access, strategy: Strategy, *, generator: torch.Generator, epochs: int = 200, warmup: int = 2,
           rounds: int = 5, generator_steps: int = 1, student_steps: int = 10, batch_size: int = 256, threshold: float = 0.01,
           lr: float = 0.05, lr_end: float = 2e-4, momentum: float = 0.9, weight_decay: float = 1e-4, generator_lr: float = 1e-3,
           bn_weight: float = 1.0, one_hot_weight: float = 1.0, adversarial_weight: float = 1.0, balance_weight: float = 1.0,
           image_shape: Sequence[int] = (3, 32, 32), latent: int = 256, widths: Sequence[int] = (256, 128, 64),
           callback: Callback | None = None) -> nn.Module:
    """Train a new student, of the same architecture, on images that a generator draws for the teacher ``model``. No data is read.

    An epoch is ``rounds`` times: ``generator_steps`` Adam steps of the generator on
    ``bn L_bn + one_hot L_oh + adversarial L_adv + balance L_bal`` (:mod:`unlearnlib.synthesis`), then ``student_steps`` SGD steps of the
    student on ``KL(softmax(target) || softmax(student))``, each on ``batch_size`` new images. In the first ``warmup`` epochs, which
    ``epochs`` does not count, only the generator learns. The student's rate falls from ``lr`` to ``lr_end`` along a cosine, by epochs.

    Parameters
    ----------
    threshold: of the gate and of PostFilter; a tenth of 1 / classes at 10 and 100 classes (0.01, 0.001).
    image_shape, latent, widths: of the :class:`unlearnlib.synthesis.Generator`; ``image_shape`` is (channels, height, width).
    callback: after each step ``callback(images=...)``, in images forward and backward through the model (the generator counted by its
        multiply-adds); after each counted epoch also ``epoch``, ``model`` (the student), ``synthesis`` (the generator) and ``measured``:
        what :meth:`unlearnlib.synthesis.Log.means` returns.

    Raises ValueError for a model without BatchNorm2d, and for forget classes that do not exist or leave none.

    Source: arXiv 2412.13790 through its official code. *Differences from the paper*: where no row, or one, is left, that student step
    alone is skipped (and counted), and the cosine goes on; the official code leaves the whole round and may skip the scheduler. The last
    student is returned; the official code keeps the best by test accuracy, which a data-free user does not have.
    """
    forget = access.forget_classes
    teacher = copy.deepcopy(model).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    device = next(teacher.parameters()).device
    seed_student, seed_synthesis = torch.randint(2 ** 31, (2,), generator=generator).tolist()
    student = reinitialise(copy.deepcopy(model), seed_student).to(memory_format=torch.channels_last)
    with seeded(seed_synthesis):
        synthesis = Generator(image_shape, latent=latent, widths=widths).to(device, memory_format=torch.channels_last)
    fused = device.type in ("cpu", "cuda")
    descent = torch.optim.SGD(student.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay, fused=fused)
    adam = torch.optim.Adam(synthesis.parameters(), lr=generator_lr, betas=(0.5, 0.999), fused=fused)
    with taps(teacher, nn.BatchNorm2d):                                         # refuses a model without, before anything runs
        relative = relative_cost(synthesis, teacher)                            # of one synthetic image
    weights = {"bn": bn_weight, "one_hot": one_hot_weight, "adversarial": adversarial_weight, "balance": balance_weight}
    forget_mask(torch.zeros(1, head(teacher).out_features), forget)             # refuses classes that do not exist

    def spend(images: float) -> None:
        if callback:
            callback(images=images)

    def generator_step(log: Log) -> None:
        synthesis.train()
        student.eval().requires_grad_(False)
        with taps(teacher, nn.BatchNorm2d) as inputs:
            x = synthesis.draw(batch_size, generator)
            t = teacher(x)
        parts = {"bn": batchnorm_statistics_loss(inputs), "one_hot": one_hot_loss(t), "balance": balance_loss(t),
                 "adversarial": adversarial_loss(t, student(x), forget if strategy.inhibited else ())}   # step 1: IS, or no class
        adam.zero_grad(set_to_none=True)
        sum(weights[name] * part for name, part in parts.items()).backward()    # step 1: draw
        adam.step()
        log.add(**parts)
        spend(batch_size * (2 * FORWARD_AND_INPUTS + relative))

    def student_steps_of_round(log: Log) -> None:
        """Generator and teacher stand still for a round, so each of them runs once for all of its steps."""
        synthesis.eval()
        student.train().requires_grad_(True)
        with torch.no_grad():
            x = torch.cat([synthesis.draw(batch_size, generator) for _ in range(student_steps)])
            t = logits(teacher, x)
            kept = (strategy.keep(t, forget, threshold) if strategy.keep else torch.ones(len(x), dtype=torch.bool)).cpu()  # step 2
            target = strategy.target(t, forget, threshold) if strategy.target else t    # step 2: filter
        log.drew(t, kept)
        spend(len(x) * FORWARD * (1 + relative))
        for images, targets, rows in zip(x.split(batch_size), target.split(batch_size), kept.split(batch_size), strict=True):  # step 3
            if int(rows.sum()) < 2:                                             # BatchNorm has no variance for one
                log.skipped += 1
                continue
            s = student(images[rows])                                           # step 3: on the rows that are kept
            loss = distillation(s, targets[rows])                               # step 3: imitate
            descent.zero_grad(set_to_none=True)
            loss.backward()
            descent.step()
            log.updated(s, loss)
            spend(int(rows.sum()))

    for epoch in range(-warmup, epochs):
        log = Log()
        for group in descent.param_groups:
            group["lr"] = lr_end + (lr - lr_end) * (1 + math.cos(math.pi * max(epoch, 0) / max(epochs, 1))) / 2
        for _ in range(rounds):
            for _ in range(generator_steps):
                generator_step(log)
            if epoch >= 0:
                student_steps_of_round(log)
        if callback and epoch >= 0:
            callback(images=0, epoch=epoch + 1, model=student, synthesis=synthesis, measured=log.means())
    return student.eval().requires_grad_(True).to(memory_format=layout())


def ispf(model: nn.Module, access: Access, *, generator: torch.Generator, **settings) -> nn.Module:
    """ISPF: Inhibited Synthetic in the generator's loss, every image used, PostFilter on the targets. ``settings``: :func:`distil`."""
    return distil(model, access, STRATEGIES["ispf"], generator=generator, **settings)


def pf(model: nn.Module, access: Access, *, generator: torch.Generator, **settings) -> nn.Module:
    """Ablation: PostFilter alone. ``settings``: :func:`distil`."""
    return distil(model, access, STRATEGIES["pf"], generator=generator, **settings)


def is_gkt(model: nn.Module, access: Access, *, generator: torch.Generator, **settings) -> nn.Module:
    """Ablation: Inhibited Synthetic, then GKT's gate. ``settings``: :func:`distil`."""
    return distil(model, access, STRATEGIES["is_gkt"], generator=generator, **settings)


def gkt_dfq(model: nn.Module, access: Access, *, generator: torch.Generator, **settings) -> nn.Module:
    """GKT in ISPF's framework: images that the gate lets through, no attention transfer. ``settings``: :func:`distil`."""
    return distil(model, access, STRATEGIES["gkt_dfq"], generator=generator, **settings)


def blockf(model: nn.Module, access: Access, *, generator: torch.Generator, **settings) -> nn.Module:
    """BlockF: images that the teacher takes for a forget class are dropped. ``settings``: :func:`distil`."""
    return distil(model, access, STRATEGIES["blockf"], generator=generator, **settings)


def dfkd(model: nn.Module, access: Access, *, generator: torch.Generator, **settings) -> nn.Module:
    """Control: data-free distillation of everything, the forget classes included. ``settings``: :func:`distil`."""
    return distil(model, access, STRATEGIES["dfkd"], generator=generator, **settings)
