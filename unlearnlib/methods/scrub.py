"""Descent and ascent baselines: SCRUB, its rewind SCRUB+R, and NegGrad+."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..access import Access
from ..metrics import accuracy
from ..train import Callback, batch_pairs, check_mode, check_sets, distillation, logits, optimizer_of, task_loss

VERSION = 1


def scrub(model: nn.Module, access: Access, *, generator: torch.Generator, epochs: int = 6, max_epochs: int = 3, lr: float = 5e-4,
          batch_size: int = 256, temperature: float = 4.0, distil_weight: float = 0.5, anchor_weight: float = 0.5,
          momentum: float = 0.9, weight_decay: float = 5e-4, decay_after: tuple[int, ...] = (3, 5),
          callback: Callback | None = None, epoch_end: Callable[[nn.Module], None] | None = None) -> nn.Module:
    """SCRUB: go away from the original on D_f (``max_epochs`` passes), stay with it and the labels on D_r (``epochs`` passes).

    Max step: ``-KD + anchor``. Min step: ``CE + distil_weight * KD + anchor``. KD: see :func:`distillation`, with the original as teacher;
    anchor: ``anchor_weight * sum_p ||p - p_original||``. SGD; the learning rate falls tenfold after the epochs ``decay_after``.
    ``epoch_end(student)`` is called after each epoch.

    Source: Kurmanji et al. 2023 (arXiv 2302.09880), with the settings of ∇τ's official code.

    *Differences from the paper*: the anchor's averaged weights are updated from epoch 10 on only, that is never: it pulls to the original.
    """
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}; it must be at least 1: the paper's code has 6.")
    check_sets(len(access.forget_images), len(access.retain_images))
    teacher, student = copy.deepcopy(model).eval(), copy.deepcopy(model)
    device = next(student.parameters()).device
    weights = [p for p in student.parameters() if p.requires_grad]
    anchors = [p.detach().clone() for p in weights]
    optimiser = optimizer_of("sgd", weights, lr, momentum, weight_decay)

    def passes(images: Tensor, labels: Tensor | None) -> None:
        """One epoch: a min pass with labels, a max pass without."""
        for batch in torch.randperm(len(images), generator=generator).to(images.device).split(batch_size):
            if len(batch) == 1 < len(images):                                   # BatchNorm has no variance there
                continue
            x = images[batch].to(device)
            with torch.no_grad():
                wanted = teacher(x)
            outputs = student(x)
            kd = distillation(outputs, wanted, temperature)
            loss = -kd if labels is None else task_loss(outputs, labels[batch].to(device)) + distil_weight * kd
            loss = loss + anchor_weight * sum((p - a).norm() for p, a in zip(weights, anchors, strict=True))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            if callback:
                callback(images=len(batch), loss=loss.detach(), model=student)
                callback(images=len(batch), backward=False)                     # the teacher's forward pass

    for epoch in range(1, epochs + 1):
        for group in optimiser.param_groups:
            group["lr"] = lr * 0.1 ** sum(epoch > after for after in decay_after)
        student.train()
        if epoch <= max_epochs:
            passes(access.forget_images, None)
        passes(access.retain_images, access.retain_labels)
        if epoch_end:
            epoch_end(student)
    return student.eval()


def scrub_r(model: nn.Module, access: Access, *, generator: torch.Generator, callback: Callback | None = None, **settings) -> nn.Module:
    """SCRUB+R: :func:`scrub` with its ``settings``, then rewind to the epoch whose forget error is nearest to the final held-out error.

    Of equally near epochs, the last. Random samples are drawn like held-out data; for a class, pass held-out data of that class.

    Source: as SCRUB. *Differences from the paper*: in ∇τ's official code the reference is undefined and the error is swallowed, so its
    SCRUB+R returns SCRUB; this one rewinds.
    """
    kept: list[tuple[float, dict]] = []

    def score(student: nn.Module, images: Tensor, labels: Tensor) -> float:
        if callback:
            callback(images=len(images), backward=False)
        return accuracy(logits(student, images), labels)

    def keep(student: nn.Module) -> None:
        state = {k: v.detach().clone() for k, v in student.state_dict().items()}
        kept.append((score(student, access.forget_images, access.forget_labels), state))

    student = scrub(model, access, generator=generator, callback=callback, epoch_end=keep, **settings)
    reference = score(student, *access.held_out)
    student.load_state_dict(min(reversed(kept), key=lambda pair: abs(pair[0] - reference))[1])
    return student.eval()


def neggrad_plus(model: nn.Module, access: Access, *, generator: torch.Generator, epochs: int = 6, lr: float = 0.01,
                 batch_size: int = 256, retain_weight: float = 0.95, momentum: float = 0.9, weight_decay: float = 5e-4,
                 bn_mode: str = "eval", callback: Callback | None = None) -> nn.Module:
    """NegGrad+: descent on D_r and ascent on D_f, with no target: ``retain_weight * L_r - (1 - retain_weight) * L_f`` (SGD).

    ``epochs`` are passes over the forget set; the batches are paired as in ∇τ (:func:`unlearnlib.train.batch_pairs`).

    Source: Kurmanji et al. 2023 (arXiv 2302.09880), whose pairing cycles the forget set instead.
    """
    if not 0 <= retain_weight <= 1:
        raise ValueError(f"retain_weight is {retain_weight}; it must be in [0, 1]: 1 is fine-tuning, 0 pure ascent.")
    check_mode("bn_mode", bn_mode)
    x_f, y_f, x_r, y_r = access.forget_images, access.forget_labels, access.retain_images, access.retain_labels
    student = copy.deepcopy(model)
    device = next(student.parameters()).device
    optimiser = optimizer_of("sgd", [p for p in student.parameters() if p.requires_grad], lr, momentum, weight_decay)
    student.train(bn_mode == "train")
    for step, (epoch, forget, retain) in enumerate(batch_pairs(len(x_f), len(x_r), batch_size, epochs, generator)):
        if bn_mode == "train" and 1 in (len(forget), len(retain)):              # BatchNorm has no variance there
            continue
        forget, retain = forget.to(x_f.device), retain.to(x_r.device)
        retain_loss = task_loss(student(x_r[retain].to(device)), y_r[retain].to(device))
        forget_loss = task_loss(student(x_f[forget].to(device)), y_f[forget].to(device))
        loss = retain_weight * retain_loss - (1 - retain_weight) * forget_loss
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if callback:
            callback(images=len(forget) + len(retain), step=step, epoch=epoch, model=student, loss=loss.detach(),
                     forget_loss=forget_loss.detach(), retain_loss=retain_loss.detach())
    return student.eval()
