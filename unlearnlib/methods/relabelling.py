"""Random relabelling: train the forget set on random labels, with all weights (RL) or the salient ones alone (SalUn)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..access import Access
from ..data import augment as augment_batch
from ..train import Callback, check_mode, check_sets, evaluating, logits, optimizer_of, task_loss

VERSION = 1
Mask = dict[str, Tensor]


def random_labels(model: nn.Module, access: Access, *, generator: torch.Generator, epochs: int = 10, lr: float = 0.01,
                  batch_size: int = 256, momentum: float = 0.9, weight_decay: float = 5e-4, batchnorm: str = "train",
                  augment: bool = False, callback: Callback | None = None) -> nn.Module:
    """RL: each epoch a pass over D_f with labels drawn anew, uniformly over all classes, then a pass over D_r with its own (SGD, CE).

    ``augment``: random crops and flips of both sets, as in the official code for CIFAR.
    The right label is drawn, too, once in as many times as there are classes; the labels of D_f are not read. Raises ValueError for
    several labels a sample and for an empty set.

    Source: a baseline of Unlearn-Sparse and SalUn (arXiv 2310.12508). *Differences from the paper*: for CIFAR-100 and Tiny ImageNet
    SalUn's code mixes the two sets instead of taking one after the other.
    """
    return _relabel(model, access, None, generator=generator, epochs=epochs, lr=lr, batch_size=batch_size, momentum=momentum,
                    weight_decay=weight_decay, batchnorm=batchnorm, augment=augment, callback=callback)


def salun(model: nn.Module, access: Access, *, generator: torch.Generator, mask_share: float = 0.5, restore: bool = True, epochs: int = 10,
          lr: float = 0.013, batch_size: int = 256, momentum: float = 0.9, weight_decay: float = 5e-4, batchnorm: str = "train",
          augment: bool = False, callback: Callback | None = None) -> nn.Module:
    """SalUn: :func:`random_labels` on the weights of the :func:`saliency_mask` alone.

    ``restore`` sets all other weights back to the original's after each step; without it only their gradients are set to 0, and weight
    decay still shrinks them. BatchNorm's running statistics move in either case.

    Source: Fan et al. 2024 (arXiv 2310.12508), official code: the defaults are those for 10 % of CIFAR-10. *Differences from the paper*:
    the code restores since February 2026; published results, also those of Forget Vectors, are from before: ``restore=False``.
    """
    mask = saliency_mask(model, access.forget_images, access.forget_labels, mask_share, batch_size=batch_size, callback=callback)
    return _relabel(model, access, mask, restore=restore, generator=generator, epochs=epochs, lr=lr, batch_size=batch_size,
                    momentum=momentum, weight_decay=weight_decay, batchnorm=batchnorm, augment=augment, callback=callback)


def saliency_mask(model: nn.Module, images: Tensor, labels: Tensor, share: float, *, batch_size: int = 256,
                  callback: Callback | None = None) -> Mask:
    """``{name: bool tensor}``, True for the ``int(share * n)`` of all n weights with the largest ``|d CE(D_f) / d theta_i|``.

    The gradient is that of the mean over D_f, in evaluation mode; only parameters that require gradients are counted and named. Of equal
    gradients, the first. Raises ValueError for a share outside [0, 1] and an empty set.

    *Differences from the paper*: the code adds up batch means, so that a short last batch weighs more.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"mask_share is {share}; it must be in [0, 1]: SalUn has 0.5, and 1 is plain relabelling.")
    if len(images) == 0:
        raise ValueError("there are 0 forget samples; there must be at least 1: pass a non-empty set.")
    device = next(model.parameters()).device
    names, weights = zip(*((n, p) for n, p in model.named_parameters() if p.requires_grad), strict=True)
    total = [torch.zeros_like(p) for p in weights]
    with evaluating(model), torch.enable_grad():
        for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            loss = task_loss(model(x.to(device)), y.to(device)) * len(x)
            for sum_, g in zip(total, torch.autograd.grad(loss, weights, allow_unused=True), strict=True):
                if g is not None:
                    sum_ += g
            if callback:
                callback(images=len(x))
    saliency = torch.cat([t.abs().flatten() for t in total])
    chosen = torch.zeros_like(saliency, dtype=torch.bool)
    chosen[saliency.argsort(descending=True, stable=True)[:int(share * len(saliency))]] = True
    return {n: c.view_as(p) for n, p, c in zip(names, weights, chosen.split([p.numel() for p in weights]), strict=True)}


def _relabel(model: nn.Module, access: Access, mask: Mask | None, *, generator, epochs, lr, batch_size, momentum, weight_decay, batchnorm,
             augment, callback, restore: bool = True) -> nn.Module:
    check_mode("batchnorm", batchnorm)
    x_f, x_r, y_r = access.forget_images, access.retain_images, access.retain_labels
    check_sets(len(x_f), len(x_r))
    if y_r.ndim != 1:
        raise ValueError(f"labels have the shape {tuple(y_r.shape)}, several a sample; random labels need one each: use another method.")
    classes = logits(model, x_f[:1]).shape[1]
    student = copy.deepcopy(model)
    device = next(student.parameters()).device
    named = {n: p for n, p in student.named_parameters() if p.requires_grad}
    original = {n: p.detach().clone() for n, p in named.items()} if mask else {}
    optimiser = optimizer_of("sgd", list(named.values()), lr, momentum, weight_decay)
    student.train(batchnorm == "train")
    for epoch in range(epochs):
        wrong = torch.randint(classes, (len(x_f),), generator=generator).to(x_f.device)
        for images, labels in ((x_f, wrong), (x_r, y_r)):
            for batch in torch.randperm(len(images), generator=generator).to(images.device).split(batch_size):
                if batchnorm == "train" and len(batch) == 1 < min(len(images), batch_size):     # BatchNorm has no variance there
                    continue
                x = augment_batch(images[batch], generator) if augment else images[batch]
                loss = task_loss(student(x.to(device)), labels[batch].to(device))
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                for name, keep in (mask or {}).items():
                    if named[name].grad is not None:
                        named[name].grad *= keep
                optimiser.step()
                if restore:
                    for name, start in original.items():                        # momentum moves nothing that is set back each time
                        named[name].data.copy_(torch.where(mask[name], named[name], start))
                if callback:
                    callback(images=len(batch), loss=loss.detach(), epoch=epoch, model=student)
    return student.eval()
