r"""∇τ: push the forget loss up to the loss on unseen data, and no further (arXiv 2403.14339).

1. target        :math:`\tau = \mathrm{mean}_{D_v}\,\ell(f_\theta)`, on held-out data, refreshed every few forget epochs
2. objective     :math:`L(\theta) = \alpha\,\mathrm{ReLU}(\tau - L_{B_f}(\theta))^2 + (1-\alpha)\,L_{B_r}(\theta)`, each step
3. fade out      :math:`\alpha_e = \alpha_0\,(1 - e/E)` in forget epoch e of E, from :math:`\alpha_0 = \tfrac53 |D_f|/|D|`
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..access import Access
from ..train import Callback, batch_pairs, check_mode, learning_rate, mean_loss, optimizer_of, task_loss

VERSION = 1


def objective(forget_loss: Tensor, retain_loss: Tensor, *, tau: float, alpha: float, two_sided: bool = False) -> Tensor:
    """The loss of one step, a scalar: ``alpha * relu(tau - forget_loss)**2 + (1 - alpha) * retain_loss``.

    Parameters
    ----------
    forget_loss, retain_loss: scalars, the mean task losses of a forget and a retain batch (nats, >= 0).
    tau: the target, a number: no gradient flows through it. alpha: weight of the forget term, in [0, 1].
    two_sided: leave the ReLU out, so that a forget loss above tau is pulled down again.

    Its gradient is ``-2 alpha relu(tau - L_f) grad L_f + (1 - alpha) grad L_r``: ascent that shrinks towards tau and is 0 beyond it.

    Source: section 3 and the official code. *Differences from the paper*: the text notebook of the official code squares inside the ReLU,
    which switches it off: that is ``two_sided=True``.
    """
    gap = tau - forget_loss                                                     # step 2: distance to the target
    if not two_sided:                                                           # step 2: as in the formula
        gap = F.relu(gap)                                                       # step 2: nothing beyond the target
    return alpha * gap.square() + (1 - alpha) * retain_loss                     # step 2: objective


def schedule(n_forget: int, n_retain: int, *, batch_size: int, retain_epochs: float = 6, alpha0: float | None = None,
             max_epochs: int | None = None) -> tuple[float, int, int]:
    """``(alpha0, epochs, steps)``: the starting weight, the passes E over the forget set, and the steps in all.

        alpha0 = 5/3 |D_f| / |D|       E = int(retain_epochs * n_r / (2 n_f))       steps = E n_f

    with n_f and n_r batches in the two sets: forget and retain batches together make about ``retain_epochs`` passes over the retain set.

    Parameters
    ----------
    n_forget, n_retain: sizes of the sets, at least 1. retain_epochs: the paper has 6 for images and 1 for text.
    alpha0: a starting weight in [0, 1] in place of the rule (the paper's text experiment: 0.5). max_epochs: a cap on E (its grid: 80).

    E is at least 1. Raises ValueError for an empty set, a batch size or budget that is not positive, and a weight outside [0, 1], which
    the rule itself gives beyond 60 % of the data.

    Source: official code, the settings of its notebooks for CIFAR and for text.
    """
    if min(n_forget, n_retain, batch_size, 1 if max_epochs is None else max_epochs) < 1 or not retain_epochs > 0:
        raise ValueError(f"schedule got {n_forget} forget and {n_retain} retain samples, batch_size={batch_size}, retain_epochs="
                         f"{retain_epochs}, max_epochs={max_epochs}; all must be positive: pass non-empty sets and a positive budget.")
    if alpha0 is None:
        alpha0 = 5 * n_forget / (3 * (n_forget + n_retain))                     # step 3: starting weight
    if not 0 <= alpha0 <= 1:
        raise ValueError(f"alpha0 is {alpha0:.3g}; it must be in [0, 1]: pass such an alpha0= (5/3 of the share is more beyond 60 %).")
    forget_batches, retain_batches = math.ceil(n_forget / batch_size), math.ceil(n_retain / batch_size)
    epochs = max(1, int(retain_epochs * retain_batches / (2 * forget_batches)))     # step 3: passes
    epochs = min(epochs, max_epochs or epochs)
    return alpha0, epochs, epochs * forget_batches


def nabla_tau(model: nn.Module, access: Access, *, generator: torch.Generator, lr: float = 1e-3, batch_size: int = 256,
              alpha0: float | None = None, retain_epochs: float = 6, max_epochs: int | None = None, tau_every: int = 5,
              bn_mode: str = "eval", two_sided: bool = False, gamma: float = 0.1, weight_decay: float = 0.01,
              callback: Callback | None = None) -> nn.Module:
    """∇τ: a new model, trained on the forget and retain sets together by AdamW; held-out data give the target alone.

    Parameters
    ----------
    alpha0, retain_epochs, max_epochs, batch_size: see :func:`schedule`. ``alpha0=0`` is fine-tuning: no forget sample is used then.
    tau_every: forget epochs between two refreshes of the target (the paper: 5).
    bn_mode: "eval" keeps BatchNorm statistics as they are (the official CIFAR notebooks), "train" updates them (grid and text); a step
        with a single sample is left out then.
    two_sided: see :func:`objective`.
    gamma: the learning rate falls linearly, forget epoch by forget epoch, towards ``gamma * lr`` (1: constant, as for text).
    callback: called after each step as ``callback(images=, step=, epoch=, model=, alpha=, tau=, forget_loss=, retain_loss=, loss=,
        active=)``, with ``active`` 1.0 where the forget loss was below the target; after each refresh of the target as
        ``callback(images=, backward=False)``.

    The held-out data must be unseen: on data that the model was trained on, tau is as low as the forget loss, and nothing is forgotten.

    Source: Algorithm 1 and the official code; no augmentation. *Differences from the paper*: one pass gives tau, where the code makes
    three (two of them for statistics that nothing uses).
    """
    check_mode("bn_mode", bn_mode)
    if tau_every < 1:
        raise ValueError(f"tau_every is {tau_every}; it must be at least 1: the paper refreshes the target every 5 forget epochs.")
    x_f, y_f, x_r, y_r = access.forget_images, access.forget_labels, access.retain_images, access.retain_labels
    start, epochs, steps = schedule(len(x_f), len(x_r), batch_size=batch_size, retain_epochs=retain_epochs, alpha0=alpha0,
                                    max_epochs=max_epochs)
    student = copy.deepcopy(model)
    device = next(student.parameters()).device
    optimiser = optimizer_of("adamw", [p for p in student.parameters() if p.requires_grad], lr, 0.0, weight_decay)

    def loss_on(images: Tensor, labels: Tensor, batch: Tensor) -> Tensor:
        batch = batch.to(images.device, non_blocking=True)
        return task_loss(student(images[batch].to(device)), labels[batch].to(device))

    tau, refreshed = 0.0, -1
    for step, (epoch, forget, retain) in enumerate(batch_pairs(len(x_f), len(x_r), batch_size, epochs, generator)):
        if start and epoch % tau_every == 0 and epoch != refreshed:
            held_out, refreshed = access.held_out, epoch
            tau = mean_loss(student, *held_out)                                 # step 1: target
            if callback:
                callback(images=len(held_out[0]), backward=False)
        if bn_mode == "train" and 1 in (len(forget), len(retain)):              # BatchNorm has no variance there
            continue
        student.train(bn_mode == "train")
        alpha = start * (1 - epoch / epochs)                                    # step 3: fade out
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, steps // epochs, lr=lr, schedule="linear", gamma=gamma)
        forget_loss = loss_on(x_f, y_f, forget) if start else torch.zeros((), device=device)
        retain_loss = loss_on(x_r, y_r, retain)
        loss = objective(forget_loss, retain_loss, tau=tau, alpha=alpha, two_sided=two_sided)      # step 2
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if callback:
            callback(images=len(retain) + (len(forget) if start else 0), step=step, epoch=epoch, model=student, alpha=alpha, tau=tau,
                     forget_loss=forget_loss.detach(), retain_loss=retain_loss.detach(), loss=loss.detach(),
                     active=(forget_loss.detach() < tau).float())
    return student.eval()
