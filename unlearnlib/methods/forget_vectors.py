r"""Forget vectors: no weight changes; one perturbation, added to every input, makes the model forget (arXiv 2412.16780).

1. perturbation   :math:`x' = x + \delta`, the same :math:`\delta` for all images, in pixel space [0, 1], before normalisation
2. forget term    :math:`\ell_f = \max(z_y(x') - \max_{k \ne y} z_k(x'),\ -\tau)` on D_f: the margin of the true class
3. objective      :math:`\min_\delta\ \alpha\,\mathrm{CE}_{D_r} + \beta\,\ell_{f, D_f} + \lambda\,\lVert\delta\rVert`
4. arithmetic     :math:`\delta(w) = \sum_k w_k \delta_k` of class-wise vectors: only the K numbers w are learned
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..access import Access
from ..data import augment as augment_batch
from ..data import clip_pixels, pixels
from ..train import Callback, check_choice, check_sets, optimizer_of

VERSION = 1
EpochEnd = Callable[[nn.Module], float | None]


def margin_loss(logits: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Lead of the true logit (the margin of Carlini and Wagner), ``(n,)``, in [-margin, inf]: ``max(z_y - max_{k != y} z_k, -margin)``.

    Exactly ``-margin``, without a gradient, where the sample is misclassified by more than that. ``logits`` (n, classes), ``labels`` (n,).
    Raises ValueError for a negative margin and for several labels a sample.
    """
    if not 0 <= margin < math.inf:
        raise ValueError(f"margin is {margin}; it must be at least 0 and finite: the paper uses 1.")
    if labels.ndim != 1:
        raise ValueError(f"labels have the shape {tuple(labels.shape)}; a margin needs one label each, (n,): use another method.")
    own = labels[:, None]
    runner_up = logits.scatter(1, own, -math.inf).max(dim=1).values             # step 2: best other logit
    return (logits.gather(1, own)[:, 0] - runner_up).clamp(min=-margin)         # step 2: forget term


def perturb(images: Tensor, delta: Tensor, *, clamp: bool = False) -> Tensor:
    """Images plus one perturbation, ``(n, c, h, w)`` floats on the [0, 1] scale; ``clamp`` keeps the sum in [0, 1].

    uint8 images are brought to [0, 1] first. A pixel that lay outside [0, 1] is kept from going further out, so that delta = 0 is the
    identity in any case. Raises ValueError for token ids and for a delta that has not the shape of one image.

    Source: official code, which never clamps.
    """
    if images.shape[1:] != delta.shape:
        raise ValueError(f"delta has the shape {tuple(delta.shape)}; it must be that of one image, {tuple(images.shape[1:])}: "
                         "learn the vector on images of this size.")
    x = pixels(images, delta.dtype)
    moved = x + delta                                                           # step 1: perturbation
    return clip_pixels(moved, x) if clamp else moved


class ForgetVector(nn.Module):
    """A model behind a perturbation: it is called like any model, and answers for ``x + delta``.

    ``delta`` is a buffer, so that the parameters are those of ``model``, in the same order: as many, and none has changed. ``self.model``
    is the model without the vector: to switch the vector off, or to leave some inputs clean, call that instead.
    """

    def __init__(self, model: nn.Module, delta: Tensor, *, clamp: bool = False):
        super().__init__()
        self.model, self.clamp = model, clamp
        self.register_buffer("delta", delta.detach().clone())                   # the shape of one image

    def forward(self, x: Tensor) -> Tensor:                                     # (n, c, h, w) -> (n, classes)
        return self.model(perturb(x, self.delta, clamp=self.clamp))

    def features(self, x: Tensor) -> Tensor:                                    # (n, c, h, w) -> (n, d)
        if not hasattr(self.model, "features"):
            raise ValueError(f"{type(self.model).__name__} has no features(); the wrapped model must have that method: use unlearnlib's.")
        return self.model.features(perturb(x, self.delta, clamp=self.clamp))


def compose(deltas: Tensor | Sequence[Tensor], weights: Tensor) -> Tensor:
    """Linear combination of K vectors, ``sum_k weights[k] * deltas[k]``, of the shape of one; weights ``(K,)`` may be negative."""
    stacked = deltas if isinstance(deltas, Tensor) else torch.stack(list(deltas))
    if weights.shape != stacked.shape[:1]:
        raise ValueError(f"there are {len(stacked)} vectors and weights of shape {tuple(weights.shape)}; the shape must be "
                         f"({len(stacked)},): pass one weight for each vector.")
    return torch.tensordot(weights, stacked, dims=1)                            # step 4: arithmetic


