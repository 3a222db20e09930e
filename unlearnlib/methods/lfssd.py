r"""SSD and Loss-Free SSD: dampen the weights that matter to the forget set out of proportion (arXiv 2308.07707, 2402.19308).

1. importance of every weight :math:`\theta_i` for a set S
      LFSSD ("l2"):   :math:`\Omega_S[i] = \mathrm{mean}_S\ |\partial \lVert f_\theta(x)\rVert_2^2 / \partial\theta_i|`
      SSD ("fisher"): :math:`F_S[i] = \mathrm{mean}_S\ (\partial \ell(f_\theta(x), y) / \partial\theta_i)^2`
2. selection   :math:`M = \{i : \Omega_{D_f}[i] > \alpha\,\Omega_D[i]\}`, with D = all training data (forget set included)
3. dampening   :math:`\theta_i \leftarrow \theta_i \cdot \min(\lambda\,\Omega_D[i]/\Omega_{D_f}[i],\ 1)` for i in M
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..access import Access
from ..train import Callback, check_choice, evaluating, task_loss

VERSION = 1
KINDS, REDUCTIONS, ORDERS = ("l2", "fisher"), ("batch", "sample"), ("given", "shuffled")
GPU_CHUNK = 32              # samples that are differentiated at once
Importance = dict[str, Tensor]


def _objective(outputs: Tensor, labels: Tensor | None) -> Tensor:
    """Batch mean of the squared output norm (no labels) or of the cross-entropy (labels): a scalar."""
    return outputs.square().sum(dim=1).mean() if labels is None else task_loss(outputs, labels)   # step 1: what is derived


def importance(model: nn.Module, images: Tensor, labels: Tensor | None = None, *, kind: str = "l2", reduction: str = "batch",
               batch_size: int = 64, chunk: int | None = None, callback: Callback | None = None) -> Importance:
    """Importance of every parameter for a set of images: ``{name: tensor of the parameter's shape}``, non-negative.

    With ``g_b`` the gradient of the batch mean of the objective (``l2``: squared norm of the raw logits; ``fisher``:
    cross-entropy) over batch b of B::

        reduction="batch"   l2: (1/B) sum_b |g_b|       fisher: (1/B) sum_b g_b**2       (a short last batch weighs as much as a full one)
        reduction="sample"  the same with batches of one image: the defining equations, independent of order and batch size

    Parameters
    ----------
    model: any module that maps a batch to logits (n, classes). Run in evaluation mode; it is left exactly as it was. Parameters that
        require no gradient get importance 0, as in the official code, and so are never dampened.
    images: (n, ...), in the order in which batches are cut. labels: (n,) int64; read by ``fisher`` only.
    batch_size: of the batch reduction (the official scripts: 64 for classes, 128 for random samples).
    chunk: with reduction="sample", differentiate so many samples at once by ``torch.func.vmap`` instead of one by one (the same
        numbers; left out: 32 on a GPU, 1 elsewhere, where it helps small networks only).
    callback: called as ``callback(images=n)`` after each batch.

    Raises ValueError for an unknown kind or reduction, an empty set, a batch size below 1, ``fisher`` without labels.

    Source: SSD section 3; LFSSD section 3 (with the squared output norm of Memory Aware Synapses).

    *Differences from the paper*: the equations are per sample; the official code (and ``reduction="batch"``, the default) takes
    the absolute value or square of the *batch-mean* gradient, which makes order and batch size hidden hyper-parameters.
    """
    check_choice("kind", kind, KINDS)
    check_choice("reduction", reduction, REDUCTIONS)
    if len(images) == 0 or batch_size < 1:
        raise ValueError(f"importance got {len(images)} images and batch_size={batch_size}; both must be at least 1: pass a "
                         "non-empty set and a positive batch size.")
    if kind == "fisher" and labels is None:
        raise ValueError("kind='fisher' got labels=None; it needs the label of each image: pass labels, or use kind='l2'.")
    targets = labels if kind == "fisher" else None
    device = next(model.parameters()).device
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        raise ValueError("no parameter of the model requires gradients; at least one must: call model.requires_grad_(True).")
    total = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    chunk = chunk or (GPU_CHUNK if device.type == "cuda" else 1)
    size = batch_size if reduction == "batch" else chunk
    with evaluating(model), torch.enable_grad():
        for start in range(0, len(images), size):
            x = images[start:start + size].to(device)
            y = None if targets is None else targets[start:start + size].to(device)
            if reduction == "sample" and chunk > 1:
                _add_per_sample(total, model, parameters, x, y)
            else:
                gradients = torch.autograd.grad(_objective(model(x), y), list(parameters.values()), allow_unused=True)   # step 1: derive
                found = {name: g for name, g in zip(parameters, gradients, strict=True) if g is not None}
                terms = torch._foreach_abs(list(found.values())) if y is None else torch._foreach_pow(list(found.values()), 2)  # step 1
                torch._foreach_add_([total[name] for name in found], terms)     # all tensors in few launches
            if callback:
                callback(images=len(x))
    terms = len(images) if reduction == "sample" else -(-len(images) // batch_size)     # step 1: |S|, or the number of batches
    return {name: value / terms for name, value in total.items()}                       # step 1: the mean


def _add_per_sample(total: Importance, model: nn.Module, parameters: dict, x: Tensor, y: Tensor | None) -> None:
    """Add |g_k| (no labels) or g_k**2 of every image k of a chunk, by vectorised per-sample gradients."""
    buffers = {k: v.detach() for k, v in model.named_buffers()}

    def objective(weights, image, label):
        out = torch.func.functional_call(model, {**weights, **buffers}, (image.unsqueeze(0),))
        return _objective(out, None if label is None else label.unsqueeze(0))

    buffers |= {k: p.detach() for k, p in model.named_parameters() if k not in parameters}
    weights = {k: p.detach() for k, p in parameters.items()}
    over = (None, 0, None if y is None else 0)
    gradients = torch.func.vmap(torch.func.grad(objective), in_dims=over)(weights, x, y)
    for name, g in gradients.items():                                           # (chunk, *shape)
        total[name] += (g.abs() if y is None else g.square()).sum(dim=0)


def selected(forget_importance: Importance, full_importance: Importance, alpha: float) -> dict[str, Tensor]:
    """The mask M of step 2: ``{name: bool tensor}``, True where ``forget > alpha * full`` (strictly)."""
    if forget_importance.keys() != full_importance.keys():
        odd = sorted(forget_importance.keys() ^ full_importance.keys())
        raise ValueError(f"the two importances name different parameters ({', '.join(odd[:3])}); both must come from the same model: "
                         "recompute them with importance().")
    if not alpha >= 0:
        raise ValueError(f"alpha is {alpha}; it must be at least 0: the paper uses 3.5 to 50.")
    return {name: forget_importance[name] > alpha * full_importance[name] for name in forget_importance}    # step 2: select


@torch.no_grad()
def dampen(model: nn.Module, forget_importance: Importance, full_importance: Importance, *, alpha: float, lam: float) -> nn.Module:
    """Steps 2 and 3: a new model whose selected weights are multiplied by ``min(lam * full / forget, 1)``.

    Parameters
    ----------
    forget_importance, full_importance: results of :func:`importance` on D_f and on D, ``{name: tensor}``.
    alpha: selection threshold on the ratio forget / full, >= 0. With per-sample importance a ratio never exceeds |D| / |D_f|,
        so alpha at or above that bound selects nothing.
    lam: strength of the dampening, >= 0; smaller is stronger. Where lam <= alpha the minimum with 1 never acts.

    No weight grows, none changes sign, buffers and unselected weights stay bit-identical. Raises ValueError for a negative or
    NaN alpha or lam, and for importances of another model.
    """
    if not 0 <= lam < float("inf"):
        raise ValueError(f"lam is {lam}; it must be at least 0 and finite: the paper uses 1.")
    mask = selected(forget_importance, full_importance, alpha)
    parameters = dict(model.named_parameters())
    if parameters.keys() != mask.keys():
        odd = sorted(parameters.keys() ^ mask.keys())
        raise ValueError(f"the importances do not fit the model ({', '.join(odd[:3])}); they must name its parameters: recompute them.")
    dampened = copy.deepcopy(model)
    for name, p in dampened.named_parameters():
        factor = (lam * full_importance[name] / forget_importance[name]).clamp(max=1)   # step 3: dampen (0/0 only where unselected)
        p.copy_(torch.where(mask[name], p * factor, p))                         # step 3: dampen
    return dampened


def importances(model: nn.Module, access: Access, *, kind: str, reduction: str = "batch", order: str = "given",
                batch_size: int = 64, full_importance: Importance | None = None, generator: torch.Generator | None = None,
                callback: Callback | None = None) -> tuple[Importance, Importance]:
    """Importance on D_f and on D = D_r followed by D_f (step 1). ``order="shuffled"`` permutes D; ``"given"`` keeps its order.

    With ``full_importance`` precomputed, the retain set is not touched: it may be gone by the time a request to forget arrives.
    """
    check_choice("order", order, ORDERS)
    options = {"kind": kind, "reduction": reduction, "batch_size": batch_size, "callback": callback}
    labelled = kind == "fisher"
    forget_labels = access.forget_labels if labelled else None
    forget = importance(model, access.forget_images, forget_labels, **options)
    if full_importance is None:
        images = torch.cat([access.retain_images, access.forget_images])
        labels = torch.cat([access.retain_labels, forget_labels]) if labelled else None
        if order == "shuffled":
            permutation = torch.randperm(len(images), generator=generator).to(images.device)
            images, labels = images[permutation], labels[permutation] if labelled else None
        full_importance = importance(model, images, labels, **options)
    return forget, full_importance


def lfssd(model: nn.Module, access: Access, *, alpha: float = 10.0, lam: float = 1.0, reduction: str = "batch",
          order: str = "given", batch_size: int = 64, full_importance: Importance | None = None,
          generator: torch.Generator | None = None, callback: Callback | None = None) -> nn.Module:
    """Loss-Free SSD: a new model, from forget and retain images alone; no label is read, nothing is trained.

    Hyper-parameters: see :func:`importance` and :func:`dampen`. The paper: alpha 10 (CIFAR-100), 5 (CIFAR-20), 3.5 (random), lam 1.
    ``order="given"`` with class-sorted images reproduces the official loaders; "shuffled" uses no label even for the order.
    """
    pair = importances(model, access, kind="l2", reduction=reduction, order=order, batch_size=batch_size,
                       full_importance=full_importance, generator=generator, callback=callback)
    return dampen(model, *pair, alpha=alpha, lam=lam)


def ssd(model: nn.Module, access: Access, *, alpha: float = 10.0, lam: float = 1.0, reduction: str = "batch",
        order: str = "given", batch_size: int = 64, full_importance: Importance | None = None,
        generator: torch.Generator | None = None, callback: Callback | None = None) -> nn.Module:
    """SSD: as :func:`lfssd` with the diagonal Fisher of the labelled cross-entropy. The paper: alpha 10, lam 1.

    Each gradient is squared before the mean is taken, so the same alpha selects another share of the weights than in LFSSD.
    """
    pair = importances(model, access, kind="fisher", reduction=reduction, order=order, batch_size=batch_size,
                       full_importance=full_importance, generator=generator, callback=callback)
    return dampen(model, *pair, alpha=alpha, lam=lam)


def random_dampening(model: nn.Module, access: Access, *, generator: torch.Generator, alpha: float = 10.0, lam: float = 1.0,
                     reduction: str = "batch", order: str = "given", batch_size: int = 64,
                     callback: Callback | None = None) -> nn.Module:
    """LFSSD's dampening factors, on randomly chosen weights: in each tensor as many as LFSSD selects, by the same factors."""
    forget, full = importances(model, access, kind="l2", reduction=reduction, order=order, batch_size=batch_size,
                               generator=generator, callback=callback)
    mask = selected(forget, full, alpha)
    device = next(model.parameters()).device
    shuffled_forget, shuffled_full = {}, {}
    for name in mask:                                                           # move each (forget, full) pair to a random place
        place = torch.randperm(mask[name].numel(), generator=generator).to(device)
        shuffled_forget[name] = forget[name].flatten()[place].view_as(forget[name])
        shuffled_full[name] = full[name].flatten()[place].view_as(full[name])
    return dampen(model, shuffled_forget, shuffled_full, alpha=alpha, lam=lam)
