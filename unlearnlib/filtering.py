"""What data-free unlearning keeps of a teacher's answers: the gate, the block, PostFilter. Pure functions of logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def postfilter(teacher_logits: Tensor, forget_classes: Sequence[int], threshold: float = 0.01) -> Tensor:
    """PostFilter: take the forget classes out of the teacher's logits ``(n, K)`` and spread what they held over the others.

    Row by row, with ``m = min_k t_k`` and ``H = {c in F : p_c > threshold}``: ``t_c -> m`` for c in H, and
    ``t_r -> t_r + sum_{c in H} (t_c - m) / (K - |F|)`` for the retained classes. The sum of the logits is kept, and so is the softmax
    over the retained classes; a row where H is empty is returned as it is.

    Source: the official ISPF code (arXiv 2412.13790).
    """
    forget = forget_mask(teacher_logits, forget_classes)
    hit = forget & (teacher_logits.softmax(1) > threshold)                      # step 2: H, (n, K) bool
    lowest = teacher_logits.min(1, keepdim=True).values                         # step 2: m, (n, 1)
    moved = ((teacher_logits - lowest) * hit).sum(1, keepdim=True) / (~forget).sum()  # step 2: for each kept class
    return torch.where(hit, lowest, torch.where(forget, teacher_logits, teacher_logits + moved))     # step 2: t'


def gate(teacher_logits: Tensor, forget_classes: Sequence[int], threshold: float = 0.01) -> Tensor:
    """GKT's gate: ``(n,)`` bool, True where the teacher gives every forget class a probability below ``threshold``.

    Source: Chundawat et al. 2023 (arXiv 2201.05629); there ``<=``, in the official ISPF code ``<``.
    """
    return ((teacher_logits.softmax(1) < threshold) | ~forget_mask(teacher_logits, forget_classes)).all(1)


def block(teacher_logits: Tensor, forget_classes: Sequence[int], threshold: float = 0.01) -> Tensor:
    """BlockF: ``(n,)`` bool, True where the teacher's prediction is no forget class (``threshold`` is not used)."""
    return ~forget_mask(teacher_logits, forget_classes)[teacher_logits.argmax(1)]


def forget_mask(teacher_logits: Tensor, forget_classes: Sequence[int]) -> Tensor:
    """(K,) bool: the forget classes. ValueError, in one sentence, if one does not exist or none is left."""
    classes = teacher_logits.shape[1]
    wrong = [c for c in forget_classes if not 0 <= c < classes]
    if wrong or len(set(forget_classes)) >= classes:
        raise ValueError(f"forget classes are {list(forget_classes)}; they must be in 0 to {classes - 1} and leave at least one class: "
                         "correct forget_classes.")
    mask = torch.zeros(classes, dtype=torch.bool, device=teacher_logits.device)
    mask[list(forget_classes)] = True
    return mask