def forget_vector(model: nn.Module, access: Access, *, generator: torch.Generator, vectors: Tensor | None = None, epochs: int = 60,
                  lr: float = 0.2, batch_size: int = 256, tau: float = 1.0, alpha: float = 1.0, beta: float = 3.0, lam: float = 1.0,
                  reg: str = "l2_over_batch", averaging: str = "batch", momentum: float = 0.9, weight_decay: float = 5e-4,
                  gamma: float = 0.9, init: str = "zeros", clamp: bool = False, augment: bool = False, callback: Callback | None = None,
                  epoch_end: EpochEnd | None = None) -> ForgetVector:
    """A forget vector in front of a copy of the model, learned by SGD on shuffled batches B of D_f and D_r together.

        loss = alpha / |B| sum_{B and D_r} CE + beta / |B| sum_{B and D_f} margin_loss + lam ||delta|| / |B|

    Parameters
    ----------
    vectors: ``(K, *image)``; given, they are frozen, delta = compose(vectors, w), and w takes the place of delta as what is learned. The
        result has w, ``(K,)``, as its buffer ``weights``.
    tau: the true logit is pushed this far below the runner-up, >= 0. alpha, beta, lam: weights of the terms, >= 0. alpha = 0 is also what
        learning comes to where D_r is meant to stay clean: its term does not depend on delta then.
    averaging: "batch", as above; "per_set": the sums estimate the means over the sets, as "batch" with alpha |D| / |D_r|, beta |D| / |D_f|.
    reg: the penalty, "l2_over_batch" as above, "l2" without the division, or "l2sq", ``||delta||**2``. Weight decay is a square, too.
    gamma: the learning rate is ``lr * gamma**epoch``. init: "zeros", "ones" or "normal" (standard normal).
    clamp: see :func:`perturb`. augment: random crops and flips; the paper's are those that its models were trained with.
    epoch_end: called with the model after each epoch; where it returns numbers, the vector of the lowest is taken, of equals the first.

    The official files have beta 3 to 10, another for each class. At gamma 0.9, 60 epochs take all but 0.2 % of the steps' length.
    Raises ValueError for an empty set, several labels a sample, token ids, and a setting outside its range.

    Source: arXiv 2412.16780, official code (the defaults; lr and tau from the names of its files).

    *Differences from the paper*: as its reviews quote it, the text squares the norm and averages over each set: ``reg="l2sq",
    averaging="per_set", weight_decay=0``. The code runs epochs 0 to E, and one is picked by hand on the metrics that it reports.
    """
    check_choice("reg", reg, ("l2_over_batch", "l2", "l2sq"))
    check_choice("averaging", averaging, ("batch", "per_set"))
    check_choice("init", init, ("zeros", "ones", "normal"))
    for name, given, least in (("epochs", epochs, 1), ("batch_size", batch_size, 1), ("lr", lr, 0), ("alpha", alpha, 0), ("beta", beta, 0),
                               ("lam", lam, 0), ("weight_decay", weight_decay, 0), ("gamma", gamma, 0)):
        if not least <= given < math.inf:
            raise ValueError(f"{name} is {given}; it must be at least {least} and finite: leave it out for the default.")
    x_f, y_f, x_r, y_r = access.forget_images, access.forget_labels, access.retain_images, access.retain_labels
    check_sets(len(x_f), len(x_r))
    images, labels = torch.cat([x_f, x_r]), torch.cat([y_f, y_r])
    if averaging == "per_set":
        alpha, beta = alpha * len(images) / len(x_r), beta * len(images) / len(x_f)
    frozen = copy.deepcopy(model)
    trainable = [p.requires_grad for p in frozen.parameters()]
    frozen.requires_grad_(False)
    like = next(frozen.parameters())
    vectors = None if vectors is None else vectors.detach().to(like)
    shape = images.shape[1:] if vectors is None else vectors.shape[:1]
    start = torch.randn(shape, generator=generator) if init == "normal" else getattr(torch, init)(shape)
    learned = start.to(like).requires_grad_(True)                               # delta, or the weights of the vectors

    def delta() -> Tensor:
        return learned if vectors is None else compose(vectors, learned)

    result = ForgetVector(frozen, delta(), clamp=clamp).eval()                  # BatchNorm's statistics stay, too
    optimiser = optimizer_of("sgd", [learned], lr, momentum, weight_decay)
    step, lowest, chosen = 0, math.inf, learned
    for epoch in range(epochs):
        for group in optimiser.param_groups:
            group["lr"] = lr * gamma ** epoch
        for batch in torch.randperm(len(images), generator=generator).split(batch_size):
            size = len(batch)
            if alpha == 0:                                                      # D_r has no term: its images need no pass
                batch = batch[batch < len(x_f)]
            forget = (batch < len(x_f)).to(like.device, non_blocking=True)
            batch = batch.to(images.device, non_blocking=True)
            x = (augment_batch(images[batch], generator) if augment else images[batch]).to(like.device)
            y = labels[batch].to(like.device)
            z = frozen(perturb(x, delta(), clamp=clamp))                        # (|B|, classes): one pass for both sets
            zero = z.new_zeros(())
            forget_loss = torch.where(forget, margin_loss(z, y, tau), zero).sum() / size       # step 2: forget term
            retain_loss = torch.where(forget, zero, F.cross_entropy(z, y, reduction="none")).sum() / size       # step 3: cross-entropy
            penalty = learned.square().sum() if reg == "l2sq" else learned.norm() / (size if reg == "l2_over_batch" else 1)  # step 3: norm
            loss = alpha * retain_loss + beta * forget_loss + lam * penalty     # step 3: objective
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            result.delta.copy_(delta().detach())
            if callback:
                callback(images=len(x), step=step, epoch=epoch, model=result, loss=loss.detach(), forget_loss=forget_loss.detach(),
                         retain_loss=retain_loss.detach(), norm=result.delta.norm())
            step += 1
        score = epoch_end(result) if epoch_end else None
        if score is not None and score < lowest:
            lowest, chosen = score, learned.detach().clone()
    learned = chosen.detach()
    result.delta.copy_(delta())
    if vectors is not None:
        result.register_buffer("weights", learned.clone())
    for p, flag in zip(frozen.parameters(), trainable, strict=True):
        p.requires_grad_(flag)
    return result


