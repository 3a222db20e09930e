"""Descent and ascent baselines: SCRUB, its rewind SCRUB+R, and NegGrad+."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ..access import Access
from ..data import augment as augment_batch
from ..metrics import accuracy
from ..train import Callback, batch_pairs, check_mode, check_sets, distillation, logits, optimizer_of, task_loss

VERSION = 1


def scrub(model: nn.Module, access: Access, *, generator: torch.Generator, epochs: int = 6, max_epochs: int = 3, lr: float = 5e-4,
          batch_size: int = 256, temperature: float = 4.0, distil_weight: float = 0.5, anchor_weight: float = 0.5,
          momentum: float = 0.9, weight_decay: float = 5e-4, decay_after: tuple[int, ...] = (3, 5), augment: bool = False,
          callback: Callback | None = None, epoch_end: Callable[[nn.Module], None] | None = None) -> nn.Module:
    """SCRUB: go away from the original on D_f (``max_epochs`` passes), stay with it and the labels on D_r (``epochs`` passes).

    Max step: ``-KD + anchor``. Min step: ``CE + distil_weight * KD + anchor``. KD: see :func:`distillation`, with the original as teacher;
    anchor: ``anchor_weight * sum_p ||p - p_original||``. SGD; the learning rate falls tenfold after the epochs ``decay_after``.
    ``epoch_end(student)`` is called after each epoch. ``augment``: random crops and flips.

    Source: Kurmanji et al. 2023 (arXiv 2302.09880), with the settings of ∇τ's official code. Those of SCRUB's notebook and of Forget
    Vectors: distil_weight 0.001, no anchor, 3 epochs, 2 of them with max steps.

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
            x = (augment_batch(images[batch], generator) if augment else images[batch]).to(device)
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
                 bn_mode: str = "eval", mixed: bool = False, augment: bool = False, callback: Callback | None = None) -> nn.Module:
    """NegGrad+: descent on D_r and ascent on D_f, with no target: ``retain_weight * L_r - (1 - retain_weight) * L_f`` (SGD).

    ``epochs`` are passes over the forget set; the batches are paired as in ∇τ (:func:`unlearnlib.train.batch_pairs`). With ``mixed`` they
    are passes over the whole training set, and each batch takes both sets as they come: ``L_r`` and ``L_f`` are means over its retained
    and its forgotten samples, 0 where it has none. ``augment``: random crops and flips.

    Source: Kurmanji et al. 2023 (arXiv 2302.09880), whose pairing cycles the forget set instead; ``mixed``, with ``bn_mode="train"``: the
    official code of Forget Vectors (arXiv 2412.16780). *Differences from that code*: it divides L_f by 256 minus the retained samples,
    which is wrong in a short batch and undefined in one without forgotten samples; here the samples are counted.
    """
    if not 0 <= retain_weight <= 1:
        raise ValueError(f"retain_weight is {retain_weight}; it must be in [0, 1]: 1 is fine-tuning, 0 pure ascent.")
    check_mode("bn_mode", bn_mode)
    x_f, y_f, x_r, y_r = access.forget_images, access.forget_labels, access.retain_images, access.retain_labels
    student = copy.deepcopy(model)
    device = next(student.parameters()).device
    optimiser = optimizer_of("sgd", [p for p in student.parameters() if p.requires_grad], lr, momentum, weight_decay)
    student.train(bn_mode == "train")
    batches = (_mixed if mixed else batch_pairs)(len(x_f), len(x_r), batch_size, epochs, generator)
    for step, (epoch, forget, retain) in enumerate(batches):
        if bn_mode == "train" and (len(forget) + len(retain) == 1 if mixed else 1 in (len(forget), len(retain))):
            continue                                                            # BatchNorm has no variance there
        forget, retain = forget.to(x_f.device), retain.to(x_r.device)
        images = [augment_batch(x, generator) if augment else x for x in (x_r[retain], x_f[forget])]
        images = [x.to(device) for x in images]
        outputs = student(torch.cat(images)).split([len(retain), len(forget)]) if mixed else [student(x) for x in images]
        retain_loss, forget_loss = (task_loss(z, y.to(device)) if len(y) else z.new_zeros(())
                                    for z, y in zip(outputs, (y_r[retain], y_f[forget]), strict=True))
        loss = retain_weight * retain_loss - (1 - retain_weight) * forget_loss
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if callback:
            callback(images=len(forget) + len(retain), step=step, epoch=epoch, model=student, loss=loss.detach(),
                     forget_loss=forget_loss.detach(), retain_loss=retain_loss.detach())
    return student.eval()


def _mixed(n_forget: int, n_retain: int, batch_size: int, epochs: int, generator: torch.Generator) -> Iterator[tuple[int, Tensor, Tensor]]:
    """``(epoch, forget indices, retain indices)`` of every batch of passes over both sets together."""
    check_sets(n_forget, n_retain)
    for epoch in range(epochs):
        for batch in torch.randperm(n_forget + n_retain, generator=generator).split(batch_size):
            yield epoch, batch[batch < n_forget], batch[batch >= n_forget] - n_forget