def class_vectors(model: nn.Module, access: Access, *, generator: torch.Generator, **settings) -> Tensor:
    """One forget vector for each class of the training data, ``(classes, *image)``, in the order of the class ids.

    ``settings`` as for :func:`forget_vector`. Raises ValueError for several labels a sample.
    """
    images = torch.cat([access.forget_images, access.retain_images])
    labels = torch.cat([access.forget_labels, access.retain_labels])
    if labels.ndim != 1:
        raise ValueError(f"labels have the shape {tuple(labels.shape)}; class-wise vectors need one label each, (n,): use another method.")
    learned = []
    for c in labels.unique():
        own = labels == c
        part = Access(forget=(images[own], labels[own]), retain=(images[~own], labels[~own]))
        learned.append(forget_vector(model, part, generator=generator, **settings).delta)
    return torch.stack(learned)


def forget_vector_composed(model: nn.Module, access: Access, *, generator: torch.Generator, vectors: Tensor | None = None,
                           class_settings: dict | None = None, epochs: int = 10, lr: float = 0.01, reg: str = "l2",
                           callback: Callback | None = None, **settings) -> ForgetVector:
    """Compositional unlearning: :func:`forget_vector` with ``delta = sum_k w_k delta_k``, where only the K weights w are learned.

    Parameters
    ----------
    vectors: the frozen ``(K, *image)``; left out, :func:`class_vectors` learns one for each class first, with ``class_settings``.
    reg: the penalty on w, "l2" or "l2sq"; at lam = 1 the plain norm shrinks w strongly. settings: as for :func:`forget_vector`.

    Source: arXiv 2412.16780, "forget vector arithmetic", official code, whose command line has these epochs and lr, with beta and lam 1.
    """
    if vectors is None:
        vectors = class_vectors(model, access, generator=generator, callback=callback, **class_settings or {})
    return forget_vector(model, access, generator=generator, vectors=vectors, epochs=epochs, lr=lr, reg=reg, callback=callback, **settings)
